"""Colour in CIELAB: how far it drifted where nothing was to change, and whether it became more saturated.

Pictures are read as sRGB under D65 with the 2 degree observer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from piva_bench.metrics.protocol import Mask, Pixels, Undefined


def chroma(picture: Pixels) -> NDArray[np.float64]:
    """C*ab of every pixel, [H, W]: the distance from grey, 0 to about 134 in sRGB."""
    lab = rgb2lab(picture.astype(np.float64) / 255)
    return np.hypot(lab[..., 1], lab[..., 2])


def colour_drift(first: Pixels, second: Pixels, where: Mask | Undefined | None = None) -> float | Undefined:
    """Mean CIEDE2000 difference (Sharma et al. 2005); about 1 is just noticeable, 0 means equal."""
    if isinstance(where, Undefined):
        return where
    lab = [rgb2lab(picture.astype(np.float64) / 255) for picture in (first, second)]
    difference = deltaE_ciede2000(*lab)
    return float((difference if where is None else difference[where]).mean())


def saturation_change(
    first: Pixels, second: Pixels, where: Mask | Undefined | None = None
) -> float | Undefined:
    """Mean chroma of the second picture minus that of the first: positive when colours became stronger."""
    if isinstance(where, Undefined):
        return where
    change = chroma(second) - chroma(first)
    return float((change if where is None else change[where]).mean())
