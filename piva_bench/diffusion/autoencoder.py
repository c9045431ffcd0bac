"""The autoencoder of a latent model: pictures to scaled latents and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from piva_bench.errors import ModelError

TOGETHER = 1 << 18
"""Pixels encoded at once where gradients are wanted: 64 pictures of 64 px, or one of 512 px, whose graph takes 3.2 GB
in float32 in Stable Diffusion's encoder."""


def latents_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of latents beside networks of a precision: float32, or float64 beside that."""
    return torch.promote_types(dtype, torch.float32)


class Autoencoder:
    """diffusers' AutoencoderKL with the scaling of its latents.

    Args:
        vae: the network.
        name: the model's, for messages.
        resolution: side of the pictures the model was trained on, for messages.

    Attributes:
        factor: pixels per latent along an edge.
        channels: of the latents.
    """

    def __init__(self, vae: Any, name: str, resolution: int) -> None:
        self.vae, self._name, self._resolution = vae, name, resolution
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.channels = int(vae.config.latent_channels)
        self._dtype = latents_dtype(vae.dtype)
        self._scale = vae.config.scaling_factor
        self._shift: float = getattr(vae.config, "shift_factor", None) or 0.0

    @property
    def space(self) -> tuple[float, ...]:
        """Equal for models that share latents: pixels per latent, channels, scale and shift."""
        return self.factor, self.channels, round(self._scale, 6), self._shift

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Scaled posterior means [N, C, h, w] of pictures [N, 3, H, W] in [-1, 1].

        One picture at a time: memory stays low, and a latent does not depend on the rest of the batch.

        Raises:
            ModelError: if the pictures are not RGB or their sides do not suit the networks.
        """
        self._check(images)
        images = images.to(self.vae.device, self.vae.dtype)
        return self._scaled(torch.cat([self._means(image) for image in images.split(1)]))

    def encode(self, pictures: Tensor) -> Tensor:
        """The same of pictures that are being optimised, with gradients back to them.

        As many as hold ``TOGETHER`` pixels pass at once. With more of them nothing is stored for gradients but the
        pictures: each part is encoded a second time when its gradient is wanted.

        Raises:
            ModelError: see ``encode_images``.
        """
        self._check(pictures)
        pictures = pictures.to(self.vae.device, self.vae.dtype)
        parts = pictures.split(max(TOGETHER // pictures[0, 0].numel(), 1))
        if len(parts) > 1 and torch.is_grad_enabled():
            # Nothing in an encoder draws random numbers.
            done = [
                checkpoint(self._means, part, use_reentrant=False, preserve_rng_state=False) for part in parts
            ]
        else:
            done = [self._means(part) for part in parts]
        return self._scaled(torch.cat(done))

    def _means(self, pictures: Tensor) -> Tensor:
        return self.vae.encode(pictures).latent_dist.mode().to(self._dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [N, 3, H, W], clamped to [-1, 1] (NaN stays), of latents [N, C, h, w]; one at a time."""
        latents = latents / self._scale
        if self._shift:
            latents = latents + self._shift
        latents = latents.to(self.vae.device, self.vae.dtype)
        return torch.cat([self.vae.decode(z).sample.to(self._dtype) for z in latents.split(1)]).clamp(-1, 1)

    def _scaled(self, latents: Tensor) -> Tensor:
        return ((latents - self._shift) if self._shift else latents) * self._scale

    def _check(self, images: Tensor) -> None:
        suits = images.ndim == 4 and images.shape[1] == 3
        if not suits or images.shape[2] % self.factor or images.shape[3] % self.factor:
            raise ModelError(
                f"The model {self._name} takes RGB pictures whose sides are multiples of {self.factor}, "
                f"not {'x'.join(map(str, images.shape[1:]))}; it was trained at {self._resolution}."
            )
