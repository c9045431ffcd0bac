import sys
import types

import numpy as np
import pytest
import torch

from piva_bench.errors import ModelError
from piva_bench.metrics.stlpips import DISTRIBUTION, STLPIPS
from tests.metrics.pictures import noisy, photograph


@pytest.fixture(scope="module")
def model():
    return STLPIPS()


@pytest.fixture
def published(monkeypatch):
    """The package's own model; its needless imports are stood in for."""
    for name, attribute in (("IPython", "embed"), ("torchsummary", "summary")):
        stub = types.ModuleType(name)
        setattr(stub, attribute, None)
        monkeypatch.setitem(sys.modules, name, stub)
    module = pytest.importorskip("stlpips_pytorch.stlpips")
    return module.LPIPS(net="alex", variant="shift_tolerant", verbose=False)


@pytest.mark.parametrize("side", [32, 64, 65])
def test_equals_the_package_s_own_forward(model, published, side):
    generator = torch.Generator().manual_seed(side)
    first = torch.rand(2, 3, side, side, generator=generator) * 2 - 1
    second = (first + 0.4 * torch.randn(first.shape, generator=generator)).clamp(-1, 1)
    with torch.no_grad():
        assert torch.allclose(model(first, second), published(first, second).flatten(), rtol=1e-5, atol=1e-8)


def test_it_is_a_distance_that_grows_with_noise_and_forgives_a_shift(model):
    picture = photograph()
    others = [picture, *(noisy(picture, s) for s in (5, 20, 60)), np.roll(picture, 1, axis=1)]
    same, low, middle, high, shifted = model.distances(picture, others)
    assert same == 0
    assert 0 < low < middle < high
    assert shifted < middle
    assert model.distances(others[2], [picture])[0] == pytest.approx(middle, rel=1e-5)


def test_a_missing_distribution_or_file_is_one_clear_line(monkeypatch, tmp_path):
    import importlib.metadata as metadata

    torn = tmp_path / "torn.pth"
    torn.write_bytes(b"PK not weights")
    with pytest.raises(ModelError, match="no ST-LPIPS weights"):
        STLPIPS(torn)

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModelError, match=f"pip install {DISTRIBUTION}"):
        STLPIPS()
