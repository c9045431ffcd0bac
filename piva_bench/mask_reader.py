"""The one reader of masks: bright marks the region, and what can be meant two ways is refused.

A mask is grey, of any depth: the brightest value says whether it counts to 1, 255 or 65535, and half of that is the
limit. Other ways in which programs save masks:

- painted in white on nothing (alpha): what is painted is the region;
- palettes: black and white as shown; two classes, the first of them black: the second is the region;
- in one colour on black: what is coloured is the region.

Labels of several classes, photographs, colours on white, black on nothing, a mask with nothing in it: refused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from piva_bench.errors import DataError
from piva_bench.picture_reader import is_turned

PLAIN = "save it in plain black and white, white where the region is"
HALF = 0.5


def to_mask(image: Image.Image) -> NDArray[np.bool_]:
    """The region a mask marks, bool [H, W].

    Raises:
        DataError: it marks nothing, or can be meant two ways; in one line.
    """
    name = getattr(image, "filename", "") or "the mask"
    if is_turned(image):
        image = ImageOps.exif_transpose(image)
    region = _region(image, name)
    if not region.any():
        raise DataError(f"{name} marks nothing: {PLAIN}")
    return region


def _region(image: Image.Image, name: str) -> NDArray[np.bool_]:
    if "A" in image.getbands() or "transparency" in image.info:
        layers = np.asarray(image.convert("RGBA")).astype(np.float64)
        alpha = layers[..., 3] / 255
        if alpha.min() < 1:
            return _painted(layers[..., :3], alpha, name)
    if image.mode == "P" and (region := _classes(image)) is not None:
        return region
    if image.mode in ("P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "PA"):
        return _coloured(np.asarray(image.convert("RGB")), np.asarray(image.convert("L")), name)
    grey = image.getchannel(0) if image.mode in ("LA", "La") else image
    return _grey(np.asarray(grey), name)


def _grey(values: NDArray[np.generic], name: str) -> NDArray[np.bool_]:
    """Half of what the brightest value says is white."""
    levels = values.astype(np.float64)
    top = levels.max(initial=0)
    if not np.isfinite(levels).all() or levels.min(initial=0) < 0:
        raise DataError(f"{name} has values that are negative or not finite: {PLAIN}")
    white = next((white for white in (1.0, 255.0, 65535.0) if white * HALF <= top <= white), None)
    if top == 0:
        white = 1.0
    if white is None:
        raise DataError(
            f"{name} ends at {top:g}, which is white neither of 0 to 1, 0 to 255 nor 0 to 65535 (labels?): {PLAIN}"
        )
    between = np.abs(levels / white - HALF) < HALF / 2
    if between.mean() > HALF:
        raise DataError(f"{name} is mostly grey, so perhaps a picture and no mask: {PLAIN}")
    return levels >= (128.0 if white == 255 else white * HALF)


def _painted(colours: NDArray[np.float64], alpha: NDArray[np.float64], name: str) -> NDArray[np.bool_]:
    """What is painted in white on nothing; or what is black and white, whatever shows through."""
    grey = colours.mean(axis=-1) / 255
    on_black, on_white = grey * alpha >= HALF, grey * alpha + 1 - alpha >= HALF
    seen = alpha >= HALF
    if (on_black == on_white).all():
        return on_black
    if seen.any() and (grey[seen] >= HALF).all():
        return seen
    raise DataError(
        f"{name} is partly transparent and what is painted is not white, so what is meant may be the painted or the "
        f"transparent part: {PLAIN}"
    )


def _classes(image: Image.Image) -> NDArray[np.bool_] | None:
    """A palette's second class; None if its colours themselves are to be looked at."""
    numbers = np.asarray(image)
    palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = np.unique(numbers)
    if not set(used) <= {0, 1} or palette[0].max() > 0:
        return None
    return numbers == 1


def _coloured(colours: NDArray[np.uint8], grey: NDArray[np.uint8], name: str) -> NDArray[np.bool_]:
    brightest, darkest = colours.max(axis=-1), colours.min(axis=-1)
    if (brightest.astype(int) - darkest < 64).all():
        return _grey(grey, name)
    white, black = darkest >= 128, brightest < 64
    colour = brightest >= 128
    kinds = {tuple(pixel) for pixel in (colours[colour] // 64).reshape(-1, 3).tolist()}
    if white.any() or not black.any() or len(kinds) > 1 or (colour | black).mean() < 1 - HALF / 10:
        raise DataError(f"{name} is coloured, with more than one colour on black (labels?): {PLAIN}")
    return colour
