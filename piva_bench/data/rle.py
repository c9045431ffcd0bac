"""PIE-Bench's run-length masks.

A mask is a flat list ``[start, length, start, length, ...]`` over the picture's pixels in row-major order;
pixels inside a run are the region to edit. The reference decoder (PnPInversion, ``evaluation/evaluate.py``)
cuts a run at the end of the picture, passes over one that begins right there or has no length, and then sets the
outermost pixel ring, "to avoid annotation errors in boundary"; `decode_mask` does the same. A run that begins further
out is refused though the reference decoder passes over it, too: such a mask belongs to a larger picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_rle(values: Any, pixels: int) -> str | None:
    """What makes `values` no run-length mask over `pixels` pixels, in a few words; None when it is one."""
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        return f"is a {type(values).__name__}, not a list of integers"
    for position, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int):
            return f"holds {_short(value)} at position {position}, not an integer"
    if len(values) % 2:
        return f"has an odd number of values ({len(values)}), not (start, length) pairs"
    for position in range(0, len(values), 2):
        if not 0 <= values[position] <= pixels:
            return (
                f"starts a run at {_short(values[position])}, outside 0..{pixels - 1} (position {position})"
            )
    return None


def empty_runs(values: Sequence[int], pixels: int) -> int:
    """How many runs of a mask over `pixels` pixels begin at its end or have a negative length: they hold no pixel."""
    return sum(
        start == pixels or length < 0 for start, length in zip(values[0::2], values[1::2], strict=True)
    )


def decode_mask(rle: Sequence[int], height: int, width: int, border: bool = True) -> NDArray[np.bool_]:
    """Decode a run-length mask to a boolean array [height, width], True = region to edit.

    Args:
        rle: flat ``[start, length, ...]``, row-major, 0-based; a run past the last pixel is cut there.
        height: rows of the picture.
        width: columns of the picture.
        border: set the outermost pixel ring, as the reference decoder always does.

    Raises:
        ValueError: the runs are no mask of this size (see `check_rle`).
    """
    pixels = height * width
    fault = check_rle(rle, pixels)
    if fault:
        raise ValueError(f"the mask {fault}")
    flat = np.zeros(pixels, dtype=bool)
    for start, length in zip(rle[0::2], rle[1::2], strict=True):
        flat[start : start + max(0, min(length, pixels - start))] = True
    mask = flat.reshape(height, width)
    if border:
        mask[0] = mask[-1] = True
        mask[:, 0] = mask[:, -1] = True
    return mask


def encode_mask(mask: NDArray[np.bool_]) -> list[int]:
    """Encode a boolean array [height, width] as ``[start, length, ...]``, row-major.

    The inverse of ``decode_mask(..., border=False)``.
    """
    padded = np.concatenate(([False], np.asarray(mask, dtype=bool).ravel(), [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    starts, ends = edges[0::2], edges[1::2]
    return np.stack([starts, ends - starts], axis=1).ravel().tolist()


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
