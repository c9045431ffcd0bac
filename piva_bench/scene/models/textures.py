"""Pictures of models' files as textures, and the files that models name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError
from piva_bench.picture_reader import decode, to_rgba
from piva_bench.scene.models.surface import Floats, Texture, to_display, to_light

LARGEST = 4096
"""Side of the largest texture that is kept; views are smaller by far."""


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """A picture's pixels, uint8 [H, W, 4] RGBA.

    Colour profiles and EXIF orientation are not followed: glTF forbids it (section 3.9.2 and 3.6.1.3), and
    what paints textures for other formats ignores them too. 16-bit values are scaled.

    Raises:
        DataError: in one line, without the picture's name.
    """
    if data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n":
        raise DataError("it is a KTX2 picture, which is not read")
    return _reduced(np.array(to_rgba(decode(data, "it"), as_stored=True)[0]))


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    times = -(-max(pixels.shape[:2]) // LARGEST)
    if times == 1:
        return pixels
    height, width = (max(side // times, 1) for side in pixels.shape[:2])
    down, across = min(times, pixels.shape[0]), min(times, pixels.shape[1])
    cells = pixels[: height * down, : width * across].reshape(height, down, width, across, 4)
    light = to_light(np.arange(256) / 255).astype(np.float32)
    total = np.zeros((height, width, 4), np.float32)
    for row in range(down):
        for column in range(across):
            part = cells[:, row, :, column]
            total += np.concatenate([light[part[..., :3]], part[..., 3:] / np.float32(255)], axis=-1)
    total /= down * across
    total[..., :3] = to_display(total[..., :3])
    return np.rint(total * 255).astype(np.uint8)


def mirrored(texture: Texture, uv: Floats, axes: tuple[bool, bool]) -> tuple[Texture, Floats]:
    """A texture that goes on as its mirror image along u, along v: beside itself turned over, at half the pace."""
    pixels, pace = texture.pixels, np.ones(2)
    for axis, wanted in enumerate(axes):
        if wanted:
            pixels = np.concatenate([pixels, np.flip(pixels, 1 - axis)], axis=1 - axis)
            pace[axis] = 0.5
    return Texture(pixels, texture.repeat, texture.smooth), uv * pace


def find_beside(folder: Path, name: str) -> Path | None:
    r"""The file that a model names, in the model's folder or below it; None if it is not there.

    Paths of other machines and systems are followed as far as they lead here: of ``C:\maps\wood.png`` first
    ``maps/wood.png``, then ``wood.png``; upper and lower case may differ. What lies elsewhere is not looked at.
    """
    parts = [part for part in name.strip().strip('"').replace("\\", "/").split("/") if part not in ("", ".")]
    try:
        for first in range(len(parts)):
            tail = parts[first:]
            if ".." in tail or ":" in tail[0]:
                continue
            if (found := _below(folder, tail)) is not None:
                return found
    except (OSError, ValueError):  # a name that no file system takes
        return None
    return None


def _below(folder: Path, tail: list[str]) -> Path | None:
    exact = folder.joinpath(*tail)
    if exact.is_file():
        return exact
    at = folder
    for part in tail:
        alike = [each for each in at.iterdir() if each.name.lower() == part.lower()] if at.is_dir() else []
        if len(alike) != 1:
            return None
        at = alike[0]
    return at if at.is_file() else None


def texture_file(folder: Path, name: str, known: dict[str, Any]) -> NDArray[np.uint8]:
    """The pixels of a picture that a model names; each file is read once.

    Raises:
        DataError: it is not there or no picture; in one line without its name.
    """
    if name not in known:
        path = find_beside(folder, name)
        if path is None:
            raise DataError("it is not beside the model: put it there")
        try:
            known[name] = decode_picture(path.read_bytes())
        except OSError as error:
            raise DataError(f"it cannot be read ({error.strerror or error})") from error
    return known[name]
