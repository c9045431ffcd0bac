from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from piva_bench.metrics.protocol import Pair
from piva_bench.metrics.studio_v1.protocol import StudioV1
from tests.metrics.pictures import PROMPTS, noisy, photograph, save_evaluators


@pytest.fixture(scope="session")
def evaluators(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("evaluators")
    save_evaluators(root)
    return root


@pytest.fixture(scope="session")
def protocol(evaluators) -> StudioV1:
    return StudioV1(clip=evaluators / "clip", classifier=evaluators / "classifier")


@pytest.fixture
def pair() -> Pair:
    source = photograph()
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:40, 20:50] = True
    reference = source.copy()
    reference[mask] = reference[mask][:, [1, 2, 0]]
    return Pair(source, noisy(reference, 12), reference, mask, *PROMPTS)


@pytest.fixture(scope="session")
def paper_models(tmp_path_factory) -> Path:
    """Random models of the paper protocols, laid out as in PIVA_BENCH_EVALUATORS."""
    from tests.metrics.paper_models import save_paper_models

    return save_paper_models(tmp_path_factory.mktemp("paper"))
