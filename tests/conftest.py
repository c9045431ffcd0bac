"""Set before torch is imported by any test: tests never reach a network and never fight over the cores."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for name in [name for name in os.environ if name.startswith("PIVA_BENCH_")]:
    del os.environ[name]  # a developer's own defaults must not reach the tests
