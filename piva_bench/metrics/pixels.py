"""Distances between pixels, over whole pictures or over a region.

A region's value is a true mean over its pixels. (PIE-Bench's calculator blacks out the rest and averages over
the whole frame, which makes small regions look better; its numbers are not these.)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from piva_bench.metrics.protocol import Mask, Pixels, Undefined

QUANTISATION_MSE = 1 / 12 / 255**2
"""Mean squared rounding error of an 8-bit picture, values in [0, 1]: what no comparison can resolve below."""

PSNR_CEILING = -10 * math.log10(QUANTISATION_MSE)
"""58.92 dB: the PSNR reported for equal pictures, where the formula has no value."""

SSIM_MARGIN = 5
"""Pixels at the border whose 11x11 window is not inside the picture; left out of the whole-picture mean."""


def region(mask: Mask | None, *, inside: bool) -> Mask | Undefined:
    """The pixels inside or outside an edit mask, or why there are none."""
    if mask is None:
        return Undefined("the sample has no edit mask")
    chosen = mask if inside else ~mask
    if not chosen.any():
        return Undefined("the edit mask is empty" if inside else "the edit mask covers the whole picture")
    return chosen


def mse(first: Pixels, second: Pixels, where: Mask | Undefined | None = None) -> float | Undefined:
    """Mean squared difference over pixels and channels, values in [0, 1]."""
    if isinstance(where, Undefined):
        return where
    squares = (first.astype(np.float64) - second.astype(np.float64)) ** 2
    return float((squares if where is None else squares[where]).mean()) / 255**2


def psnr(first: Pixels, second: Pixels, where: Mask | Undefined | None = None) -> float | Undefined:
    """Peak signal-to-noise ratio in dB, at most `PSNR_CEILING`."""
    error = mse(first, second, where)
    return error if isinstance(error, Undefined) else -10 * math.log10(max(error, QUANTISATION_MSE))


def ssim_map(first: Pixels, second: Pixels) -> NDArray[np.float64]:
    """Structural similarity at every pixel, [H, W], averaged over channels.

    Wang et al., IEEE TIP 13(4), 2004: Gaussian window of sigma 1.5 and 11 pixels, K1 = .01, K2 = .03,
    population covariance, borders reflected.

    Raises:
        ValueError: a picture of less than 11 pixels a side.
    """
    _, similarity = structural_similarity(
        first,
        second,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(similarity, dtype=np.float64).mean(axis=2)


def ssim(first: Pixels, second: Pixels, where: Mask | Undefined | None = None) -> float | Undefined:
    """Mean structural similarity over the picture's interior, or over the pixels of a region.

    A window centred in the region may reach out of it by five pixels.
    """
    if isinstance(where, Undefined):
        return where
    similarity = ssim_map(first, second)
    inner = similarity[SSIM_MARGIN:-SSIM_MARGIN, SSIM_MARGIN:-SSIM_MARGIN]
    return float((inner if where is None else similarity[where]).mean())
