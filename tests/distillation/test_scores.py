import pytest
import torch

from methods.piva import Piva
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.rule import AdapterSpec, Query
from piva_bench.distillation.scores import Scorer
from tests.distillation.rows import rows_of, shown
from tests.tiny_sd import make_tasks

SPECS = (AdapterSpec("psi", "source", "source"), AdapterSpec("phi", "edit", "target"))
BATCH = 2


@pytest.fixture
def rows(denoiser):
    return rows_of(denoiser, make_tasks(BATCH), torch.zeros(BATCH, 4, 8, 8), torch.zeros(BATCH, 4, 8, 8))


@pytest.fixture
def scorer(denoiser):
    adapters = AdapterTrainer(SPECS, Piva.Params(), denoiser, shown(make_tasks(BATCH)), 0)
    for weights in adapters.weights.values():  # adapters that do something
        weights.data += 0.1 * torch.randn_like(weights)
    return Scorer(denoiser, adapters)


@pytest.fixture
def noisy():
    torch.manual_seed(0)
    return torch.randn(BATCH, 4, 8, 8), torch.tensor([30, 800])


def direct(scorer, rows, noisy, t, prompt, adapter=None):
    active = scorer.adapters.active([adapter]) if adapter else ()
    return scorer.denoiser.predict_noise(noisy, t, rows.embeds[prompt], *active)


@torch.no_grad()
def test_every_kind_of_query_in_one_call(scorer, rows, noisy):
    x, t = noisy
    other, other_t = torch.randn_like(x), torch.tensor([5, 6])
    queries = {
        "edit": Query(x, "target", None, "phi"),
        "plain": Query(x, "source"),
        "guided": Query(x, "target", 3.0),
        "unguided": Query(x, "target", 1.0),
        "none": Query(x, "target", 0.0),
        "null": Query(x, "null", 3.0),
        "elsewhere": Query(other, "source", 2.0, "psi", other_t),
    }
    with torch.inference_mode():
        eps, _ = scorer(queries, t, rows)
    null, target = direct(scorer, rows, x, t, "null"), direct(scorer, rows, x, t, "target")
    psi_null = direct(scorer, rows, other, other_t, "null", "psi")
    psi = direct(scorer, rows, other, other_t, "source", "psi")
    expected = {
        "edit": direct(scorer, rows, x, t, "target", "phi"),
        "plain": direct(scorer, rows, x, t, "source"),
        "guided": null + 3 * (target - null),
        "unguided": target,
        "none": null,
        "null": null,
        "elsewhere": psi_null + 2 * (psi - psi_null),
    }
    assert list(eps) == list(queries)
    for name, value in expected.items():
        torch.testing.assert_close(eps[name], value, atol=1e-4, rtol=1e-4, msg=name)
    assert (psi - direct(scorer, rows, other, other_t, "source")).abs().max() > 1e-3


def test_equal_rows_are_computed_once(scorer, rows, noisy):
    x, t = noisy
    queries = {
        "target": Query(x, "target", 7.5),
        "again": Query(x, "target", 3.0),
        "source": Query(x, "source", 7.5),
        "plain": Query(x, "source"),
    }
    with torch.inference_mode():
        _, computed = scorer(queries, t, rows)
    assert computed == 3  # null, target, source


def test_equal_values_at_other_timesteps_are_other_rows(scorer, rows, noisy):
    x, t = noisy
    with torch.inference_mode():
        eps, computed = scorer({"a": Query(x, "source"), "b": Query(x, "source", t=t.flip(0))}, t, rows)
    assert computed == 2
    assert not torch.allclose(eps["a"], eps["b"])
