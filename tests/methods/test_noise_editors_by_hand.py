"""Editors that keep the source's noise or need none, against plain loops in float64."""

import dataclasses
import itertools
import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel

from methods.edit_friendly import EditFriendly
from methods.infedit import InfEdit
from methods.leditspp import LEditsPP
from piva_bench.diffusion.schedule import Schedule
from piva_bench.sampling.solver import SecondOrder
from tests.methods.plain import STEPS, W, close, edited, grid


def noised(plain, t):
    return plain.z_src if t is None else plain.a(t) * plain.z_src + plain.s(t) * plain.noise(t, "noise")


def ddpm_mean(plain, x, eps, t, to):
    """Of DDIM's step with eta = 1 (arXiv 2010.02502, eq. 12 and 16), as the official code writes it."""
    z = plain.clean(x, eps, t)
    if to is None:
        return z
    variance = (1 - plain.abar[to]) / (1 - plain.abar[t]) * (1 - plain.abar[t] / plain.abar[to])
    return plain.a(to) * z + (1 - plain.abar[to] - variance).sqrt() * eps


@torch.no_grad()
def test_edit_friendly_inversion_is_its_loop(exact, plain):
    times = [*grid(STEPS)[1:], None]  # a fifth is skipped
    offsets = []
    for t, to in itertools.pairwise(times):
        x = noised(plain, t)
        eps = plain.guided(x, t, plain.task.source_prompt, 2.0)
        offsets.append(noised(plain, to) - ddpm_mean(plain, x, eps, t, to))
    x = noised(plain, times[0])
    for (t, to), offset in zip(itertools.pairwise(times), offsets, strict=True):
        eps = plain.guided(x, t, plain.task.target_prompt, W)
        x = ddpm_mean(plain, x, eps, t, to) + offset
    params = {"skip": 0.2, "source_guidance_scale": 2.0, "guidance_scale": W}
    close(edited(exact, EditFriendly, plain.task, **params), plain.picture(x))


@pytest.mark.parametrize("skip", [0.0, 0.4])
def test_edit_friendly_inversion_reconstructs_exactly(exact, plain, skip):
    same = dataclasses.replace(plain.task, target_prompt=plain.task.source_prompt)
    ours = edited(exact, EditFriendly, same, skip=skip, source_guidance_scale=W, guidance_scale=W)
    torch.testing.assert_close(ours, plain.picture(plain.z_src), atol=1e-9, rtol=0)


@torch.no_grad()
def test_virtual_inversion_is_its_loop(exact, plain):
    z = plain.z_src
    for index, t in enumerate(grid(STEPS)):
        noise = plain.noise(index, "noise")
        x_src, x_tgt = (plain.a(t) * one + plain.s(t) * noise for one in (plain.z_src, z))
        # The source's consistent noise is the one by which its picture is the source (arXiv 2312.04965, eq. 11).
        consistent = (x_src - plain.a(t) * plain.z_src) / plain.s(t)
        eps_src = plain.guided(x_src, t, plain.task.source_prompt, 2.0)
        eps_tgt = plain.guided(x_tgt, t, plain.task.target_prompt, W)
        z = plain.clean(x_tgt, eps_tgt - eps_src + consistent, t)
    ours = edited(exact, InfEdit, plain.task, source_guidance_scale=2.0, guidance_scale=W)
    close(ours, plain.picture(z))


def test_virtual_inversion_with_equal_prompts_is_the_round_trip(exact, plain):
    same = dataclasses.replace(plain.task, target_prompt=plain.task.source_prompt)
    close(edited(exact, InfEdit, same, source_guidance_scale=W, guidance_scale=W), plain.picture(plain.z_src))


def test_the_second_order_solver_is_diffusers():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    theirs = DPMSolverMultistepScheduler(
        trained_betas=betas.numpy(),
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    times = grid(20)
    theirs.set_timesteps(timesteps=times)
    ours = SecondOrder(Schedule.variance_preserving((1 - betas).cumprod(0)))
    x = y = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    for t, to in itertools.pairwise([*times, None]):
        eps = torch.randn_like(x)
        x = theirs.step(eps, t, x, variance_noise=torch.zeros_like(x)).prev_sample
        y = ours.mean(y, eps, t, to)
        # diffusers holds its sigmas in float32.
        torch.testing.assert_close(y, x, atol=1e-4, rtol=1e-4)


class Kept:
    """diffusers' plain attention that keeps its probabilities."""

    def __init__(self, kept):
        self.kept = kept

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        q, k, v = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        q, k, v = (attn.head_to_batch_dim(one) for one in (q, k, v))
        probabilities = attn.get_attention_scores(q, k)
        self.kept.append(probabilities)
        return attn.to_out[0](attn.batch_to_head_dim(probabilities @ v))


def attention_mask(kept, tokens, quantile):
    """The places above the quantile on the 8 x 8 grid, smoothed pixel by pixel."""
    heat = torch.cat(kept).float().mean(dim=0)[:, 1 : tokens - 1].sum(dim=1).view(8, 8)
    weight = {-1: math.exp(-1), 0: 1.0, 1: math.exp(-1)}
    total = sum(weight.values()) ** 2
    mirror = [1, *range(8), 6]
    smooth = torch.zeros(8, 8)
    for i, j, k, m in itertools.product(range(8), range(8), (-1, 0, 1), (-1, 0, 1)):
        smooth[i, j] += weight[k] * weight[m] / total * heat[mirror[i + 1 + k], mirror[j + 1 + m]]
    return (smooth >= smooth.flatten().quantile(quantile)).double()[None, None]


def test_leditspp_is_its_loop(exact, plain):
    kept = []
    watched = UNet2DConditionModel.from_pretrained(exact.path / "unet", torch_dtype=torch.float64)
    for name, module in watched.named_modules():
        if name.endswith("attn2") and "mid" not in name:
            module.set_processor(Kept(kept))
    prompt, quantile = plain.task.target_prompt, 0.6
    tokens = len(exact.tokenizer(prompt).input_ids)

    def mean(history, x, eps, t, to):
        z = plain.clean(x, eps, t)
        history.append((z, t))
        if to is None:
            return z

        def height(time):
            return (plain.a(time) / plain.s(time)).log()

        h = height(to) - height(t)
        slope = 0
        if len(history) > 1:
            earlier, before = history[-2]
            slope = (z - earlier) / ((height(t) - height(before)) / h)
        grown = plain.a(to) * (1 - (-2 * h).exp())
        return plain.s(to) / plain.s(t) * (-h).exp() * x + grown * z + 0.5 * grown * slope

    sources, targets, x = [], [], noised(plain, grid(STEPS)[0])
    with torch.no_grad():
        for t, to in itertools.pairwise([*grid(STEPS), None]):
            x_src = noised(plain, t)
            offset = noised(plain, to) - mean(sources, x_src, plain.eps(x_src, t, ""), t, to)
            kept.clear()
            text = exact.condition([prompt]).text
            conditional = watched(x, torch.tensor([t]), encoder_hidden_states=text).sample
            null = plain.eps(x, t, "")
            guide = W * (conditional - null)
            mask = attention_mask(kept, tokens, quantile)
            if t <= 800:
                strength = guide.abs().sum(dim=1, keepdim=True)
                mask = mask * (strength >= strength.float().flatten().quantile(quantile)).double()
            x = mean(targets, x, null + mask * guide, t, to) + offset
    ours = edited(exact, LEditsPP, plain.task, skip=0, threshold=quantile, guidance_scale=W)
    close(ours, plain.picture(x))
    close(edited(exact, LEditsPP, plain.task, skip=0.2, guidance_scale=0), plain.picture(plain.z_src))
