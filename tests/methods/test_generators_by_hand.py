"""Rules that were made to generate, started from the source, against plain loops in float64."""

import dataclasses
import math

import pytest
import torch

from methods.csd import CSD
from methods.ism import ISM
from methods.nfsd import NFSD
from methods.sbp import SBP
from methods.sdi import SDI
from methods.sds import SDS
from methods.vsd import VSD
from piva_bench.session.noise import timestep, uniform
from tests.methods.plain import Plain
from tests.peft_reference import copy_weights, parameters, peft_model
from tests.tiny_sd import make_tasks

STEPS, W, RANGE, SCALE = 3, 5.0, range(20, 981), 2000 / 4096


def edited(denoiser, method, **params):
    (outcome,) = method(method.Params(steps=STEPS, guidance_scale=W, **params)).edit(
        make_tasks(1), denoiser, 0
    )
    assert outcome.reason is None
    return outcome


def close(ours, theirs):
    torch.testing.assert_close(ours.image, theirs, atol=1e-6, rtol=0)


def seen(plain, step, z, among=RANGE):
    """Timestep, noise and noisy edit of a step."""
    t, eps = plain.t(step, among), plain.noise(step, "edit/noise")
    return t, eps, plain.a(t) * z + plain.s(t) * eps


class Phi:
    """VSD's adapter of one picture: peft's, with torch's AdamW."""

    def __init__(self, plain, rank, rate):
        self.plain, lora = plain, plain.denoiser.lora()
        draw = uniform(0, plain.task.sample_id, 0, "adapter/phi/weights", (lora.a_numel(rank),))
        self.model = peft_model(plain.unet, lora, rank, ["phi"]).double()
        copy_weights(self.model, lora, "phi", lora.initial(draw[None].double())[0])
        self.factors = [weight for pair in parameters(self.model, lora, "phi") for weight in pair]
        self.optimizer = torch.optim.AdamW(self.factors, lr=rate)

    def __call__(self, x, t, prompt):
        text = self.plain.denoiser.condition([prompt]).text
        return self.model(x, torch.tensor([t]), encoder_hidden_states=text).sample

    def train(self, z, step, dropout):
        plain, what = self.plain, "adapter/phi/step0"
        name = plain.task.sample_id
        t, eps = timestep(0, name, step, range(1000), f"{what}/t"), plain.noise(step, f"{what}/noise")
        dropped = uniform(0, name, step, f"{what}/dropout") < dropout
        prompt = "" if dropped else plain.task.target_prompt
        error = self(plain.a(t) * z + plain.s(t) * eps, t, prompt) - eps
        self.optimizer.zero_grad()
        error.square().mean().backward()
        self.optimizer.step()


def test_vsd_is_its_equation(tiny_sd, exact, plain):
    phi, prior = Phi(plain, 2, 0.01), Plain(tiny_sd, exact, plain.task)
    target = plain.task.target_prompt
    z = plain.z_src.clone()
    for step in range(STEPS):
        t, _, x = seen(plain, step, z)
        with torch.no_grad():
            gradient = plain.s(t) ** 2 * (prior.guided(x, t, target, W) - phi(x, t, target))
        z = z - 0.1 * SCALE * gradient
        phi.train(z, step, 0.3)
    trained = {"lora_rank": 2, "lora_learning_rate": 0.01, "prompt_dropout": 0.3}
    ours = edited(exact, VSD, **trained)
    close(ours, plain.picture(z))
    assert ours.unet_evaluations == STEPS * 4  # null and target, phi, and phi's training
    assert ours.training_evaluations == STEPS
    assert (ours.image - edited(exact, VSD, **trained, aux_steps=0).image).abs().max() > 1e-4


def test_vsd_starts_as_the_classifier_alone(exact):
    # With a new phi, eps^w - eps(c_tgt) = (w - 1) (eps(c_tgt) - eps(null)): CSD's generating form at w - 1.
    ours = VSD(VSD.Params(steps=1, guidance_scale=W)).edit(make_tasks(1), exact, 0)[0]
    csd = CSD.Params(steps=1, guidance_scale=W - 1, source_share=0, t_min=20, t_max=980)
    close(ours, CSD(csd).edit(make_tasks(1), exact, 0)[0].image)


@torch.no_grad()
@pytest.mark.parametrize("t_clean", [0, 500, 1000])
def test_nfsd_is_its_equation(exact, plain, t_clean):
    def gradient(step, z):
        t, _, x = seen(plain, step, z)
        null, target = plain.eps(x, t, ""), plain.eps(x, t, plain.task.target_prompt)
        domain = null if t < t_clean else null - plain.eps(x, t, "ugly, dull")
        return plain.s(t) ** 2 * (domain + W * (target - null))

    ours = edited(exact, NFSD, t_clean=t_clean, negative_prompt="ugly, dull")
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    assert ours.unet_evaluations == STEPS * 3


def test_nfsd_without_a_negative_prompt_is_a_classifier_at_high_timesteps(exact):
    same = {"t_min": 300, "t_max": 980}
    ours = edited(exact, NFSD, negative_prompt="", **same)
    close(ours, edited(exact, CSD, source_share=0, **same).image)
    assert ours.unet_evaluations == STEPS * 2  # the null prompt once


@torch.no_grad()
@pytest.mark.parametrize(("share", "rows"), [(1.0, 2), (0.0, 2), (0.4, 3)])
def test_csd_is_its_equation(exact, plain, share, rows):
    def gradient(step, z):
        t, _, x = seen(plain, step, z, range(50, 949))
        null, source, target = (
            plain.eps(x, t, prompt) for prompt in ("", plain.task.source_prompt, plain.task.target_prompt)
        )
        return plain.s(t) ** 2 * W * ((target - null) - share * (source - null))

    ours = edited(exact, CSD, source_share=share)
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    assert ours.unet_evaluations == STEPS * rows


@torch.no_grad()
def test_sbp_is_its_two_stages(exact, plain):
    def gradient(step, z):
        t, eps, x = seen(plain, step, z)
        prompt = plain.task.target_prompt
        if step < 2:
            return plain.s(t) ** 2 * (plain.guided(x, t, prompt, W) - eps)
        return plain.s(t) ** 2 * W * (plain.eps(x, t, prompt + ", sharp") - plain.eps(x, t, prompt + " fog"))

    ours = edited(exact, SBP, stage_two=2, target_words=", sharp", source_words=" fog")
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    assert ours.unet_evaluations == STEPS * 2


def test_sbp_begins_as_sds_and_stands_still_between_equal_words(exact):
    sds = edited(exact, SDS, t_min=20, t_max=980, weighting="sds")
    assert torch.equal(edited(exact, SBP, stage_two=STEPS).image, sds.image)
    ours = edited(exact, SBP, stage_two=0, target_words=" x", source_words=" x")
    assert max(ours.trace["distance"]) == 0


@torch.no_grad()
@pytest.mark.parametrize("warmup", [0, 2])
def test_ism_is_its_equation(exact, plain, warmup):
    def gradient(step, z):
        warmth = max(0, 1 - step / warmup) if warmup else 0
        t = plain.t(step, range(20, 500 + int(480 * warmth) + 1))
        s = max(t - (80 + math.ceil(20 * warmth)), 0)
        now, x = 0, plain.a(0) * z + plain.s(0) * plain.noise(step, "edit/noise")
        while now < s:
            to = min(now + 200, s)
            x, now = plain.ddim(x, plain.eps(x, now, ""), now, to), to
        eps_s = plain.eps(x, s, "")
        x = plain.ddim(x, eps_s, s, t)
        eps_t = plain.guided(x, t, plain.task.target_prompt, W)
        return ((1 - plain.abar[t]) / plain.abar[t]).sqrt() * (eps_t - eps_s)

    ours = edited(exact, ISM, warmup_steps=warmup)
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    # Hops for the noisiest timestep that a step can draw, 880 and then 660 with a warm-up, else 420.
    hops = 5 + 4 + 3 if warmup else 3 * STEPS
    assert ours.unet_evaluations == hops + STEPS * 3


@torch.no_grad()
def test_sdi_is_its_equation(exact, plain):
    def gradient(step, z):
        t = 250 + 730 * (STEPS - step) // STEPS
        delta = int(uniform(0, plain.task.sample_id, step, "delta") * 100)
        now, x = 0, z
        for hop, to in enumerate([*range(1, t, 100), min(t + delta, 999)]):
            x = plain.ddim(x, plain.guided(x, now, plain.task.target_prompt, -4.0), now, to)
            # The variance of the posterior q(x_now | x_to, z).
            variance = (1 - plain.abar[now]) / (1 - plain.abar[to]) * (1 - plain.abar[to] / plain.abar[now])
            x, now = x + 0.3 * variance.sqrt() * plain.noise(step, f"climb/{hop}"), to
        kappa = (x - plain.a(now) * z) / plain.s(now)
        noisy = plain.a(t) * z + plain.s(t) * kappa
        return z - plain.clean(noisy, plain.guided(noisy, t, plain.task.target_prompt, W), t)

    ours = edited(exact, SDI, inversion_guidance_scale=-4.0)
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    hops = sum(len(range(1, 250 + 730 * (STEPS - step) // STEPS, 100)) + 1 for step in range(STEPS))
    assert ours.unet_evaluations == 2 * (hops + STEPS)


def test_adam_of_the_bridge_is_adams_algorithm(exact, plain):
    latents = VSD.kinds["pictures"]()
    assert (latents.learning_rate, latents.optimizer) == (0.01, "adam")

    @torch.no_grad()
    def gradient(step, z):
        t, eps, x = seen(plain, step, z)
        return plain.s(t) ** 2 * (plain.guided(x, t, plain.task.target_prompt, W) - eps)

    task = dataclasses.replace(plain.task, params=latents)
    (ours,) = SBP(SBP.Params(steps=STEPS, guidance_scale=W)).edit([task], exact, 0)
    close(ours, plain.by_adam(STEPS, gradient, lambda step: 0.01, beta2=0.99))
