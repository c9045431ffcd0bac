"""Loops of the rules on rectified flows, on the flow view of a noise predictor.

The official code runs Stable Diffusion 3; here y = x / (a + s) at flow time sigma = s / (a + s), whose velocity is the
noise less the clean latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.loops.editors import start
from benchmarks.loops.model import Model, Settings
from piva_bench.method import EditTask


def walk(model: Model, steps: int) -> tuple[Tensor, Tensor]:
    """A sampler's timesteps from the noisiest down, and their flow times."""
    model.scheduler.set_timesteps(steps, device=model.abar.device)
    t = model.scheduler.timesteps
    return t, model.s(t) / (model.a(t) + model.s(t))


def velocity(model: Model, y: Tensor, t: Tensor, *embeds: Tensor) -> Tensor:
    """Of points of the flow, a row for each embedding."""
    x = y * (model.a(t) + model.s(t))
    eps = model.predict(x, t, *embeds)
    return eps - model.clean(x, eps, t)


def drfs(model: Model, task: EditTask, p: Settings) -> Tensor:
    """DRFS: one call of four rows, and gradient descent at rates that rise, fall and rise."""
    z_src, z, source, target, null = start(model, task)
    optimizer = torch.optim.SGD([z], lr=0.02)
    timesteps, times = walk(model, p.grid_steps)
    shortest = float(times[-2] - times[-1]) / 1.6
    for k in range(p.grid_steps - p.steps, p.grid_steps):
        t, s, eta, noise = timesteps[k], times[k], p.shift * k / p.grid_steps, torch.randn_like(z)
        with torch.no_grad():
            y_src = (1 - s) * z_src + s * noise
            y = (1 - s) * z + s * noise + eta * s * (z - z_src)
            points = torch.cat([y_src, y_src, y, y])
            null_src, v_src, null_tgt, v_tgt = velocity(model, points, t, null, source, null, target).chunk(4)
            change = null_tgt + p.guidance_scale * (v_tgt - null_tgt)
            change -= null_src + p.source_guidance_scale * (v_src - null_src)
            grad = change + (1 - eta) * (z - z_src)
        optimizer.param_groups[0]["lr"] = p.rate * rate(k, p.grid_steps + 28, shortest / 1.6, shortest / 4)
        optimizer.zero_grad()
        (z * grad).sum().backward()
        optimizer.step()
    return model.decode(z)


def rate(k: int, count: int, highest: float, tail: float, a: int = 10, b: int = 8) -> float:
    """The density of a beta distribution, ``highest`` less ``tail`` at its mode, on a line that rises to ``tail``."""
    x, mode = k / (count - 1), (a - 1) / (a + b - 2)
    density = (x / mode) ** (a - 1) * ((1 - x) / (1 - mode)) ** (b - 1)
    return (highest - tail) * density + tail * x


@torch.no_grad()
def flowalign(model: Model, task: EditTask, p: Settings) -> Tensor:
    """FlowAlign: three calls of a row, and Euler's step with a pull between the ends."""
    z_src, z, source, target, _ = start(model, task)
    z = z.detach()
    timesteps, times = walk(model, p.grid_steps)
    for k in range(p.grid_steps - p.steps, p.grid_steps):
        t, s = timesteps[k], times[k]
        after = times[k + 1] if k + 1 < p.grid_steps else 0.0
        q = (1 - s) * z_src + s * torch.randn_like(z)
        y = z + q - z_src
        to, away = velocity(model, y, t, target), velocity(model, y, t, source)
        v_y, v_q = away + p.guidance_scale * (to - away), velocity(model, q, t, source)
        z = z + (after - s) * (v_y - v_q) + p.terminal_weight * (q - s * v_q - y + s * v_y)
    return model.decode(z)
