"""Loops of the rules that train adapters beside the edit: peft's LoRA, switched by name and trained by AdamW."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig
from torch import Tensor
from torch.nn.functional import mse_loss

from benchmarks.loops.editors import four_rows, start
from benchmarks.loops.model import Model, Settings, descend, optimizer_of
from piva_bench.diffusion.lora import TARGETS
from piva_bench.method import EditTask


@contextmanager
def adapters(model: Model, names: Sequence[str], p: Settings) -> Iterator[dict[str, torch.optim.Optimizer]]:
    """Within the block the UNet has fresh adapters of these names; gives the optimiser of each."""
    config = LoraConfig(r=p.lora_rank, lora_alpha=p.lora_rank, target_modules=list(TARGETS))
    optimizers = {}
    for name in names:
        model.unet.add_adapter(config, adapter_name=name)
        parameters = [weight for key, weight in model.unet.named_parameters() if f".{name}." in key]
        for parameter in parameters:
            parameter.data = parameter.data.to(model.working)
        optimizers[name] = torch.optim.AdamW(parameters, lr=p.lora_learning_rate)
    yield optimizers
    model.unet.delete_adapters(list(names))


def scored(model: Model, name: str, noisy: Tensor, t: Tensor, *embeds: Tensor) -> Tensor:
    """A call of the UNet with one of its adapters."""
    model.unet.enable_adapters()
    model.unet.set_adapter(name)
    return model.predict(noisy, t, *embeds)


def train(
    model: Model,
    name: str,
    optimizer: torch.optim.Optimizer,
    z: Tensor,
    cond: Tensor,
    null: Tensor,
    p: Settings,
) -> None:
    """A step of an adapter on the denoising loss."""
    t, noise = model.timestep(0, 999), torch.randn_like(z)
    dropped = torch.rand(()) < p.prompt_dropout
    loss = mse_loss(scored(model, name, model.add_noise(z, noise, t), t, null if dropped else cond), noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def vsd(model: Model, task: EditTask, p: Settings) -> Tensor:
    """VSD: a call of two rows of the prior, one of two rows of phi, and a training step.

    Both of phi's rows have the prompt: they differ in the camera, of which a picture has none.
    """
    _, z, _, target, null = start(model, task)
    optimizer = optimizer_of(z, p)
    with adapters(model, ["phi"], p) as trainers:
        for _ in range(p.steps):
            t, noise = model.timestep(p.t_min, p.t_max), torch.randn_like(z)
            with torch.no_grad():
                noisy = model.add_noise(z, noise, t)
                model.unet.disable_adapters()
                prior = model.guided(noisy, t, target, null, p.guidance_scale)
                score, _ = scored(model, "phi", noisy, t, target, target).chunk(2)
                grad = model.s(t) ** 2 * (prior - score)
            descend(z, grad, optimizer, p)
            train(model, "phi", trainers["phi"], z.detach(), target, null, p)
    return model.decode(z)


def piva(model: Model, task: EditTask, p: Settings) -> Tensor:
    """Piva: DDS's call, a call for each score, and a training step for each adapter."""
    z_src, z, source, target, null = start(model, task)
    optimizer = optimizer_of(z, p)
    with adapters(model, ["psi", "phi"], p) as trainers:
        for _ in range(p.steps):
            t, noise = model.timestep(p.t_min, p.t_max), torch.randn_like(z)
            with torch.no_grad():
                noisy_source, noisy = model.add_noise(z_src, noise, t), model.add_noise(z, noise, t)
                model.unet.disable_adapters()
                grad = four_rows(
                    model, noisy_source, noisy, t, [null, null, source, target], p.guidance_scale
                )
                psi = scored(model, "psi", noisy, t, source)
                grad = grad + p.preservation_weight * (psi - scored(model, "phi", noisy, t, target))
            descend(z, grad, optimizer, p)
            train(model, "psi", trainers["psi"], z_src, source, null, p)
            train(model, "phi", trainers["phi"], z.detach(), target, null, p)
    return model.decode(z)
