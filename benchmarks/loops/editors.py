"""Loops of the rules that look at the source."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, normalize
from transformers import get_cosine_schedule_with_warmup

from benchmarks.loops.model import Model, Settings, descend, optimizer_of
from piva_bench.method import EditTask


def start(model: Model, task: EditTask, null: str = "") -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The source's latents, the edit's, and the embeddings of source, target and null prompt."""
    z_src, (source, target, nothing) = model.encode(task, task.source_prompt, task.target_prompt, null)
    return z_src, z_src.clone().requires_grad_(), source, target, nothing


def four_rows(
    model: Model, noisy_source: Tensor, noisy: Tensor, t: Tensor, embeds: list[Tensor], scale: float
) -> Tensor:
    """DDS's difference from one call: both branches, each with and without its prompt."""
    latents = torch.cat([noisy_source, noisy, noisy_source, noisy])
    null_src, null_tgt, source, target = model.predict(latents, t, *embeds).chunk(4)
    return null_tgt + scale * (target - null_tgt) - null_src - scale * (source - null_src)


def dds(model: Model, task: EditTask, p: Settings) -> Tensor:
    """DDS."""
    z_src, z, source, target, null = start(model, task)
    optimizer = optimizer_of(z, p)
    for _ in range(p.steps):
        t, noise = model.timestep(p.t_min, p.t_max), torch.randn_like(z)
        with torch.no_grad():
            noisy_source, noisy = model.add_noise(z_src, noise, t), model.add_noise(z, noise, t)
            grad = four_rows(model, noisy_source, noisy, t, [null, null, source, target], p.guidance_scale)
        descend(z, grad, optimizer, p)
    return model.decode(z)


def cds(model: Model, task: EditTask, p: Settings) -> Tensor:
    """CDS: DDS's call without a graph, then the target's two rows once more with one, for the contrastive loss."""
    features: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda module, inputs, out, name=name: features.__setitem__(name, out))
        for name, module in model.unet.named_modules()
        if name.startswith("up_blocks") and name.endswith("attn1")
    ]
    z_src, z, source, target, null = start(model, task)
    optimizer = optimizer_of(z, p)
    for _ in range(p.steps):
        t, noise = model.timestep(p.t_min, p.t_max), torch.randn_like(z)
        with torch.no_grad():
            noisy_source, noisy = model.add_noise(z_src, noise, t), model.add_noise(z, noise, t)
            grad = four_rows(model, noisy_source, noisy, t, [null, null, source, target], p.guidance_scale)
            kept = {name: out[2:3] for name, out in features.items()}
        optimizer.zero_grad()
        (p.loss_scale * (z * grad).sum()).backward()
        model.guided(model.add_noise(z, noise, t), t, target, null, p.guidance_scale)
        loss = sum(patch_nce(kept[name], features[name][1:2], p) for name in kept)
        (p.contrastive_weight * loss).backward()
        optimizer.step()
    for hook in hooks:
        hook.remove()
    return model.decode(z)


def patch_nce(query: Tensor, key: Tensor, p: Settings) -> Tensor:
    """The contrastive loss of two feature maps [1, N, C] at random places, for patches of 1 and of 2 tokens."""
    side = math.isqrt(query.shape[1])
    loss = query.new_zeros(())
    for patch in (1, 2):
        q, k = (
            normalize(avg_pool2d(each.transpose(1, 2).unflatten(2, (side, side)), patch), dim=1)[0]
            .flatten(1)
            .T
            for each in (query, key)
        )
        order = torch.randperm(len(q), device=q.device)[: p.patches]
        loss = loss + cross_entropy(
            q[order] @ k[order].T / p.temperature, torch.arange(len(order), device=q.device)
        )
    return loss


def pds(model: Model, task: EditTask, p: Settings, null: str = "", scheduled: bool = False) -> Tensor:
    """PDS: the stochastic latents of source and edit, a call of two rows for each."""
    z_src, z, source, target, nothing = start(model, task, null)
    optimizer = optimizer_of(z, p)
    rates = get_cosine_schedule_with_warmup(optimizer, p.warmup_steps, p.cosine_steps) if scheduled else None
    grid = torch.arange(1, 1000, 1000 // p.grid_steps, device=z.device)
    first, last = int(0.02 * p.grid_steps), int(0.98 * p.grid_steps)
    for _ in range(p.steps):
        index = torch.randint(first, last, (1,), device=z.device)
        t, before = grid[index], grid[index - 1]
        alpha = model.abar[t] / model.abar[t - 1]
        variance, variance_before = 1 - model.abar[t], 1 - model.abar[before]
        deviation = (variance_before / variance * (1 - alpha)).sqrt()
        noise, noise_before = torch.randn_like(z), torch.randn_like(z)
        found = []
        with torch.no_grad():
            for latents, cond in ((z, target), (z_src, source)):
                noisy = model.add_noise(latents, noise, t)
                eps = model.guided(noisy, t, cond, nothing, p.guidance_scale)
                c0 = model.a(before) * (1 - alpha) / variance
                c1 = alpha.sqrt() * variance_before / variance
                mean = c0 * model.clean(noisy, eps, t) + c1 * noisy
                found.append((model.add_noise(latents, noise_before, before) - mean) / deviation)
        descend(z, found[0] - found[1], optimizer, p)
        if rates is not None:
            rates.step()
    return model.decode(z)


def pds_2d(model: Model, task: EditTask, p: Settings) -> Tensor:
    """PDS with its laboratory's negative prompt, warm-up and cosine."""
    return pds(model, task, p, null=p.negative_prompt, scheduled=True)


def ids(model: Model, task: EditTask, p: Settings) -> Tensor:
    """IDS: the noisy source is corrected by gradients through the network, then DDS's call."""
    z_src, z, source, target, null = start(model, task)
    optimizer = optimizer_of(z, p)
    for _ in range(p.steps):
        t, noise = model.timestep(p.t_min, p.t_max), torch.randn_like(z)
        noisy_source = model.add_noise(z_src, noise, t)
        for _ in range(p.rounds):
            noisy_source = noisy_source.detach().requires_grad_()
            eps = model.guided(noisy_source, t, source, null, p.guidance_scale)
            distance = torch.linalg.norm(z_src - model.clean(noisy_source, eps, t))
            (slope,) = torch.autograd.grad(distance, noisy_source)
            noisy_source = (noisy_source - p.correction_rate * slope).detach()
        with torch.no_grad():
            corrected = (noisy_source - model.a(t) * z_src) / model.s(t)
            noisy = model.add_noise(z, corrected, t)
            grad = four_rows(model, noisy_source, noisy, t, [null, null, source, target], p.guidance_scale)
        descend(z, grad, optimizer, p)
    return model.decode(z)


def ssd(model: Model, task: EditTask, p: Settings) -> Tensor:
    """SSD: one call, the source without a prompt and the edit under three."""
    z_src, z, source, target, null = start(model, task)
    optimizer = optimizer_of(z, p)
    for step in range(p.steps):
        t, noise = falling(model, step, p), torch.randn_like(z)
        with torch.no_grad():
            noisy_source, noisy = model.add_noise(z_src, noise, t), model.add_noise(z, noise, t)
            latents = torch.cat([noisy_source, noisy, noisy, noisy])
            image, eps_source, eps_null, eps_target = model.predict(
                latents, t, null, source, null, target
            ).chunk(4)
            grad = (
                p.image_scale / 2 * (eps_source - image)
                + p.guidance_scale / 2 * (eps_target - eps_source)
                + p.enhance_scale * (eps_target - eps_null)
                + p.identity_weight * (t / 1000).exp() * (noisy - noisy_source)
            )
        descend(z, grad, optimizer, p)
    return model.decode(z)


def dreamcatalyst(model: Model, task: EditTask, p: Settings) -> Tensor:
    """DreamCatalyst: a call of two rows for each branch, weighted by a timestep that falls."""
    z_src, z, source, target, null = start(model, task)
    optimizer = optimizer_of(z, p)
    for step in range(p.steps):
        t, noise = falling(model, step, p), torch.randn_like(z)
        with torch.no_grad():
            eps = [
                model.guided(model.add_noise(latents, noise, t), t, cond, null, p.guidance_scale)
                for latents, cond in ((z, target), (z_src, source))
            ]
            share = (t / 1000).to(z.dtype)
            edit = (p.edit_floor + p.edit_growth * share ** (1 / math.e)) * (eps[0] - eps[1])
            grad = edit + p.identity_weight * share.exp() * (z - z_src)
        descend(z, grad, optimizer, p)
    return model.decode(z)


def falling(model: Model, step: int, p: Settings) -> Tensor:
    """The timestep [1] of a step, from the highest down to the lowest over a run."""
    t = p.t_min + (p.t_max - p.t_min) * (p.steps - step) // p.steps
    return torch.tensor([t], device=model.abar.device)
