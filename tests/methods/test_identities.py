"""Identities that follow from the equations, each with its derivation beside it."""

import dataclasses

import pytest
import torch

from methods.dds import DDS
from methods.piva import Piva
from methods.piva_analytic import PivaAnalytic
from methods.sds import SDS
from tests.rows import random_answers, step_of
from tests.tiny_sd import make_tasks


def test_sds_and_dds_are_their_equations(denoiser):
    eps = random_answers(["target", "source"])
    step, _ = step_of(denoiser, eps)
    assert torch.equal(SDS(SDS.Params()).gradient(step), eps["target"] - step.edit.noise)
    assert torch.equal(DDS(DDS.Params()).gradient(step), eps["target"] - eps["source"])
    weighted = DDS(DDS.Params(weighting="sds")).gradient(step)
    torch.testing.assert_close(weighted, (1 - step.edit.alpha**2) * (eps["target"] - eps["source"]))


@pytest.mark.parametrize("method", [DDS, PivaAnalytic])
def test_equal_prompts_do_nothing(denoiser, method):
    # z = z_src, equal noise and equal prompts make both branches the same function of the same input.
    tasks = [dataclasses.replace(task, target_prompt=task.source_prompt) for task in make_tasks(2)]
    outcomes = method(method.Params(steps=5)).edit(tasks, denoiser, seed=0)
    for task, outcome in zip(tasks, outcomes, strict=True):
        assert max(outcome.trace["loss"]) < 1e-4  # the branches are different rows of one product
        expected = denoiser.decode_latents(denoiser.encode_images(task.source[None]))[0]
        torch.testing.assert_close(outcome.image, expected, atol=1e-4, rtol=0)


def test_equal_prompts_start_piva_at_rest(denoiser):
    # New adapters are the prior, so with equal prompts psi and phi are the same function at step 0.
    tasks = [dataclasses.replace(task, target_prompt=task.source_prompt) for task in make_tasks(2)]
    for outcome in Piva(Piva.Params(steps=3, lora_learning_rate=0.01)).edit(tasks, denoiser, seed=0):
        assert outcome.trace["loss"][0] < 1e-5
        assert outcome.trace["regulariser"][0] < 1e-6
        assert outcome.trace["regulariser"][2] > 1e-4  # then they learn from different draws


def test_new_adapters_with_one_prompt_make_no_regulariser(denoiser):
    # Also while the edit moves, as long as the adapters are not trained.
    params = Piva.Params(steps=4, edit_score_prompt="source", aux_steps=0)
    (outcome,) = Piva(params).edit(make_tasks(1), denoiser, seed=0)
    assert outcome.trace["distance"][3] > 1e-3
    assert max(outcome.trace["regulariser"]) < 1e-6


def test_new_adapters_cancel_part_of_the_edit(denoiser):
    # With B = 0, reg = eps(x, c_src) - eps(x, c_tgt) of the prior.
    (task,) = make_tasks(1)
    seen = {}

    class Watched(Piva):
        def gradient(self, step):
            ask = step.predict

            def predict(queries):
                seen["eps"] = ask(queries)
                return seen["eps"]

            step.predict = predict
            seen["edit"] = step.edit
            return super().gradient(step)

    Watched(Piva.Params(steps=1)).edit([task], denoiser, seed=0)
    edit, eps = seen["edit"], seen["eps"]
    for name, prompt in (("source_score", task.source_prompt), ("edit_score", task.target_prompt)):
        with torch.no_grad():
            prior = denoiser.predict_noise(edit.latents, edit.t, denoiser.condition([prompt]))
        torch.testing.assert_close(eps[name], prior, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", [Piva, PivaAnalytic])
@pytest.mark.parametrize("combination", ["sum", "mix"])
def test_weight_zero_is_dds(denoiser, method, combination):
    extra = {"combination": combination, "lora_rank": 7} if method is Piva else {}
    recipe = {"steps": 4, "guidance_scale": 5.0, "weighting": "sds"}
    params = method.Params(preservation_weight=0, **recipe, **extra)
    assert method.canonical(params) == ("dds", DDS.Params(**recipe))
    tasks = make_tasks(3)
    for ours, dds in zip(
        method(params).edit(tasks, denoiser, 0),
        DDS(DDS.Params(**recipe)).edit(tasks, denoiser, 0),
        strict=True,
    ):
        assert torch.equal(ours.image, dds.image)
        assert ours.trace == dds.trace
        assert ours.unet_evaluations == dds.unet_evaluations


@pytest.mark.parametrize("method", [SDS, DDS, Piva, PivaAnalytic])
def test_other_parameters_are_their_own_record(method):
    params = method.Params(steps=3)
    assert method.canonical(params) == (method.card.name, params)


@pytest.mark.parametrize("weighting", ["uniform", "sds"])
@pytest.mark.parametrize("shared", [True, False])
def test_perfect_adapters_make_piva_analytic(denoiser, weighting, shared):
    # eps_psi = (x_t - a z_src) / s and eps_phi = (x_t - a z) / s leave reg = (a / s) (z - z_src).
    eps = random_answers(["target", "source"])
    step, _ = step_of(denoiser, eps)
    own, draw = step.edit, (step.edit if shared else step.draw("regulariser").edit)
    eps["source_score"] = (draw.latents - draw.alpha * step.source_latents) / draw.sigma
    eps["edit_score"] = (draw.latents - draw.alpha * step.latents) / draw.sigma
    torch.testing.assert_close(eps["edit_score"], draw.noise, atol=1e-4, rtol=1e-4)
    piva = Piva(Piva.Params(preservation_weight=0.7, weighting=weighting, shared_noise=shared))
    gradient = piva.gradient(step)
    weight = draw.sigma**2 if weighting == "sds" else 1
    own_weight = own.sigma**2 if weighting == "sds" else 1
    pull = weight * draw.alpha / draw.sigma * (step.latents - step.source_latents)
    expected = own_weight * (eps["target"] - eps["source"]) + 0.7 * pull
    torch.testing.assert_close(gradient, expected, atol=1e-3, rtol=1e-4)
    if shared:
        analytic = PivaAnalytic(PivaAnalytic.Params(preservation_weight=0.7, weighting=weighting))
        torch.testing.assert_close(gradient, analytic.gradient(step), atol=1e-3, rtol=1e-4)


def test_the_pull_is_strongest_at_low_timesteps(denoiser):
    # a_t / s_t on Stable Diffusion's schedule, computed by hand from its betas.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    abar = (1 - betas).cumprod(0)
    for t, known in ((51, 4.383), (979, 0.077)):
        alpha, sigma = denoiser.schedule.alpha_sigma(torch.tensor([t]))
        assert float(alpha / sigma) == pytest.approx(float((abar[t] / (1 - abar[t])).sqrt()), rel=1e-4)
        assert float(alpha / sigma) == pytest.approx(known, abs=1e-3)


def test_mixing_scales_both_terms(denoiser):
    eps = random_answers(["target", "source", "source_score", "edit_score"])
    step, _ = step_of(denoiser, eps)
    delta, regulariser = eps["target"] - eps["source"], eps["source_score"] - eps["edit_score"]
    mixed = Piva(Piva.Params(combination="mix", preservation_weight=0.3)).gradient(step)
    torch.testing.assert_close(mixed, 0.7 * delta + 0.3 * regulariser)
    summed = Piva(Piva.Params(combination="sum", preservation_weight=0.3)).gradient(step)
    torch.testing.assert_close(summed, delta + 0.3 * regulariser)


def test_the_analytic_pull_keeps_the_edit_closer(denoiser):
    tasks = make_tasks(2)
    free = DDS(DDS.Params(steps=40)).edit(tasks, denoiser, 0)
    held = PivaAnalytic(PivaAnalytic.Params(steps=40, preservation_weight=2.0)).edit(tasks, denoiser, 0)
    for a, b in zip(free, held, strict=True):
        assert b.trace["distance"][-1] < a.trace["distance"][-1]


PIVAS = ("target", "source", "source_score", "edit_score")


def asked_by(denoiser, **params):
    step, predictor = step_of(denoiser, random_answers(PIVAS))
    Piva(Piva.Params(**params)).gradient(step)
    return step, predictor.asked


def test_the_regulariser_has_its_own_draw_if_asked(denoiser):
    step, shared = asked_by(denoiser)
    assert shared["source_score"].noisy is shared["edit_score"].noisy is step.edit
    step, apart = asked_by(denoiser, shared_noise=False)
    other = step.draw("regulariser").edit
    assert apart["source_score"].noisy is apart["edit_score"].noisy is other
    assert apart["target"].noisy is step.edit
    assert not torch.equal(other.noise, step.edit.noise)


def test_prompts_and_adapters_of_the_queries(denoiser):
    _, queries = asked_by(denoiser)
    asked = {name: (query.prompt, query.guidance, query.adapter) for name, query in queries.items()}
    assert asked == {
        "target": ("target", 7.5, None),
        "source": ("source", 7.5, None),
        "source_score": ("source", 1.0, "psi"),
        "edit_score": ("target", 1.0, "phi"),
    }
    _, queries = asked_by(denoiser, edit_score_prompt="source")
    assert queries["edit_score"].prompt == "source"
    assert [spec.prompt for spec in Piva(Piva.Params(edit_score_prompt="source")).adapters] == ["source"] * 2
