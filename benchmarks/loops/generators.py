"""Loops of the rules that know the source as the edit's start alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.loops.editors import falling
from benchmarks.loops.model import Model, Settings, descend, optimizer_of
from piva_bench.method import EditTask

Gradient = Callable[[int, Tensor], Tensor]


def follow(model: Model, z: Tensor, gradient: Gradient, p: Settings) -> Tensor:
    """The picture that latents end at along a gradient of (step, latents)."""
    z.requires_grad_()
    optimizer = optimizer_of(z, p)
    for step in range(p.steps):
        with torch.no_grad():
            grad = gradient(step, z)
        descend(z, grad, optimizer, p)
    return model.decode(z)


def seen(model: Model, z: Tensor, p: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """A timestep, noise, and the noisy edit."""
    t, noise = model.timestep(p.t_min, p.t_max), torch.randn_like(z)
    return t, noise, model.add_noise(z, noise, t)


def sds(model: Model, task: EditTask, p: Settings) -> Tensor:
    """SDS."""
    start, (target, null) = model.encode(task, task.target_prompt, "")

    def gradient(step: int, z: Tensor) -> Tensor:
        t, noise, noisy = seen(model, z, p)
        return model.guided(noisy, t, target, null, p.guidance_scale) - noise

    return follow(model, start, gradient, p)


def nfsd(model: Model, task: EditTask, p: Settings) -> Tensor:
    """NFSD: two calls of two rows, the second for the negative prompt; its null row is the first's again."""
    start, (target, null, away) = model.encode(task, task.target_prompt, "", p.negative_prompt)

    def gradient(step: int, z: Tensor) -> Tensor:
        t, _, noisy = seen(model, z, p)
        eps_null, eps_target = model.predict(noisy, t, null, target).chunk(2)
        _, eps_away = model.predict(noisy, t, null, away).chunk(2)
        domain = eps_null if t < p.t_clean else eps_null - eps_away
        return model.s(t) ** 2 * (domain + p.guidance_scale * (eps_target - eps_null))

    return follow(model, start, gradient, p)


def csd(model: Model, task: EditTask, p: Settings) -> Tensor:
    """CSD's editing form: one call of three rows, whatever their weights."""
    start, (source, target, null) = model.encode(task, task.source_prompt, task.target_prompt, "")
    to, away = p.guidance_scale, p.guidance_scale * p.source_share

    def gradient(step: int, z: Tensor) -> Tensor:
        t, _, noisy = seen(model, z, p)
        eps_target, eps_null, eps_source = model.predict(noisy, t, target, null, source).chunk(3)
        return model.s(t) ** 2 * (to * eps_target + (away - to) * eps_null - away * eps_source)

    return follow(model, start, gradient, p)


def sbp(model: Model, task: EditTask, p: Settings) -> Tensor:
    """SBP: SDS, then the difference between two descriptions."""
    good, bad = task.target_prompt + p.target_words, task.target_prompt + p.source_words
    start, (target, null, to, away) = model.encode(task, task.target_prompt, "", good, bad)

    def gradient(step: int, z: Tensor) -> Tensor:
        t, noise, noisy = seen(model, z, p)
        if step < p.stage_two:
            return model.s(t) ** 2 * (model.guided(noisy, t, target, null, p.guidance_scale) - noise)
        eps_to, eps_away = model.predict(noisy, t, to, away).chunk(2)
        return model.s(t) ** 2 * p.guidance_scale * (eps_to - eps_away)

    return follow(model, start, gradient, p)


def ism(model: Model, task: EditTask, p: Settings) -> Tensor:
    """ISM: hops of one row up to s, one more to t, and a guided prediction there."""
    start, (target, null) = model.encode(task, task.target_prompt, "")

    def gradient(step: int, z: Tensor) -> Tensor:
        warmth = max(0.0, 1 - step / p.warmup_steps)
        t = model.timestep(p.t_min, p.t_max + int((p.t_max_start - p.t_max) * warmth))
        s = (t - p.interval - math.ceil((p.interval_start - p.interval) * warmth)).clamp_min(0)
        now = torch.zeros_like(t)
        x = model.add_noise(z, torch.randn_like(z), now)
        while now < s:
            to = torch.minimum(now + p.stride, s)
            x, now = ddim(model, x, model.predict(x, now, null), now, to), to
        eps_s = model.predict(x, s, null)
        eps_t = model.guided(ddim(model, x, eps_s, s, t), t, target, null, p.guidance_scale)
        return model.s(t) / model.a(t) * (eps_t - eps_s)

    return follow(model, start, gradient, p)


def sdi(model: Model, task: EditTask, p: Settings) -> Tensor:
    """SDI: a guided inversion of the latents to every timestep, then a guided prediction."""
    start, (target, null) = model.encode(task, task.target_prompt, "")
    stride = 1000 // p.inversion_steps

    def gradient(step: int, z: Tensor) -> Tensor:
        t = falling(model, step, p)
        end = min(int(t) + int(torch.rand(()) * stride), 999)
        x, now = z, torch.zeros_like(t)
        for hop in [*range(1, int(t), stride), end]:
            to = torch.full_like(t, hop)
            eps = model.guided(x, now, target, null, p.inversion_guidance_scale)
            # What DDIM would add between the two, q(x_now | x_to, z).
            variance = (model.s(now) / model.s(to)) ** 2 * (1 - model.abar[to] / model.abar[now])
            x = ddim(model, x, eps, now, to) + p.inversion_eta * variance.sqrt() * torch.randn_like(z)
            now = to
        found = (x - model.a(now) * z) / model.s(now)
        noisy = model.add_noise(z, found, t)
        return z - model.clean(noisy, model.guided(noisy, t, target, null, p.guidance_scale), t)

    return follow(model, start, gradient, p)


def ddim(model: Model, x: Tensor, eps: Tensor, t: Tensor, to: Tensor) -> Tensor:
    """DDIM's deterministic move, up or down."""
    return model.a(to) * model.clean(x, eps, t) + model.s(to) * eps
