import pytest
import torch

from piva_bench.diffusion.load import load_denoiser
from tests.methods.plain import Plain
from tests.tiny_sd import denoiser, fixed_seed, make_tasks, tiny_sd

__all__ = ["denoiser", "fixed_seed", "tiny_sd"]


@pytest.fixture(scope="session")
def exact(tiny_sd):
    """The tiny model in float64."""
    return load_denoiser(tiny_sd, dtype=torch.float64)


@pytest.fixture
def plain(tiny_sd, exact):
    """One edit of the tiny model, for loops of one's own."""
    return Plain(tiny_sd, exact, make_tasks(1)[0])
