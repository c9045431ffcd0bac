"""Sheets: many small pictures of one size as one large picture, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = 12
"""Pictures a row."""


def tile(images: NDArray[Any], columns: int = COLUMNS) -> NDArray[Any]:
    """Pictures [V, H, W, ...] as one sheet [rows * H, columns * W, ...]; places left over are 0."""
    count, height, width, *rest = images.shape
    rows = -(-count // columns)
    filled = np.zeros((rows * columns, height, width, *rest), images.dtype)
    filled[:count] = images
    grid = filled.reshape(rows, columns, height, width, *rest).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width, *rest))


def untile(sheet: NDArray[Any], count: int, height: int, width: int) -> NDArray[Any]:
    """The first ``count`` pictures [V, H, W, ...] of a sheet.

    Raises:
        ValueError: the sheet is no whole number of such pictures, or holds fewer.
    """
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    if sheet.shape[:2] != (rows * height, columns * width) or rows * columns < count:
        raise ValueError(f"a sheet of {sheet.shape[:2]} does not hold {count} pictures of {(height, width)}")
    grid = sheet.reshape(rows, height, columns, width, *sheet.shape[2:]).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * columns, height, width, *sheet.shape[2:])[:count])
