"""Measurements of the engine; each is a script, and says what it compares."""

import piva_bench  # noqa: F401  first: it makes torchvision importable beside a CPU build of torch
