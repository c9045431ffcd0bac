"""What the trace says of adapters: how much they know, and where the term that they make points."""

import math

import pytest
import torch

from methods.piva import Piva
from methods.piva_analytic import PivaAnalytic
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.params import AdapterSpec
from piva_bench.session.step import DIAGNOSED
from tests.rows import rows_of, shown
from tests.tiny_sd import make_tasks

SPECS = (AdapterSpec("psi", data="source", prompt="source"), AdapterSpec("phi", data="edit", prompt="target"))


def trace(denoiser, method, **params):
    (outcome,) = method(method.Params(**params)).edit(make_tasks(1), denoiser, 0)
    return outcome.trace


def test_losses_are_the_mean_squared_errors_of_adapter_and_prior_on_the_same_noisy_latents(denoiser):
    tasks, views = make_tasks(2), 2
    trainer = AdapterTrainer(SPECS, Piva.Params(lora_rank=2), denoiser, shown(tasks, views), 0)
    for weights in trainer.weights.values():
        weights += 0.05 * torch.randn_like(weights)
    data = {name: torch.randn(4, 4, 8, 8) for name in ("source", "edit")}
    rows = rows_of(denoiser, tasks, **data, views=views)
    with torch.no_grad():
        found = trainer.diagnose(20, rows)
    for spec in SPECS:
        what = f"adapter/{spec.name}/diagnosis"
        t = rows.draws.timesteps(20, range(1000), f"{what}/t")
        noise = rows.draws.noise(20, f"{what}/noise", (4, 8, 8))
        errors = {"loss": [], "prior_loss": []}
        for row in range(4):
            noisy = denoiser.schedule.add_noise(data[spec.data][row][None], noise[row][None], t[row][None])
            condition = denoiser.condition([getattr(tasks[row // 2], f"{spec.prompt}_prompt")])
            own = trainer.lora.rows(trainer.weights[spec.name][row // 2][None])
            for name, effects in (("loss", [own]), ("prior_loss", [])):
                with torch.no_grad():
                    predicted = denoiser.predict_noise(noisy, t[row][None], condition, effects)
                errors[name].append((predicted - noise[row]).square().mean())
        for name, values in errors.items():
            expected = torch.stack(values).view(2, views).mean(dim=1)
            torch.testing.assert_close(found[f"{spec.name}_{name}"], expected, atol=1e-5, rtol=1e-4)
        assert (found[f"{spec.name}_loss"] - found[f"{spec.name}_prior_loss"]).abs().max() > 1e-4


def test_adapters_that_do_not_learn_are_the_prior_and_the_term_points_where_untrained_ones_do(denoiser):
    found = trace(denoiser, Piva, steps=DIAGNOSED, aux_steps=0, preservation_weight=0.4)
    assert found["untrained_cosine"][-1] == pytest.approx(1, abs=1e-5)
    for name in ("psi", "phi"):
        assert found[f"{name}_loss"][-1] == pytest.approx(found[f"{name}_prior_loss"][-1], rel=1e-5)


def test_the_limit_of_memorised_adapters_points_back_to_the_source(denoiser):
    found = trace(denoiser, PivaAnalytic, steps=3, preservation_weight=0.4)
    assert found["converged_cosine"][0] == 0  # nothing to preserve yet
    assert found["converged_cosine"][1:] == pytest.approx([1, 1], abs=1e-5)
    assert all(0 < share < 1 for share in found["regulariser_share"][1:])


def test_a_diagnosis_is_made_now_and_then_and_its_rows_are_counted(denoiser):
    steps = DIAGNOSED + 2
    (outcome,) = Piva(Piva.Params(steps=steps, preservation_weight=0.4)).edit(make_tasks(1), denoiser, 0)
    measured = [not math.isnan(value) for value in outcome.trace["phi_loss"]]
    assert measured == [index == DIAGNOSED - 1 for index in range(steps)]
    assert not any(map(math.isnan, outcome.trace["converged_cosine"]))
    # A step: two branches under guidance, two scores, two lessons. A diagnosis: adapters and prior on two lessons, and
    # the prior's score under both prompts.
    assert outcome.unet_evaluations == 8 * steps + 6
    assert outcome.training_evaluations == 2 * steps
