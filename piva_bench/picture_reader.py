"""The one reader of picture files: whatever Pillow opens becomes upright 8-bit sRGB, or a line says why not.

What is read how, the same for datasets, own pictures, captures and edits made elsewhere:

- transparency is laid on white, or kept (`to_rgba`);
- orientation tags are followed;
- colour profiles (ICC) are converted to sRGB with Little CMS; one that is sRGB already leaves the pixels as they are;
- 16-bit values are scaled so that 65535 is white, floating-point values so that 1 is;
- of animations and bursts the first frame is taken;
- palettes, grey, CMYK and Lab become RGB.

Refused: integers of 32 bits, floating-point values beyond 0 to 1, 16-bit values that end below a quarter (10 to 14 bits
kept in 16), raw files of cameras, and what is no picture. Masks have a reader of their own, `piva_bench.mask_reader`.
"""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from piva_bench.errors import DataError

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels."""

DARKEST_WHITE = 0x4000
"""16-bit values that end below this are taken for fewer bits kept in 16, whose white nobody knows."""

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_SCALED_TO_SIXTEEN = ("PNG", "PPM", "JPEG2000")
"""Formats whose grey Pillow may give as integers of 32 bits, scaled to 16."""

_ORIENTATION = 0x0112
_TURNED = "piva_bench turned"
_SAME = 2
"""Levels that a profile may move a colour by and still be sRGB: rounding, and its authors' digits."""


def decode(data: bytes, name: str) -> Image.Image:
    """A picture file's first frame, loaded and not yet changed.

    Args:
        data: the whole file.
        name: what messages call it.

    Raises:
        DataError: it is no whole picture, or of a kind that cannot be read; the line names the cure.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, of odd tags: neither changes what is read
            image = Image.open(io.BytesIO(data))
            # Pillow turns TIFF files while it loads them, and forgets the tag. Of other files the tag is asked for
            # once they are loaded: asking loads them, and what goes wrong then must not pass unseen.
            tags: Any = getattr(image, "tag_v2", {})
            image.info[_TURNED] = tags.get(_ORIENTATION) in range(2, 9)
            _refuse_thumbnail(tags, name)
            image.load()
    except DataError:
        raise
    except (
        Exception
    ) as error:  # what Pillow's decoders meet in torn, foreign and hostile files is of a dozen types
        raise DataError(f"{name} is no whole picture{_cure(data, error)}") from error
    image.filename = name
    return image


def is_turned(image: Image.Image) -> bool:
    """Whether an orientation tag turns or mirrors the picture."""
    return bool(image.info.get(_TURNED)) or _orientation(image) in range(2, 9)


def to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A picture as upright 8-bit sRGB, transparency laid on white, and what had to be done for it.

    Raises:
        DataError: its values have no known white.
    """
    read, notes = _read(image)
    if read.mode == "RGBA":
        if read.getchannel("A").getextrema() != (255, 255):
            notes.append("laid on white where transparent")
        read = Image.alpha_composite(Image.new("RGBA", read.size, (*BACKGROUND, 255)), read).convert("RGB")
    return read, notes


def to_rgba(image: Image.Image, *, as_stored: bool = False) -> tuple[Image.Image, list[str]]:
    """A picture as 8-bit RGBA (straight alpha), and what had to be done for it.

    Args:
        image: the picture.
        as_stored: whether orientation tags and colour profiles are passed over, as glTF wants it of textures.

    Raises:
        DataError: its values have no known white.
    """
    read, notes = _read(image, as_stored)
    return read.convert("RGBA"), notes


def _read(image: Image.Image, as_stored: bool = False) -> tuple[Image.Image, list[str]]:
    """RGB, or RGBA where the picture has transparency, and notes."""
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append("its first frame taken")
    profile = None if as_stored else image.info.get("icc_profile")
    if image.mode in ("RGBa", "La"):  # premultiplied
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    # Before anything else: Pillow's copies forget what file they are of.
    if image.mode in (*SIXTEEN_BITS, "I", "F"):
        image = _to_eight_bits(image)
        notes.append("reduced to 8 bits")
    if not as_stored and is_turned(image):
        notes.append("turned upright by its EXIF tag")
        image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
    else:
        alpha = None
        if image.mode != "RGB":
            notes.append(f"converted from {'greyscale' if image.mode in ('L', '1') else image.mode}")
    colours = _to_srgb(image, profile, notes)
    if alpha is not None:
        colours.putalpha(alpha)
    return colours, notes


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as L, or LA where one of its levels is transparent."""
    values = np.asarray(image, dtype=np.float64)
    name = getattr(image, "filename", "") or "the picture"
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1 + 1e-3:
            raise DataError(
                f"{name} has floating-point values that do not lie from 0 (black) to 1 (white): nobody knows "
                "where its white is; scale them, or save it with 8 or 16 bits"
            )
        white = 1.0
    else:
        if image.mode == "I" and image.format not in _SCALED_TO_SIXTEEN:
            raise DataError(
                f"{name} has integers of 32 bits, or signed ones, and nobody knows where their white is: save it "
                "with 8 or 16 bits"
            )
        if 0 < values.max() < DARKEST_WHITE:
            raise DataError(
                f"{name} has 16-bit values that end at {values.max():.0f}, so perhaps fewer bits kept in 16: "
                "scale them so that white is 65535, or save it with 8 bits"
            )
        white = 65535.0
    small = Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        small.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    if exif := image.info.get("exif"):
        small.info["exif"] = exif
    small.info[_TURNED] = image.info.get(_TURNED, False)
    return small


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """RGB; the profile is followed where it can be, and passed over with a note where it cannot."""
    if profile is None or image.mode == "LAB":
        return image.convert("RGB")
    try:
        space, transform = _transform(profile)
        if space == "CMYK" and image.mode != "CMYK":
            raise ValueError("a profile of inks for a picture of light")
        if space == "L" and image.convert("RGB").convert("L").convert("RGB") != image.convert("RGB"):
            raise ValueError("a profile of greys for a picture in colour")
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):
        notes.append("its colour profile passed over, which cannot be read or is another kind of picture's")
        return image.convert("RGB")
    # Grey and palettes with a profile of RGB: the profile is of the colours they become.
    prepared = image if space == "CMYK" else image.convert("RGB").convert(space)
    if transform is None:
        return prepared.convert("RGB")
    notes.append("converted to sRGB by its colour profile")
    converted = ImageCms.applyTransform(prepared, transform)
    assert converted is not None, "it is not made in place"
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str, Any]:
    """Mode that a profile speaks of, and the way to sRGB; None where that moves no colour by more than rounding."""
    opened = ImageCms.getOpenProfile(io.BytesIO(profile))
    space = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(opened.profile.xcolor_space.strip())
    if space is None:
        raise ValueError(f"profile of {opened.profile.xcolor_space}")
    transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), space, "RGB")
    if space == "CMYK":
        return space, transform
    levels = np.linspace(0, 255, 18 if space == "RGB" else 256).round().astype(np.uint8)
    if space == "RGB":
        tried = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3))
    else:
        tried = Image.fromarray(levels[None])
    shown = ImageCms.applyTransform(tried, transform)
    moved = np.abs(np.asarray(shown).astype(int) - np.asarray(tried.convert("RGB")))
    return space, transform if moved.max() > _SAME else None


def reading_mark(data: bytes, mode: str) -> str:
    """What fingerprints over files' bytes add where the pixels are not those of a plain conversion; else nothing.

    Args:
        data: a file. What cannot be read has no mark.
        mode: RGB or RGBA, what is converted to.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            kinds = ("1", "L", "P", "RGB", "CMYK", "YCbCr", *(("LA", "RGBA") if mode == "RGBA" else ()))
            clear = "transparency" in opened.info and mode == "RGB"
            # A PNG is decoded to look for the tag; only one that has it is worth that.
            tagged = opened.format != "PNG" or b"eXIf" in data or b"Raw profile type" in data
            turned = tagged and is_turned(opened)
            if opened.mode in kinds and not clear and not turned and not follows_profile(data):
                return ""
        image = decode(data, "the picture")
        read, _ = to_rgb(image) if mode == "RGB" else to_rgba(image)
    except Exception:  # no picture
        return ""
    return "" if read.size == image.size and read.tobytes() == image.convert(mode).tobytes() else " to sRGB"


def follows_profile(data: bytes) -> bool:
    """Whether a file has a colour profile that moves its colours; looked at without decoding a pixel."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            profile = image.info.get("icc_profile")
        return profile is not None and _transform(profile)[1] is not None
    except Exception:  # no picture, or a profile that is passed over
        return False


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # a torn tag is none
        return None


def _refuse_thumbnail(tags: Any, name: str) -> None:
    """Raw files of many cameras are TIFF files whose first picture is a small one of the true picture."""
    if 50706 in tags or (tags.get(254) == 1 and 330 in tags):  # DNGVersion; NewSubfileType with SubIFDs
        raise DataError(f"{name} is a camera's raw file: develop it, and save it as JPEG, PNG or TIFF")


_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def _cure(data: bytes, error: Exception) -> str:
    """What the file is instead, and what helps."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return ": the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return " that is read here, but HEIC: save it as JPEG or PNG"
    if head.startswith(b"version https://git-lfs"):
        return ", but a pointer of Git LFS: `git lfs pull` gets it"
    if head.startswith((b"<!doctype html", b"<html")):
        return ", but a web page: get it again"
    if head.startswith((b"<svg", b"<?xml")):
        return ", but a drawing (SVG): export it as PNG"
    if data[:4] in (b"II*\0", b"MM\0*") and data[8:10] == b"CR":
        return ", but a camera's raw file: develop it, and save it as JPEG, PNG or TIFF"
    if isinstance(error, Image.DecompressionBombError):
        return f" that is read here: {error}"
    return ""
