import pytest
import torch

from methods.piva import Piva
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.noise import BatchNoise
from piva_bench.distillation.rule import AdapterSpec, Query
from piva_bench.distillation.scores import Scorer

SPECS = (AdapterSpec("psi", "source", "source"), AdapterSpec("phi", "edit", "target"))
BATCH = 2


@pytest.fixture
def embeds(denoiser):
    return {
        "source": denoiser.encode_prompts(["a red cup", "a boat"]),
        "target": denoiser.encode_prompts(["a blue cup", "a ship"]),
        "null": denoiser.encode_prompts(["", ""]),
    }


@pytest.fixture
def scorer(denoiser, embeds):
    draws = BatchNoise(0, ["a", "b"], "cpu")
    adapters = AdapterTrainer(SPECS, Piva.Params(), denoiser, draws, embeds)
    for weights in adapters.weights.values():  # adapters that do something
        weights.data += 0.1 * torch.randn_like(weights)
    return Scorer(denoiser, embeds, adapters)


@pytest.fixture
def noisy():
    torch.manual_seed(0)
    return torch.randn(BATCH, 4, 8, 8), torch.tensor([30, 800])


def direct(scorer, noisy, t, prompt, adapter=None):
    lora = scorer.adapters.rows([adapter]) if adapter else None
    return scorer.denoiser.predict_noise(noisy, t, scorer.embeds[prompt], lora)


@torch.no_grad()
def test_every_kind_of_query_in_one_call(scorer, noisy):
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
        eps, _ = scorer(queries, t)
    null, target = direct(scorer, x, t, "null"), direct(scorer, x, t, "target")
    psi_null = direct(scorer, other, other_t, "null", "psi")
    psi = direct(scorer, other, other_t, "source", "psi")
    expected = {
        "edit": direct(scorer, x, t, "target", "phi"),
        "plain": direct(scorer, x, t, "source"),
        "guided": null + 3 * (target - null),
        "unguided": target,
        "none": null,
        "null": null,
        "elsewhere": psi_null + 2 * (psi - psi_null),
    }
    assert list(eps) == list(queries)
    for name, value in expected.items():
        torch.testing.assert_close(eps[name], value, atol=1e-4, rtol=1e-4, msg=name)
    assert (psi - direct(scorer, other, other_t, "source")).abs().max() > 1e-3


def test_equal_rows_are_computed_once(scorer, noisy):
    x, t = noisy
    queries = {
        "target": Query(x, "target", 7.5),
        "again": Query(x, "target", 3.0),
        "source": Query(x, "source", 7.5),
        "plain": Query(x, "source"),
    }
    with torch.inference_mode():
        _, rows = scorer(queries, t)
    assert rows == 3  # null, target, source


def test_equal_values_at_other_timesteps_are_other_rows(scorer, noisy):
    x, t = noisy
    with torch.inference_mode():
        eps, rows = scorer({"a": Query(x, "source"), "b": Query(x, "source", t=t.flip(0))}, t)
    assert rows == 2
    assert not torch.allclose(eps["a"], eps["b"])
