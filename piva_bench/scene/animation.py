"""Turning pictures side by side, as GIF or MP4: source, edits and counterfactual from all sides at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import cKDTree

from piva_bench.errors import UserError

Frames = npt.NDArray[np.uint8]
"""[N, H, W, 3]"""

SMALLEST = 192
"""Pixels a side that a picture is shown with at least: views of 64 pixels are enlarged by a whole factor."""
LABEL = 18
"""Pixels of the strip that holds the names."""


def side_by_side(columns: Mapping[str, Frames]) -> Frames:
    """Frames [N, h, w, 3] with the columns beside each other, their names above.

    Raises:
        UserError: no column, or columns of different numbers or sizes of pictures.
    """
    shapes = {frames.shape for frames in columns.values()}
    if len(shapes) != 1 or not all(frames.size for frames in columns.values()):
        raise UserError(
            f"an animation needs columns of one number and size of pictures, not {sorted(shapes)}"
        )
    count, height, width, _ = shapes.pop()
    factor = max(1, -(-SMALLEST // max(height, width)))
    strip = Image.new("RGB", (width * factor * len(columns), LABEL), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(12)
    for index, name in enumerate(columns):
        left = index * width * factor
        text = name
        while text and draw.textlength(text, font) > width * factor - 8:
            text = text[:-1]
        draw.text((left + 4, 2), text, fill="black", font=font)
    pictures = np.concatenate(list(columns.values()), axis=2).repeat(factor, axis=1).repeat(factor, axis=2)
    head = np.broadcast_to(np.asarray(strip), (count, *np.asarray(strip).shape))
    return np.concatenate([head, pictures], axis=1)


def write_turntable(path: Path, columns: Mapping[str, Frames], *, seconds: float = 6.0) -> Path:
    """Writes one turn, endlessly repeated.

    Args:
        path: ends in ``.gif`` or ``.mp4``.
        columns: name to frames, uint8 [N, H, W, 3].
        seconds: length of the turn.

    Raises:
        UserError: another suffix, columns that do not fit together, or no encoder for MP4.
    """
    frames = side_by_side(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        _write_gif(path, frames, seconds)
    elif path.suffix == ".mp4":
        _write_mp4(path, frames, seconds)
    else:
        raise UserError(f"an animation is written as .gif or .mp4, not {path.suffix or path.name!r}")
    return path


def _write_gif(path: Path, frames: Frames, seconds: float) -> None:
    # One palette for all frames: a palette a frame makes flat colours flicker.
    some = frames[:: max(1, len(frames) // 12)]
    palette = Image.fromarray(np.concatenate(list(some))).quantize(256, dither=Image.Dither.NONE).getpalette()
    assert palette is not None
    tree = cKDTree(np.array(palette).reshape(-1, 3))
    pictures = [_indexed(frame, tree, palette) for frame in frames]
    # GIF counts in hundredths of a second; players slow anything below two of them down.
    duration = max(20, round(seconds * 100 / len(frames)) * 10)
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=duration, loop=0, optimize=False
    )


def _indexed(frame: Frames, tree: cKDTree, palette: list[int]) -> Image.Image:
    """A frame in the palette's nearest colours; Pillow's own look-up is coarse, its white may become 250."""
    codes = frame.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, place = np.unique(codes, return_inverse=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    nearest = tree.query(colours)[1].astype(np.uint8)
    picture = Image.fromarray(nearest[place.reshape(codes.shape)]).convert("L")
    picture.putpalette(palette)
    return picture


def _write_mp4(path: Path, frames: Frames, seconds: float) -> None:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError("MP4 needs an encoder: pip install 'piva-bench[video]', or write a .gif") from error
    # H.264 in the colours every player knows wants even sides.
    height, width = (side + side % 2 for side in frames.shape[1:3])
    even = np.full((len(frames), height, width, 3), 255, np.uint8)
    even[:, : frames.shape[1], : frames.shape[2]] = frames
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=len(frames) / seconds, macro_block_size=1, codec="libx264", quality=8
    )
    writer.send(None)
    try:
        for frame in even:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
