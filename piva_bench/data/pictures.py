"""Pictures as people have them, made into what a model edits: 8-bit RGB, upright, square, of one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels."""


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


def to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Any picture Pillow opens as upright 8-bit RGB, and what had to be done for it.

    Orientation tags are followed, transparency is laid on white, 16-bit and floating-point grey is scaled to
    8 bits, palettes, grey and CMYK become RGB.
    """
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
        notes.append("its first frame taken")
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright by its EXIF tag")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        image = _to_eight_bits(image)
        notes.append("reduced to 8 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        layers = image.convert("RGBA")
        if layers.getchannel("A").getextrema() != (255, 255):
            notes.append("laid on white where transparent")
        canvas = Image.new("RGBA", layers.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(canvas, layers)
    elif image.mode != "RGB":
        notes.append(f"converted from {'greyscale' if image.mode in ('L', '1') else image.mode}")
    return image.convert("RGB"), notes


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F":
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0  # pictures in [0, 1], or in [0, 255]
    else:
        scale = 1.0 if image.mode == "I" and values.max(initial=0) <= 255 else 255 / 65535
    return Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))


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
    """A mask picture (bright = edit) placed like its picture, bool [side, side]; padding is not edited."""
    left, top, right, bottom = frame.box
    small = to_rgb(mask)[0].convert("L").resize((right - left, bottom - top), Image.Resampling.NEAREST)
    placed = np.zeros((frame.side, frame.side), dtype=bool)
    placed[top:bottom, left:right] = np.asarray(small) >= 128
    return placed
