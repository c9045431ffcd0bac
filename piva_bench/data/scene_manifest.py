"""What ``scenes.json`` of a dataset of 3D edits holds; see `piva_bench.data.scenes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from piva_bench.scene.cameras import Cameras, orbit

Corner = tuple[float, float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraPath(_Strict):
    """Where cameras stand: degrees."""

    azimuths: tuple[float, ...] = Field(min_length=1)
    elevations: tuple[float, ...] = Field(min_length=1)


class Stage(_Strict):
    """What all scenes of a dataset share: the lens, and the room the objects stand in."""

    size: int = Field(gt=0, description="side of the views in pixels")
    distance: float = Field(gt=0, description="of the cameras from the origin, which they look at")
    fov: float = Field(gt=0, lt=180, description="degrees")
    box: tuple[Corner, Corner] = Field(description="the room that an edit may fill")
    depth: tuple[float, float] = Field(description="depths that grey 1 and 255 stand for")

    def cameras(self, path: CameraPath) -> Cameras:
        """The cameras of a path."""
        angles = np.array(path.azimuths), np.array(path.elevations)
        return orbit(*angles, self.distance, self.fov, self.size, self.size)

    def depth_levels(self, depth: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Depth as grey levels; the error is at most half a level.

        Raises:
            ValueError: a depth outside the stage's range.
        """
        near, far = self.depth
        levels = np.rint((depth - near) / (far - near) * 254) + 1
        if ((levels < 1) | (levels > 255))[depth > 0].any():
            raise ValueError(
                f"depth of {depth[depth > 0].min():.3f} to {depth.max():.3f} outside {near} to {far}"
            )
        return np.where(depth > 0, levels, 0).astype(np.uint8)

    def level_depths(self, levels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The inverse of `depth_levels`."""
        near, far = self.depth
        depth = near + (levels.astype(np.float32) - 1) * np.float32((far - near) / 254)
        return np.where(levels > 0, depth, np.float32(0))


class SceneEntry(_Strict):
    """One object in its place.

    Attributes:
        object: what stands there; samples that share it are not independent.
        set: name of the place's picture.
        words: what decided the picture, for people; see ``Scene`` of `piva_bench.studio.scene`.
    """

    object: str
    set: str
    words: Mapping[str, str | float | None] = {}


class SampleEntry(_Strict):
    """One edit of a scene.

    Attributes:
        scene: which one.
        prompts: for each side source and target prompt.
        reshaped: whether the counterfactual has a depth of its own.
        words: what the edit changes, as in `SceneEntry`.
    """

    scene: str
    edit_type: str
    prompts: Mapping[str, tuple[str, str]]
    instruction: str = ""
    reshaped: bool
    tags: Mapping[str, str] = {}
    words: Mapping[str, str | float | None] = {}


class Manifest(_Strict):
    """The contents of ``scenes.json``."""

    format: Literal["piva-bench scenes 1"]
    stage: Stage
    fit: CameraPath
    turntable: CameraPath
    sets: Mapping[str, tuple[float, ...]] = Field(description="elevations of each place's pictures")
    scenes: Mapping[str, SceneEntry] = Field(min_length=1)
    samples: Mapping[str, SampleEntry] = Field(min_length=1)
