import pytest

from tests.tiny_sd import denoiser, fixed_seed, tiny_sd

__all__ = ["adapters", "denoiser", "fixed_seed", "tiny_sd"]


@pytest.fixture(autouse=True)
def adapters(monkeypatch, tmp_path):
    """Where adapters of sources are kept: every test finds none."""
    monkeypatch.setenv("PIVA_BENCH_ADAPTERS", str(tmp_path / "adapters"))
    return tmp_path / "adapters"
