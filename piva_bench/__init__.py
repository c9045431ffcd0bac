"""piva-bench: a benchmark for identity-preserving, text-guided editing by score distillation."""

import os

from piva_bench import _torchvision

__version__ = "0.1.0"

# OpenMP's default busy-waiting makes torch up to 90 times slower when anything else uses the cores. The
# variable is read when torch is imported, hence here; a value set by the user wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_torchvision.install()
