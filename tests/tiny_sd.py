"""The tiny model of the conformance suite, as fixtures."""

from pathlib import Path

import pytest
import torch

from piva_bench.conformance.tiny_model import make_tasks, make_tiny_ip2p, make_tiny_sd, make_tokenizer
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.load import load_denoiser

__all__ = [
    "denoiser",
    "fixed_seed",
    "make_tasks",
    "make_tiny_ip2p",
    "make_tiny_sd",
    "make_tokenizer",
    "tiny_sd",
]


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model."""
    return make_tiny_sd(tmp_path_factory.mktemp("tiny") / "sd")


@pytest.fixture(scope="session")
def denoiser(tiny_sd: Path) -> Denoiser:
    """The tiny model, loaded."""
    return load_denoiser(tiny_sd)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Random test inputs are the same in every run."""
    torch.manual_seed(0)
