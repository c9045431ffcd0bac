"""Between samples, tensors and 8-bit pictures.

Everything that is measured is an 8-bit picture that was saved: methods get the source as a tensor in [-1, 1],
and what they return is quantised before any metric sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample

Pixels = NDArray[np.uint8]


def to_tensor(pixels: Pixels) -> Tensor:
    """uint8 [H, W, 3] to float32 [3, H, W] in [-1, 1]; ``to_pixels`` gives the same bytes back."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(127.5).sub(1)


def to_pixels(image: Tensor) -> Pixels:
    """A float [3, H, W] in [-1, 1] to uint8 [H, W, 3], rounded to the nearest level, clamped."""
    levels = image.detach().float().cpu().add(1).mul(127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def source_pixels(sample: Sample, resolution: int) -> Pixels:
    """The source, uint8 [resolution, resolution, 3].

    Raises:
        DataError: the file is missing or torn.
    """
    return _resized(sample.load_source(), resolution)


def reference_pixels(sample: Sample, resolution: int) -> Pixels | None:
    """The counterfactual, uint8 [resolution, resolution, 3], if the sample has one.

    Raises:
        DataError: the file is missing or torn.
    """
    picture = sample.load_reference()
    return None if picture is None else _resized(picture, resolution)


def mask_pixels(sample: Sample, resolution: int) -> NDArray[np.bool_] | None:
    """The edit region, bool [resolution, resolution], if the sample has one."""
    mask = sample.load_mask()
    if mask is None or mask.shape == (resolution, resolution):
        return mask
    resized = Image.fromarray(mask).resize((resolution, resolution), Image.Resampling.NEAREST)
    return np.asarray(resized, dtype=bool)


def _resized(picture: Image.Image, resolution: int) -> Pixels:
    if picture.size != (resolution, resolution):
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(picture, dtype=np.uint8)
