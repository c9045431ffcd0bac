"""Degradations an evaluator must see through: what autoencoders, resizing and lossy files do.

All functions take and return float tensors [N, 3, H, W] in [-1, 1]; none of them recolours anything, so that
labels stay true.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8
"""Side of the blocks that are quantised, as in JPEG (ITU-T T.81)."""


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation ``sigma`` pixels, reflected at the border."""
    radius = max(1, math.ceil(2.5 * sigma))
    grid = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (grid / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    images = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    images = F.conv2d(images, kernel[:, :, :, None], groups=images.shape[1])
    return F.conv2d(images, kernel[:, :, None, :], groups=images.shape[1])


def shrink_and_grow(images: Tensor, factor: float) -> Tensor:
    """Resize by ``factor`` and back: loses detail as a low-resolution copy does."""
    size = images.shape[-2:]
    small = F.interpolate(images, scale_factor=factor, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False)


def quantise_blocks(images: Tensor, step: Tensor) -> Tensor:
    """Round the cosine coefficients of 8x8 blocks to multiples of ``step`` ([N], 0 leaves a picture alone).

    JPEG's loss without its entropy coding; the mean of a block is kept exactly. Sides must be multiples of 8.
    """
    n, c, h, w = images.shape
    index = torch.arange(BLOCK, dtype=images.dtype, device=images.device)
    basis = torch.cos(math.pi / BLOCK * (index[None] + 0.5) * index[:, None]) * math.sqrt(2 / BLOCK)
    basis[0] = math.sqrt(1 / BLOCK)
    blocks = images.reshape(n, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK)
    coefficients = torch.einsum("ui,nchiwj,vj->nchuwv", basis, blocks, basis)
    width = step.clamp(min=1e-6).view(n, 1, 1, 1, 1, 1)
    rounded = torch.round(coefficients / width) * width
    rounded[:, :, :, 0, :, 0] = coefficients[:, :, :, 0, :, 0]
    return torch.einsum("ui,nchuwv,vj->nchiwj", basis, rounded, basis).reshape(n, c, h, w)


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """A training batch as it may come back from a generator or a file: a quarter stays clean.

    Each other quarter is blurred (sigma to 1.2 px), resized (to 0.5) or quantised; a third gets noise on top.
    Half are mirrored: no word of the studio tells left from right. Strengths were chosen by eye to span a 64
    px autoencoder's reconstructions (26 to 34 dB).
    """
    n = images.shape[0]

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.rand(*size, generator=generator) * (high - low) + low

    order = torch.randperm(n, generator=generator)
    images = images[order]
    quarter = n // 4
    parts = [
        images[: n - 3 * quarter],
        images[n - 3 * quarter : n - 2 * quarter],
        images[n - 2 * quarter : n - quarter],
        images[n - quarter :],
    ]
    if quarter:
        parts[1] = blur(parts[1], uniform(0.3, 1.2, 1).item())
        parts[2] = shrink_and_grow(parts[2], uniform(0.5, 0.95, 1).item())
        parts[3] = quantise_blocks(parts[3], uniform(0.0, 0.3, quarter))
    images = torch.empty_like(images).index_copy_(0, order, torch.cat(parts))
    strength = uniform(0.0, 0.1, n) * (torch.rand(n, generator=generator) < 1 / 3)
    images = images + strength.view(n, 1, 1, 1) * torch.randn(images.shape, generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    return torch.where(mirrored.view(n, 1, 1, 1), images.flip(-1), images).clamp(-1, 1)
