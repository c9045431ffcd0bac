"""Pinhole cameras, and the paths they stand on.

One convention everywhere: camera-to-world matrices with OpenGL axes (x right, y up, looking along -z), a world
with z up, pixel centres at half integers. That is what Blender, NeRF-synthetic and nerfstudio write. Azimuth 0
looks at the object's front, which faces -y (as a glTF model's does after Blender's import), and grows towards +x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from piva_bench.errors import DataError

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras of one picture size.

    Attributes:
        camera_to_world: [N, 4, 4], OpenGL axes.
        intrinsics: [N, 4], focal lengths and principal point in pixels: fx, fy, cx, cy.
        width: of the pictures.
        height: of the pictures.

    Raises:
        DataError: poses that are no rigid motions or not finite, focal lengths that are not positive.
    """

    camera_to_world: Floats
    intrinsics: Floats
    width: int
    height: int

    def __post_init__(self) -> None:
        count = len(self.camera_to_world)
        if self.camera_to_world.shape != (count, 4, 4) or self.intrinsics.shape != (count, 4):
            raise DataError(
                f"cameras: poses {self.camera_to_world.shape} and intrinsics {self.intrinsics.shape} are not "
                "[N, 4, 4] and [N, 4]"
            )
        if self.width < 1 or self.height < 1:
            raise DataError(f"cameras: a picture of {self.width}x{self.height} pixels")
        for index in range(count):
            if fault := _fault(self.camera_to_world[index], self.intrinsics[index]):
                raise DataError(f"camera {index}: {fault}")

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Cameras:
        """Some of the cameras."""
        chosen = index if isinstance(index, slice) else np.asarray(index)
        return Cameras(self.camera_to_world[chosen], self.intrinsics[chosen], self.width, self.height)

    @property
    def positions(self) -> Floats:
        """[N, 3] where they stand."""
        return self.camera_to_world[:, :3, 3]

    @property
    def azimuths(self) -> Floats:
        """[N] degrees in [-180, 180), seen from the world's origin; 0 is the front."""
        x, y = self.positions[:, 0], self.positions[:, 1]
        return (np.degrees(np.arctan2(x, -y)) + 180.0) % 360.0 - 180.0

    @property
    def view_names(self) -> list[str]:
        """Which side each camera sees, for view-dependent prompts: ``front``, ``side`` or ``back``."""
        turns = np.abs(self.azimuths)
        return ["front" if turn <= 50 else "side" if turn <= 130 else "back" for turn in turns]

    def resized(self, width: int, height: int) -> Cameras:
        """The same cameras with pictures of another size."""
        x, y = width / self.width, height / self.height
        return Cameras(self.camera_to_world, self.intrinsics * np.array([x, y, x, y]), width, height)


def _fault(pose: Floats, intrinsics: Floats) -> str | None:
    """What is wrong with a camera, in a few words."""
    if not np.isfinite(pose).all():
        return "its pose is not finite (NaN or infinite): estimate the poses again"
    if not np.isfinite(intrinsics).all() or min(intrinsics[:2]) <= 0:
        return "its focal length is not a positive number"
    rotation = pose[:3, :3]
    # float32 poses that went through a text file are orthonormal to some 1e-4.
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2) or np.linalg.det(rotation) < 0:
        return "its pose is no rotation and translation (scaled, sheared or mirrored)"
    return None if np.allclose(pose[3], [0, 0, 0, 1], atol=1e-4) else "its pose's last row is not 0 0 0 1"


def look_at(eye: Floats, target: Floats, up: Sequence[float] = (0.0, 0.0, 1.0)) -> Floats:
    """Camera-to-world matrix [4, 4] of a camera at ``eye`` that looks at ``target``."""
    back = np.asarray(eye, float) - target
    back /= np.linalg.norm(back)
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-6:  # straight from above or below any heading will do
        right = np.cross((0.0, 1.0, 0.0), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, eye
    return pose


def orbit(
    azimuths: Floats, elevations: Floats, distance: float, fov: float, width: int, height: int
) -> Cameras:
    """Cameras on a sphere about the origin, looking at it. Angles and the horizontal field of view in degrees."""
    a, e = np.radians(azimuths), np.radians(elevations)
    eyes = distance * np.stack([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)], axis=1)
    poses = np.stack([look_at(eye, np.zeros(3)) for eye in eyes])
    focal = 0.5 * width / np.tan(np.radians(fov) / 2)
    intrinsics = np.tile([focal, focal, width / 2, height / 2], (len(eyes), 1))
    return Cameras(poses, intrinsics, width, height)


@dataclass(frozen=True)
class Rig:
    """How an object is photographed from all sides.

    The defaults are those of the renderer ``lehduong/objaverse-synthetic`` (main, a910a31), written by the first
    author of Piva: distance 4, the object's largest edge 2.5 and its box centred, a 35 mm lens on a 32 mm sensor,
    elevations of 0 to 55 degrees, and eight area lights at (+-1, +-1, +-3).
    """

    distance: float = 4.0
    edge: float = 2.5
    """Largest edge of the object's box."""
    fov: float = 49.134
    elevations: tuple[float, float] = (0.0, 55.0)
    lights: tuple[tuple[float, float, float], ...] = tuple(
        (x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-3.0, 3.0)
    )

    def _orbit(self, azimuths: Floats, elevations: Floats, size: int) -> Cameras:
        return orbit(azimuths, elevations, self.distance, self.fov, size, size)

    def turntable(self, count: int = 120, size: int = 64, elevation: float = 20.0) -> Cameras:
        """Once round at one elevation, from the front."""
        azimuths = np.arange(count) * 360.0 / count
        return self._orbit(azimuths, np.full(count, elevation), size)

    def sphere(self, count: int = 64, size: int = 64) -> Cameras:
        """Evenly spread over the band of elevations (a Fibonacci spiral: equal areas, no rows)."""
        low, high = np.sin(np.radians(self.elevations))
        heights = low + (high - low) * (np.arange(count) + 0.5) / count
        azimuths = np.arange(count) * 180.0 * (3.0 - np.sqrt(5.0))
        return self._orbit(azimuths, np.degrees(np.arcsin(heights)), size)

    def random(self, count: int, size: int = 64, seed: int = 0) -> Cameras:
        """Random azimuths, and elevations uniform over the band."""
        rng = np.random.default_rng(seed)
        return self._orbit(rng.uniform(-180, 180, count), rng.uniform(*self.elevations, count), size)

    def author(self, count: int = 300, size: int = 64, seed: int = 0) -> Cameras:
        """The first author's path: even azimuths, a random whole degree of elevation each."""
        rng = np.random.default_rng(seed)
        low, high = (int(limit) for limit in self.elevations)
        return self._orbit(
            np.arange(count) * 360.0 / count, rng.integers(low, high + 1, count).astype(float), size
        )


RIG = Rig()
