"""Do the views of an edit show one object? Each is carried into its neighbour by depth and compared there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from piva_bench.metrics.protocol import Undefined
from piva_bench.scene.views import PosedViews

OCCLUSION = 0.02
"""Depths further apart than this share of the depth are different surfaces: one hides the other."""


def multi_view_consistency(views: PosedViews, *, closed: bool = True) -> float | Undefined:
    """Mean absolute colour difference, in [0, 1], of points that two neighbouring views both see.

    A point of view i is the one its depth names; view i + 1 sees it if its own depth agrees there. Colours are
    interpolated linearly. 0 is a perfectly matte, perfectly rendered object; shine and resampling cost a little,
    so read the value beside the source's own. Low is good.

    Args:
        views: in the order of a path, with depth.
        closed: whether the last view neighbours the first.

    Raises:
        DataError: the views have no depth.
    """
    views.need_depth("multi-view consistency")
    count = len(views)
    pairs = [(i, (i + 1) % count) for i in range(count if closed and count > 2 else count - 1)]
    differences = [_difference(views, i, j) for i, j in pairs]
    joined = np.concatenate(differences) if differences else np.zeros(0)
    return float(joined.mean()) if joined.size else Undefined("no point is seen by two neighbouring views")


def back_project(
    views: PosedViews, index: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Rows and columns of a view's pixels that hit something, and the points [P, 3] they hit."""
    depth = views.need_depth("back-projection")[index]
    rows, columns = np.nonzero(depth > 0)
    z = depth[rows, columns].astype(np.float64)
    fx, fy, cx, cy = views.cameras.intrinsics[index]
    local = np.stack([(columns + 0.5 - cx) / fx * z, -(rows + 0.5 - cy) / fy * z, -z], axis=1)
    pose = views.cameras.camera_to_world[index]
    return rows, columns, local @ pose[:3, :3].T + pose[:3, 3]


def _difference(views: PosedViews, first: int, second: int) -> NDArray[np.float64]:
    depth = views.need_depth("multi-view consistency")
    rows, columns, points = back_project(views, first)
    whole = views.images[first, rows, columns, 3] == 255
    rows, columns, points = rows[whole], columns[whole], points[whole]
    other = views.cameras.camera_to_world[second]
    there = (points - other[:3, 3]) @ other[:3, :3]
    reach = -there[:, 2]
    fx, fy, cx, cy = views.cameras.intrinsics[second]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = fx * there[:, 0] / reach + cx - 0.5, -fy * there[:, 1] / reach + cy - 0.5
    inside = (
        (reach > 0) & (x >= 0) & (y >= 0) & (x <= views.cameras.width - 1) & (y <= views.cameras.height - 1)
    )
    x, y, reach, rows, columns = (values[inside] for values in (x, y, reach, rows, columns))
    nearest = (np.rint(y).astype(int), np.rint(x).astype(int))
    seen = np.abs(depth[second][nearest] - reach) <= OCCLUSION * reach
    # Interpolation must not reach over an edge into another surface or the background.
    low_x, low_y = np.floor(x).astype(int), np.floor(y).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            corner = (
                np.minimum(low_y + dy, views.cameras.height - 1),
                np.minimum(low_x + dx, views.cameras.width - 1),
            )
            seen &= np.abs(depth[second][corner] - reach) <= 2 * OCCLUSION * reach
            seen &= views.images[second, ..., 3][corner] == 255
    colours = views.images[first, rows[seen], columns[seen], :3] / 255.0
    picture = views.images[second, ..., :3] / 255.0
    place = np.stack([y[seen], x[seen]])
    shown = np.stack([map_coordinates(picture[..., c], place, order=1) for c in range(3)], axis=1)
    return np.abs(colours - shown).mean(axis=1)
