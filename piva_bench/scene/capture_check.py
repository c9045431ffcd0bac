"""Whether a capture can be an object seen from around, before minutes go into its field; if not, the likely cause."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from piva_bench.errors import DataError
from piva_bench.scene.cameras import Cameras, Floats
from piva_bench.scene.views import PosedViews

FEWEST = 4
"""Views below which nothing is fitted."""
FEW = 16
"""Views below which a field is a guess, which is said."""
NARROWEST = 20.0
"""Degrees that the most different views must be apart."""
MOST = 0.9
"""Share of the cameras that must have the object in their picture."""
PLAIN = 0.8
"""Share of the pixels at the pictures' border that must have one colour for it to be the background's."""
LEVELS = 24
"""How far such pixels may be off that colour."""
ROUGH = 3
"""How far the background may be off black or white and still be that."""

Note = Callable[[str], None]


def check_cameras(cameras: Cameras, note: Note) -> Floats:
    """The point that the cameras look at, [3].

    Args:
        cameras: of a capture.
        note: told what may be wrong, in a line each.

    Raises:
        DataError: too few views, or no object that is seen from around; with the likely cause.
    """
    if len(cameras) < FEWEST:
        raise DataError(f"{len(cameras)} views are too few for a field: at least {FEWEST}, better 50 or more")
    axes = -cameras.camera_to_world[:, :3, 2]
    angle = float(np.degrees(np.arccos(np.clip((axes @ axes.T).min(), -1, 1))))
    centre = common_point(cameras)
    seeing = sees(cameras, centre)
    if angle < NARROWEST:
        raise DataError(
            f"all cameras look the same way, within {angle:.0f} degrees (a forward-facing set): only objects seen from "
            "around are edited"
        )
    if seeing.mean() < MOST:
        raise DataError(_likely_cause(cameras, seeing))
    if not seeing.all():
        lost = int((~seeing).sum())
        note(f"{lost} of {len(cameras)} views do not show the point that the others look at")
    if len(cameras) < FEW:
        note(f"{len(cameras)} views are few: what none of them shows is a guess")
    up = cameras.camera_to_world[:, :3, 1].mean(axis=0)
    if np.linalg.norm(up) > 0.3 and up[2] < 0.5 * np.linalg.norm(up):
        x, y, z = ((up / np.linalg.norm(up)).round(1) + 0.0).tolist()
        note(
            f"the cameras' up is ({x:.1f}, {y:.1f}, {z:.1f}) on average, not z: the turntable, which turns about z, "
            "will look askew; turn the poses so that z is up"
        )
    return centre


def _likely_cause(cameras: Cameras, seeing: np.ndarray) -> str:
    poses = cameras.camera_to_world
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    if sees_common_point(cameras, poses @ flip):
        # Turned round, cameras that look outwards see the common point, too; but their pictures are not upside down.
        if poses[:, 2, 1].mean() < 0:
            return (
                "no camera has the object in front of it, but with y and z flipped they do: the poses have OpenCV's "
                "axes (y down, z forward); multiply the second and third column of each transform_matrix by -1"
            )
        return "the cameras look outwards, away from each other: only objects seen from around are edited"
    inverse = np.linalg.inv(poses)
    for matrices, and_axes in ((inverse, ""), (inverse @ flip, ", and OpenCV's axes: flip y and z then")):
        if sees_common_point(cameras, matrices):
            return (
                "the cameras do not look at a common point, but their inverses do: each transform_matrix is "
                f"world-to-camera where camera-to-world is wanted; invert it{and_axes}"
            )
    return (
        f"only {int(seeing.sum())} of {len(seeing)} cameras have the point in view that they look at together: only "
        "objects seen from around are edited (or the poses belong to other pictures)"
    )


def sees_common_point(cameras: Cameras, poses: Floats) -> bool:
    """Whether the same lenses at other poses have their common point in view."""
    other = Cameras(poses, cameras.intrinsics, cameras.width, cameras.height)
    return bool(sees(other, common_point(other)).mean() >= MOST)


def common_point(cameras: Cameras) -> Floats:
    """The point [3] that the cameras' axes pass nearest, by least squares.

    Cameras side by side leave the distance open; the smallest one fitting is taken.
    """
    axes = -cameras.camera_to_world[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    sides = (across @ cameras.positions[:, :, None]).sum(0)[:, 0]
    return np.linalg.lstsq(across.sum(0), sides, rcond=None)[0]


def sees(cameras: Cameras, point: Floats) -> np.ndarray:
    """[N] whether the point is in front of each camera and inside its picture."""
    columns, rows, depth = project(cameras, point)
    # Cameras that turn on the spot have their common point in themselves, rounding apart.
    near = 1e-3 * np.linalg.norm(cameras.positions - point, axis=1).max() + 1e-6 * np.abs(point).max()
    inside = (columns >= 0) & (columns <= cameras.width) & (rows >= 0) & (rows <= cameras.height)
    return np.asarray((depth > near) & inside)


def project(cameras: Cameras, point: Floats) -> tuple[Floats, Floats, Floats]:
    """Column, row [N] in pixels and depth [N] along the axis of a point in each picture."""
    local = np.einsum("nij,ni->nj", cameras.camera_to_world[:, :3, :3], point - cameras.positions)
    depth = -local[:, 2]
    safe = np.where(np.abs(depth) < 1e-12, 1e-12, depth)
    fx, fy, cx, cy = cameras.intrinsics.T
    return fx * local[:, 0] / safe + cx, -fy * local[:, 1] / safe + cy, depth


def check_silhouettes(views: PosedViews, centre: Floats) -> None:
    """Refuses masks that hide what the cameras look at and show the rest.

    Raises:
        DataError: so it is in most views.
    """
    columns, rows, _ = project(views.cameras, centre)
    column = columns.astype(int).clip(0, views.cameras.width - 1)
    row = rows.astype(int).clip(0, views.cameras.height - 1)
    hidden = ~views.silhouettes[np.arange(len(views)), row, column]
    border = np.array([shown.mean() for shown in _border(views.silhouettes)])
    if (hidden & (border > 0.5)).mean() > 0.5:
        raise DataError(
            "the masks hide what the cameras look at and show what is round it: they are the other way round (white "
            "must be where the object is)"
        )


def border_colour(views: PosedViews) -> tuple[tuple[float, float, float], float]:
    """The commonest colour at the border of opaque views, RGB in [0, 1], and the share of the border that has it."""
    pixels = np.concatenate(list(_border(views.images[..., :3])))
    red, green, blue = np.median(pixels, axis=0)
    for whole in (0, 255):  # which JPEG does not keep to the level
        if max(abs(red - whole), abs(green - whole), abs(blue - whole)) <= ROUGH:
            red = green = blue = float(whole)
    near = (np.abs(pixels - np.array([red, green, blue])) <= LEVELS).all(axis=1)
    return (float(red) / 255, float(green) / 255, float(blue) / 255), float(near.mean())


def _border(pictures: np.ndarray) -> list[np.ndarray]:
    """The outermost pixels of each picture [N, H, W, ...]."""
    ring = np.zeros(pictures.shape[1:3], bool)
    ring[[0, -1]] = ring[:, [0, -1]] = True
    return [picture[ring] for picture in pictures]
