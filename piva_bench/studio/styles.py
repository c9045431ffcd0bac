"""Styles: a finished photograph redrawn from its colour, outlines and light."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from piva_bench.drawing.parts import Floats


def outlines(distance: Floats, ids: npt.NDArray[np.uint8], normals: Floats) -> Floats:
    """Where a draughtsman would draw a line, in [0, 1]: borders of things, steps in depth, creases.

    Args:
        distance: [H, W] distance to the eye.
        ids: [H, W] thing identifiers.
        normals: [H, W, 2] x and y of the surface normal.
    """
    edge = np.zeros(distance.shape, np.float32)
    for axis in (0, 1):
        step = np.abs(np.roll(distance, -1, axis) - distance) > 0.06
        border = np.roll(ids, -1, axis) != ids
        crease = np.abs(np.roll(normals, -1, axis) - normals).sum(-1) > 0.7
        thing = (ids >= 2) | (np.roll(ids, -1, axis) >= 2)
        line = (border | ((step | crease) & thing)).astype(np.float32)
        edge = np.maximum(edge, np.maximum(line, np.roll(line, 1, axis)))
    edge[0], edge[-1], edge[:, 0], edge[:, -1] = 0, 0, 0, 0
    return edge


def apply_style(style: str, colour: Floats, edge: Floats) -> Floats:
    """Redraw a picture.

    Args:
        style: ``photo``, ``sketch``, ``cartoon`` or ``sepia``.
        colour: [H, W, 3] photograph in [0, 1].
        edge: [H, W] share of outline in each pixel.
    """
    if style == "photo":
        return colour
    luminance = (colour @ np.array([0.2126, 0.7152, 0.0722], np.float32))[..., None]
    line = edge[..., None]
    if style == "sketch":
        paper = np.array([0.97, 0.96, 0.93], np.float32)
        return paper * (0.38 + 0.62 * np.sqrt(luminance)) * (1 - 0.85 * np.clip(1.4 * line, 0, 1))
    if style == "cartoon":
        grey = luminance
        vivid = np.clip(grey + 1.5 * (colour - grey), 0, 1)
        flat = (np.floor(np.minimum(vivid, 0.999) * 4) + 0.5) / 4
        return np.clip(flat * 1.1, 0, 1) * (1 - np.clip(1.6 * line, 0, 1))
    if style == "sepia":
        tone = np.array([1.0, 0.84, 0.62], np.float32) * (0.15 + 0.88 * luminance**0.8)
        y, x = np.mgrid[-1 : 1 : colour.shape[0] * 1j, -1 : 1 : colour.shape[1] * 1j]
        return tone * (1 - 0.22 * (x * x + y * y))[..., None].astype(np.float32)
    raise ValueError(f"no style {style!r}")
