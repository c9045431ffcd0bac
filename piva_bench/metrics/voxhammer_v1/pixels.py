"""PSNR and SSIM outside a region as VoxHammer's image_metrics.py computes them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr(first: Tensor, second: Tensor, where: Tensor) -> float | None:
    """Decibels of two pictures [3, H, W] in [0, 1] over the pixels of a mask [H, W]; None where they are equal."""
    error = float((first - second).square().mean(dim=0)[where].mean())
    return -10 * math.log10(error) if error > 0 else None


def ssim_map(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of two pictures [3, H, W] in [0, 1] at every pixel, [H, W], averaged over channels.

    Wang et al., IEEE TIP 13(4), 2004, with zeros beyond the border and moments by the window's weights.
    """
    offsets = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    window = torch.outer(weights, weights).expand(3, 1, WINDOW, WINDOW)

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values[None], window, padding=WINDOW // 2, groups=3)[0]

    one, other = mean(first), mean(second)
    spread_one, spread_other = mean(first * first) - one**2, mean(second * second) - other**2
    common = mean(first * second) - one * other
    similarity = ((2 * one * other + C1) * (2 * common + C2)) / (
        (one**2 + other**2 + C1) * (spread_one + spread_other + C2)
    )
    return similarity.mean(dim=0)
