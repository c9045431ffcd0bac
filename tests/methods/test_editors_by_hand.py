"""Rules that were made to edit, against plain loops in float64."""

import dataclasses
import math

import pytest
import torch

from methods.csd import CSD
from methods.dds import DDS
from methods.dds_official import DDSOfficial
from methods.dreamcatalyst import DreamCatalyst
from methods.drfs import DRFS
from methods.flowalign import FlowAlign
from methods.flowedit import FlowEdit
from methods.pds_2d import PDS2D
from methods.piva import Piva
from methods.piva_untrained import PivaUntrained
from methods.ssd import SSD
from piva_bench.errors import UserError
from piva_bench.profiles import get_profile
from piva_bench.runs.variants import resolve_variants
from piva_bench.session.query import Words
from tests.methods.plain import grid
from tests.methods.test_rules_by_hand import coefficients
from tests.rows import random_answers, step_of
from tests.tiny_sd import make_tasks

STEPS, W, SCALE = 3, 5.0, 2000 / 4096


def edited(denoiser, method, task=None, follow=False, steps=STEPS, **params):
    """The edit; with the method's own way for latents to follow, or DDS's."""
    task = task or make_tasks(1)[0]
    if follow:
        task = dataclasses.replace(task, params=method.kinds["pictures"]())
    params = {"guidance_scale": W} | params
    (outcome,) = method(method.Params(steps=steps, **params)).edit([task], denoiser, 0)
    assert outcome.reason is None
    return outcome


def close(ours, theirs):
    torch.testing.assert_close(ours.image, theirs, atol=1e-6, rtol=0)


def fallen(step, low, high):
    """An annealed timestep."""
    return low + (high - low) * (STEPS - step) // STEPS


@torch.no_grad()
def test_pds_2d_is_pds_by_scheduled_adam(exact, plain):
    def gradient(step, z):
        t = plain.t(step, range(21, 980, 2))
        x, x_src = (
            plain.a(t) * one + plain.s(t) * plain.noise(step, "edit/noise") for one in (z, plain.z_src)
        )

        def guided(x, prompt):
            low = plain.eps(x, t, "low quality")
            return low + W * (plain.eps(x, t, prompt) - low)

        delta = guided(x, plain.task.target_prompt) - guided(x_src, plain.task.source_prompt)
        psi, chi = coefficients(plain.abar, t, 2)
        return psi * (z - plain.z_src) + chi * delta

    def rate(step):
        if step < 1:
            return 0.0
        return 0.1 * 0.5 * (1 + math.cos(math.pi * (step - 1) / (4 - 1)))

    latents = PDS2D.kinds["pictures"](warmup_steps=1, cosine_steps=4)
    task = dataclasses.replace(plain.task, params=latents)
    close(edited(exact, PDS2D, task), plain.by_adam(STEPS, gradient, rate))


def test_pds_2d_defaults_are_the_courses():
    params, latents = PDS2D.Params(), PDS2D.kinds["pictures"]()
    assert (params.steps, params.guidance_scale, params.grid_steps) == (500, 7.5, 500)
    assert (latents.learning_rate, latents.optimizer, latents.betas) == (0.1, "adam", (0.9, 0.999))
    assert [latents.rate(step) for step in (0, 50, 100, 425, 750, 800)] == pytest.approx(
        [0, 0.05, 0.1, 0.05, 0, 0]
    )
    # What a run of the embedded profile takes is a tenth of it, whole.
    (variant,) = resolve_variants(["pds_2d"], {}, get_profile("embedded"))
    assert variant.params_dict().items() >= {"steps": 50, "warmup_steps": 10, "cosine_steps": 75}.items()
    with pytest.raises(UserError, match="cosine_steps"):
        resolve_variants(["pds_2d"], {"warmup_steps": 80}, get_profile("embedded"))


def test_pds_leads_away_from_its_negative_prompt(denoiser):
    eps = random_answers(["target", "source"])
    for words, expected in (("low quality", Words("low quality")), ("", "null")):
        step, predictor = step_of(denoiser, eps)
        PDS2D(PDS2D.Params(negative_prompt=words)).gradient(step)
        assert {query.negative for query in predictor.asked.values()} == {expected}


def test_a_step_of_pds_brings_the_stochastic_latents_together(denoiser):
    # Whatever sign a text writes the difference with.
    eps = random_answers(["target", "source"])
    step, _ = step_of(denoiser, eps)
    rule = PDS2D(PDS2D.Params())
    gradient = rule.gradient(step)
    step.latents.sub_(1e-3 * gradient)
    moved, _ = step_of(denoiser, eps)
    moved.latents.copy_(step.latents)
    after = rule.gradient(moved)
    assert (after.flatten(1).norm(dim=1) < gradient.flatten(1).norm(dim=1)).all()


@torch.no_grad()
@pytest.mark.parametrize("anneal", [True, False])
def test_dreamcatalyst_is_its_equation(exact, plain, anneal):
    def gradient(step, z):
        t = fallen(step, 200, 900) if anneal else plain.t(step, range(200, 901))
        share = t / 1000
        delta = plain.delta(z, plain.z_src, t, plain.noise(step, "edit/noise"), W)
        pull = 0.3 * math.exp(share) * (z - plain.z_src)
        return (0.2 + 0.8 * share ** (1 / math.e)) * delta + pull

    ours = edited(exact, DreamCatalyst, identity_weight=0.3, t_anneal=anneal)
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    assert ours.unet_evaluations == STEPS * 4


def test_dreamcatalyst_of_even_weights_is_dds_bit_for_bit(exact):
    same = {"t_min": 50, "t_max": 948}
    params = {"edit_floor": 1, "edit_growth": 0, "identity_weight": 0, "t_anneal": False}
    assert torch.equal(edited(exact, DreamCatalyst, **params, **same).image, edited(exact, DDS).image)


@torch.no_grad()
def test_ssd_is_its_equation(exact, plain):
    def gradient(step, z):
        t = fallen(step, 20, 980)
        eps = plain.noise(step, "edit/noise")
        x, x_src = (plain.a(t) * one + plain.s(t) * eps for one in (z, plain.z_src))
        null, source, target = (
            plain.eps(x, t, prompt) for prompt in ("", plain.task.source_prompt, plain.task.target_prompt)
        )
        steady = 2.0 / 2 * (source - plain.eps(x_src, t, ""))
        difference = steady + W / 2 * (target - source) + 5.5 * (target - null)
        return difference + 0.075 * math.exp(t / 1000) * plain.a(t) * (z - plain.z_src)

    ours = edited(exact, SSD)
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    assert ours.unet_evaluations == STEPS * 4


def test_ssd_across_the_prompts_alone_is_half_of_csd(exact):
    params = {"image_scale": 0, "enhance_scale": 0, "identity_weight": 0, "t_anneal": False}
    ours = edited(exact, SSD, guidance_scale=2 * W, t_min=50, t_max=948, **params)
    close(ours, edited(exact, CSD, weighting="uniform").image)


def velocity(plain, y, t, prompt, w, negative=""):
    """Of the flow view at y = x / (a + s)."""
    x = y * (plain.a(t) + plain.s(t))
    null = plain.eps(x, t, negative)
    eps = null + w * (plain.eps(x, t, prompt) - null)
    return eps - plain.clean(x, eps, t)


def flow_time(plain, t):
    return float(plain.s(t) / (plain.a(t) + plain.s(t)))


@torch.no_grad()
@pytest.mark.parametrize("growth", ["linear", "constant"])
def test_drfs_is_its_equation_on_the_flow_view(exact, plain, growth):
    total, walked, shift = 5, 4, 0.7
    times = grid(total)
    last = (flow_time(plain, times[-2]) - flow_time(plain, times[-1])) / 1.6
    highest, tail = last / 1.6, last / 4

    def official(k):
        # lr_hump_tail_beta(k, T + 28, highest, tail, 10, 8) for k from 1.
        x, top = (k - 1) / (total + 28 - 1), 9 / 16
        return (highest - tail) * x**9 * (1 - x) ** 7 / (top**9 * (1 - top) ** 7) + tail * x

    z = plain.z_src.clone()
    for step in range(walked):
        k = step + total - walked
        t, eta = times[k], shift * (k / total if growth == "linear" else 1)
        s, n = flow_time(plain, t), plain.noise(step, "noise/0")
        source = velocity(plain, (1 - s) * plain.z_src + s * n, t, plain.task.source_prompt, 2.0)
        y = (1 - s) * z + s * n + eta * s * (z - plain.z_src)
        change = velocity(plain, y, t, plain.task.target_prompt, W) - source
        z = z - 2.2 * official(k + 1) * (change + (1 - eta) * (z - plain.z_src))
    params = {"grid_steps": total, "source_guidance_scale": 2.0, "shift": shift, "shift_growth": growth}
    ours = edited(exact, DRFS, follow=True, steps=walked, **params)
    close(ours, plain.picture(z))
    assert ours.unet_evaluations == walked * 4


def test_drfs_without_shift_is_dds_on_a_flow(exact, plain):
    # v_tgt - v_src + z - z_src = (eps_tgt - eps_src) / (1 - s): DDS, weighted by the flow's clock.
    times = grid(5)

    @torch.no_grad()
    def gradient(step, z):
        t = times[step]
        s, to = flow_time(plain, t), flow_time(plain, times[step + 1]) if step < 4 else 0.0
        return (s - to) / (1 - s) * plain.delta(z, plain.z_src, t, plain.noise(step, "noise/0"), W)

    params = {"grid_steps": 5, "source_guidance_scale": W, "shift": 0, "rates": "euler"}
    close(edited(exact, DRFS, follow=True, steps=5, **params), plain.distilled(5, gradient, 1.0, rate=1.0))


def test_drfs_of_full_shift_is_flowedit(exact):
    guidance = {"guidance_scale": W, "source_guidance_scale": 2.0}
    params = {"grid_steps": 5, "shift": 1, "shift_growth": "constant", "rates": "euler"}
    ours = edited(exact, DRFS, follow=True, steps=4, **guidance, **params)
    theirs = edited(exact, FlowEdit, steps=5, n_max=4, **guidance)
    close(ours, theirs.image)


@torch.no_grad()
def test_flowalign_is_its_equation_on_the_flow_view(exact, plain):
    times = grid(5)[1:]
    flow = [flow_time(plain, t) for t in times] + [0.0]
    source, target = plain.task.source_prompt, plain.task.target_prompt
    z = plain.z_src.clone()
    for step, t in enumerate(times):
        s = flow[step]
        q = (1 - s) * plain.z_src + s * plain.noise(step, "noise/0")
        p = z + q - plain.z_src
        v_q, v_p = velocity(plain, q, t, source, 1.0), velocity(plain, p, t, target, W, negative=source)
        z = z + (flow[step + 1] - s) * (v_p - v_q) + 0.05 * (q - s * v_q - p + s * v_p)
    ours = edited(exact, FlowAlign, follow=True, steps=4, grid_steps=5, terminal_weight=0.05)
    close(ours, plain.picture(z))
    assert ours.unet_evaluations == 4 * 3


def test_flowalign_without_pull_and_guidance_is_flowedit(exact):
    ours = edited(exact, FlowAlign, follow=True, steps=4, grid_steps=5, guidance_scale=1, terminal_weight=0)
    theirs = edited(exact, FlowEdit, steps=5, n_max=4, guidance_scale=1, source_guidance_scale=1)
    close(ours, theirs.image)


@pytest.mark.parametrize("method", [DRFS, FlowAlign])
def test_walks_stay_on_their_grid_and_within_bounds(exact, method):
    with pytest.raises(ValueError, match="grid_steps"):
        method.Params(steps=6, grid_steps=5)
    # A walk that begins no noisier than t = 401 is the walk from there.
    short = edited(exact, method, follow=True, steps=3, grid_steps=5)
    bounded = edited(exact, method, follow=True, steps=3, grid_steps=5, t_max=401)
    assert torch.equal(short.image, bounded.image)
    assert not torch.equal(
        short.image, edited(exact, method, follow=True, steps=3, grid_steps=5, t_max=300).image
    )


@pytest.mark.parametrize("method", [DreamCatalyst, CSD, FlowAlign, DRFS, PDS2D, PivaUntrained])
def test_equal_prompts_do_nothing(exact, plain, method):
    task = dataclasses.replace(plain.task, target_prompt=plain.task.source_prompt)
    alike = {"source_guidance_scale": W} if method is DRFS else {}
    ours = edited(exact, method, task, **alike)
    close(ours, plain.picture(plain.z_src))


@torch.no_grad()
def test_piva_untrained_is_its_equation(exact, plain):
    def gradient(step, z):
        t, eps = plain.t(step, range(50, 949)), plain.noise(step, "edit/noise")
        x = plain.a(t) * z + plain.s(t) * eps
        back = plain.eps(x, t, plain.task.source_prompt) - plain.eps(x, t, plain.task.target_prompt)
        return plain.delta(z, plain.z_src, t, eps, W) + 0.7 * back

    ours = edited(exact, PivaUntrained, preservation_weight=0.7)
    close(ours, plain.distilled(STEPS, gradient, SCALE))
    assert ours.unet_evaluations == STEPS * 5


@pytest.mark.parametrize("weight", [0.4, 1.6])
def test_piva_whose_adapters_never_learn_is_piva_untrained(exact, weight):
    ours = edited(exact, PivaUntrained, preservation_weight=weight)
    close(ours, edited(exact, Piva, preservation_weight=weight, aux_steps=0).image)
    close(ours, edited(exact, Piva, preservation_weight=weight, lora_learning_rate=1e-300).image)
    assert (ours.image - edited(exact, DDS).image).abs().max() > 1e-4


def test_dds_official_is_dds_at_its_authors_values():
    embedded = get_profile("embedded")
    (ours,) = resolve_variants(["dds_official"], {}, embedded)
    (theirs,) = resolve_variants(["dds"], {"steps": 200, "guidance_scale": 7.5}, embedded)
    assert ours.key == theirs.key
    assert ours.key != resolve_variants(["dds"], {}, embedded)[0].key
    paper = [resolve_variants([name], {}, get_profile("paper"))[0] for name in ("dds", "dds_official")]
    assert paper[0].key == paper[1].key
    assert DDSOfficial.Params().model_dump() == DDS.Params().model_dump()
