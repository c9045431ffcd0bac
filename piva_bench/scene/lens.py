"""The lens of a capture's frame: focal lengths, principal point, and a distortion small enough to be taken out.

The model is OpenCV's, as COLMAP (SIMPLE_RADIAL, RADIAL, OPENCV) and nerfstudio write it: for a ray that meets the plane
at distance 1 in (x, y), with r^2 = x^2 + y^2,

    x' = x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)
    y' = y (1 + k1 r^2 + k2 r^4 + k3 r^6) + p1 (r^2 + 2 y^2) + 2 p2 x y

and the pixel is (fx x' + cx, fy y' + cy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from piva_bench.errors import DataError

PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
OTHER_CAMERAS = ("is_fisheye", "fisheye", "is_equirectangular", "equirectangular", "latlong", "ftheta_p0",
                 "orthographic")  # fmt: skip
"""Flags of instant-ngp and its relatives for cameras that are no pinholes."""

DISTORTION = ("k1", "k2", "p1", "p2", "k3")
"""In OpenCV's order."""
MORE_DISTORTION = ("k4", "k5", "k6", "p3", "p4", "b1", "b2", "s1", "s2", "s3", "s4")
"""Of other models."""
LARGEST_SHIFT = 0.1
"""How far a lens may shift a pixel, as a share of the picture's diagonal, and still be taken out here."""
LENSES = (0.1, 100.0)
"""Shortest and longest focal length, as a share of the picture's long side."""
SMALLEST_SHIFT = 0.02
"""Pixels below which there is nothing to take out."""

Number = Callable[[str], float | None]


@dataclass(frozen=True)
class Lens:
    """Attributes: ``intrinsics`` fx, fy, cx, cy and ``distortion`` k1, k2, p1, p2, k3, for a picture of this size."""

    intrinsics: tuple[float, float, float, float]
    distortion: tuple[float, float, float, float, float]
    width: int
    height: int

    @property
    def shift(self) -> float:
        """Pixels by which the distortion moves what is at the picture's edge, at most.

        Infinite where it folds the picture, as polynomials do outside the pictures they were fitted to.
        """
        fx, fy, cx, cy = self.intrinsics
        steps = np.linspace(0, 1, 33)
        columns, rows = np.meshgrid(steps * self.width, steps * self.height)
        x, y = (columns - cx) / fx, (rows - cy) / fy
        k1, k2, p1, p2, k3 = self.distortion
        square = x * x + y * y
        radial = 1 + square * (k1 + square * (k2 + square * k3))
        slope = 1 + square * (3 * k1 + square * (5 * k2 + square * 7 * k3))
        across = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x) - x
        down = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y - y
        return float(np.hypot(fx * across, fy * down).max()) if slope.min() > 0 else math.inf

    def undistorted(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A picture as a pinhole with the same intrinsics takes it: uint8 RGBA [H, W, 4], or depth [H, W].

        What lay outside the picture continues its edge.
        """
        if self.shift < SMALLEST_SHIFT:
            return pixels
        import cv2  # here, so that listing datasets does not load it

        across, down = _way(self)
        if pixels.ndim == 2:
            return cv2.remap(pixels, across, down, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        # Premultiplied, so that colours behind transparent pixels do not bleed in.
        alpha = pixels[..., 3:].astype(np.float32)
        mixed = np.concatenate([pixels[..., :3] * (alpha / 255), alpha], axis=-1)
        moved = cv2.remap(mixed, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        share = moved[..., 3:] / 255
        colours = np.divide(moved[..., :3], share, out=np.zeros_like(moved[..., :3]), where=share > 0)
        return np.concatenate([colours, moved[..., 3:]], axis=-1).round().clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _way(lens: Lens) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    import cv2

    fx, fy, cx, cy = lens.intrinsics
    # OpenCV's pixel centres are whole numbers, ours lie between them.
    matrix = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    distortion = np.array(lens.distortion)
    size = (lens.width, lens.height)
    across, down = cv2.initUndistortRectifyMap(matrix, distortion, None, matrix, size, cv2.CV_32FC1)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def read_lens(values: Mapping[str, Any], number: Number, width: int, height: int) -> Lens:
    """The lens that a frame's values name, for its picture as it is on disk.

    Args:
        values: of the frame, and of the file where the frame has none.
        number: gives one of them as a number, None where it is absent; raises DataError where it is no number.
        width: of the picture.
        height: of the picture.

    Raises:
        DataError: what is wrong with it, after the frame's number.
    """
    _refuse_other_cameras(values)
    named = number("w"), number("h")
    x, y = width / (named[0] or width), height / (named[1] or height)
    # Whole numbers of pixels leave some room in small pictures.
    if abs(x / y - 1) > max(0.02, 2 / min(width, height)):
        raise DataError(
            f"has a picture of {width}x{height} px, but w and h are {named[0] or width:g}x{named[1] or height:g}, "
            "another shape: was it turned or cropped after its camera was computed? Restore the picture that was used"
        )
    fx, fy = _focal_lengths(number, x, y, width, height)
    if not all(LENSES[0] < focal / max(width, height) < LENSES[1] for focal in (fx, fy)):
        raise DataError(
            f"has a focal length of {fx:g}, {fy:g} px, which no lens has for a picture of {width}x{height} px: fl_x, "
            "fl_y, cx and cy are in pixels"
        )
    centre_x, centre_y = number("cx"), number("cy")
    # Intrinsics belong to the size they name; the pictures may have been scaled since.
    cx = (width / 2 / x if centre_x is None else centre_x) * x
    cy = (height / 2 / y if centre_y is None else centre_y) * y
    if not (0 < cx < width and 0 < cy < height) or (
        None in named and abs(cx / width - cy / height) < 0.03 and abs(cx / width - 0.5) > 0.1
    ):
        raise DataError(
            f"has its principal point (cx, cy) at {cx:g}, {cy:g}, but a picture of {width}x{height} px: if "
            "cameras were computed on pictures of another size, name that size as w and h"
        )
    bent = [key for key in (*DISTORTION, *MORE_DISTORTION) if abs(number(key) or 0.0) > 1e-9]
    k1, k2, p1, p2, k3 = (number(key) or 0.0 for key in DISTORTION)
    lens = Lens((fx, fy, cx, cy), (k1, k2, p1, p2, k3), width, height)
    if set(bent) & set(MORE_DISTORTION) or lens.shift > LARGEST_SHIFT * math.hypot(width, height):
        raise DataError(
            f"has a distorting lens ({', '.join(bent)}) that is too strong, or of another model, to be taken out here: "
            "undistort the pictures first (COLMAP: `colmap image_undistorter`)"
        )
    return lens


def _refuse_other_cameras(values: Mapping[str, Any]) -> None:
    model = values.get("camera_model") or "OPENCV"
    flags = [key for key in OTHER_CAMERAS if values.get(key) not in (None, False, 0, "", "false", "False")]
    if flags or str(model).upper() not in PINHOLES:
        raise DataError(
            f"has a camera that is no pinhole ({', '.join(flags) or model}): undistort the pictures to a pinhole first "
            "(COLMAP: `colmap image_undistorter`)"
        )


def _focal_lengths(number: Number, x: float, y: float, width: int, height: int) -> tuple[float, float]:
    """In pixels of the picture as it is, which is x and y times as large as the one that intrinsics belong to."""
    horizontal, vertical = number("fl_x"), number("fl_y")
    angles = {key: number(key) for key in ("camera_angle_x", "camera_angle_y")}
    by_angle = {
        key: 0.5 * side / math.tan(0.5 * angle)
        for (key, angle), side in zip(angles.items(), (width, height), strict=True)
        if angle is not None and 0 < angle < math.pi
    }
    if horizontal is not None:
        fx, fy = horizontal * x, (horizontal if vertical is None else vertical) * y
        other = by_angle.get("camera_angle_x", fx)
        if number("w") is None and abs(other / fx - 1) > 0.05:
            raise DataError(
                f"has fl_x and camera_angle_x that disagree ({fx:g} and {other:g} px in this picture): if cameras were "
                "computed on pictures of another size, name that size as w and h"
            )
        return fx, fy
    if not by_angle:
        wrong = next((angle for angle in angles.values() if angle is not None), None)
        degrees = wrong is not None and math.pi <= wrong < 180
        raise DataError(
            "has neither fl_x nor a camera_angle_x between 0 and pi (radians)"
            + (f": {wrong:g} degrees would be {math.radians(wrong):.6f}" if degrees and wrong else "")
        )
    focal = by_angle.get("camera_angle_x", by_angle.get("camera_angle_y", 0.0))
    return focal, focal
