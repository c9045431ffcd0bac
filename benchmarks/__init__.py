"""Measurements of the engine; each is a script, and says what it compares."""

import piva_bench

piva_bench.prepare()  # first: it makes torchvision importable beside a CPU build of torch
