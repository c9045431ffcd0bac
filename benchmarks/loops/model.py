"""What the loops share: diffusers' UNet and schedule, pictures in and out, and a count of the UNet's rows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.method import EditTask
from piva_bench.params import MethodParams

Settings = SimpleNamespace
"""A rule's parameters and those of its latents, by name."""
Loop = Callable[["Model", EditTask, Settings], Tensor]
"""Edits one picture; gives it as [3, H, W] in -1..1."""


def settings(*params: MethodParams) -> Settings:
    """Parameters as the loops read them."""
    return Settings(**{name: value for each in params for name, value in each.model_dump().items()})


class Model:
    """A copy of a denoiser's UNet, which loops may put adapters into, with its autoencoder and text encoder.

    Args:
        denoiser: where the weights come from.

    Attributes:
        rows: of the UNet that were computed.
        differentiated: those of them that were computed with a graph.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.parts = denoiser
        self.unet = UNet2DConditionModel.from_config(denoiser.unet.config)
        self.unet.load_state_dict(denoiser.unet.state_dict())
        self.unet.to(denoiser.device, denoiser.dtype).eval().requires_grad_(False)
        self.scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        )  # fmt: skip
        self.working = torch.promote_types(denoiser.dtype, torch.float32)  # of the latents
        self.abar = self.scheduler.alphas_cumprod.to(denoiser.device, self.working)
        self.rows = self.differentiated = 0

    @torch.no_grad()
    def encode(self, task: EditTask, *prompts: str) -> tuple[Tensor, list[Tensor]]:
        """Latents of the source [1, C, h, w], and the embeddings of the prompts."""
        parts = self.parts
        image = task.source[None].to(parts.device, parts.dtype)
        z = parts.vae.encode(image).latent_dist.mean * parts.vae.config.scaling_factor
        length = min(parts.tokenizer.model_max_length, parts.text_encoder.config.max_position_embeddings)
        tokens = parts.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        embeds = parts.text_encoder(tokens.input_ids.to(parts.device))[0]
        return z.to(self.working), list(embeds.split(1))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The picture of latents."""
        latents = (z / self.parts.vae.config.scaling_factor).to(self.parts.dtype)
        return self.parts.vae.decode(latents).sample.to(self.working).clamp(-1, 1)[0].cpu()

    def predict(self, noisy: Tensor, t: Tensor, *embeds: Tensor) -> Tensor:
        """One call of the UNet: a row of noisy latents, or the one there is, for each embedding."""
        count = len(embeds)
        sample = noisy.expand(count, -1, -1, -1).to(self.parts.dtype)
        eps = self.unet(sample, t.expand(count), encoder_hidden_states=torch.cat(embeds)).sample
        self.rows += count
        self.differentiated += count if eps.requires_grad else 0
        return eps.to(self.working)

    def guided(self, noisy: Tensor, t: Tensor, cond: Tensor, null: Tensor, scale: float) -> Tensor:
        """Classifier-free guidance from a call of two rows."""
        uncond, text = self.predict(noisy, t, null, cond).chunk(2)
        return uncond + scale * (text - uncond)

    def timestep(self, low: int, high: int) -> Tensor:
        """[1], drawn from low..high."""
        return torch.randint(low, high + 1, (1,), device=self.abar.device)

    def a(self, t: Tensor | int) -> Tensor:
        """The latents' share at a timestep."""
        return self.abar[t].sqrt()

    def s(self, t: Tensor | int) -> Tensor:
        """The noise's share."""
        return (1 - self.abar[t]).sqrt()

    def add_noise(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Noisy latents at a timestep."""
        return self.scheduler.add_noise(z, noise, t)

    def clean(self, noisy: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """The latents that a prediction implies."""
        return (noisy - self.s(t) * eps) / self.a(t)


def optimizer_of(z: Tensor, p: Settings) -> torch.optim.Optimizer:
    """What moves the latents: the notebook's gradient descent, or AdamW without decay."""
    if p.optimizer == "sgd":
        return torch.optim.SGD([z], lr=p.learning_rate)
    betas = (0.9, getattr(p, "second_moment_decay", 0.999))
    return torch.optim.AdamW([z], lr=p.learning_rate, betas=betas, weight_decay=0)


def descend(z: Tensor, grad: Tensor, optimizer: torch.optim.Optimizer, p: Settings) -> None:
    """A step along a gradient, by way of a loss that has it."""
    optimizer.zero_grad()
    (p.loss_scale * (z * grad.detach()).sum()).backward()
    optimizer.step()
