"""Pictures of any size and their masks, placed in the square that a model edits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.mask_reader import to_mask
from piva_bench.picture_reader import to_rgb


@dataclass(frozen=True)
class Frame:
    """How a picture lies in its square.

    Attributes:
        side: of the square.
        box: left, top, right, bottom of the picture in it; the rest is padding.
        original: width and height the picture came with.
        notes: what was done to it, in a few words each; empty if it was taken as it is.
    """

    side: int
    box: tuple[int, int, int, int]
    original: tuple[int, int]
    notes: tuple[str, ...]

    def crop(self, picture: Image.Image) -> Image.Image:
        """The picture in a square, without the padding."""
        return picture.crop(self.box)


def fit(image: Image.Image, side: int) -> tuple[Image.Image, Frame]:
    """A picture inside a square of the given side: its long side fills it, the rest mirrors the picture."""
    picture, notes = to_rgb(image)
    original = picture.size
    scale = side / max(original)
    width, height = (max(round(length * scale), 1) for length in original)
    if (width, height) != original:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        notes.append(f"resized from {original[0]}x{original[1]} to {width}x{height}")
    left, top = (side - width) // 2, (side - height) // 2
    if (width, height) != (side, side):
        padding = ((top, side - height - top), (left, side - width - left), (0, 0))
        picture = Image.fromarray(np.pad(np.asarray(picture), padding, mode="symmetric"))
        notes.append(f"padded to {side}x{side} with its mirror image (cut off again)")
    return picture, Frame(side, (left, top, left + width, top + height), original, tuple(notes))


def fit_mask(mask: Image.Image, frame: Frame) -> np.ndarray:
    """A mask picture placed like its picture, bool [side, side]; padding is not edited.

    Raises:
        DataError: it is no mask that can be read one way only (see `piva_bench.mask_reader`), has another shape than
            the picture, or nothing of it is left at this size.
    """
    region = to_mask(mask)
    name = getattr(mask, "filename", "") or "the mask"
    height, width = region.shape
    across, down = frame.original
    # A mask may be larger or smaller than its picture, with its sides rounded.
    if abs(width * down / across - height) > 1 and abs(height * across / down - width) > 1:
        raise DataError(
            f"{name} is {width}x{height} px, which is not the shape of its picture ({across}x{down}, upright): "
            "make it from that very picture"
        )
    left, top, right, bottom = frame.box
    small = Image.fromarray(region).resize((right - left, bottom - top), Image.Resampling.NEAREST)
    placed = np.zeros((frame.side, frame.side), dtype=bool)
    placed[top:bottom, left:right] = np.asarray(small)
    if not placed.any():
        raise DataError(f"{name} marks so little that nothing of it is left at {frame.side} px")
    return placed
