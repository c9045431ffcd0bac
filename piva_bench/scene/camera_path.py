"""Paths of cameras as nerfstudio's viewer writes them (``camera_path.json``), and the turntable of a field.

Read as ``get_path_from_json`` of nerfstudio 1.1.5 does: ``camera_path`` is a list of ``camera_to_world`` (16 numbers,
rows first, OpenGL axes) with ``fov``, the vertical field of view in degrees; ``render_height`` and ``render_width`` are
the pictures'; ``seconds`` is how long it takes. Only perspective cameras are read, and the path is taken to be in the
field's own world.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Cameras, orbit
from piva_bench.scene.field import RadianceField

ELEVATION = 20.0
"""Degrees above the horizon of a turntable."""

SEEN = 0.1
"""Optical thickness of a voxel from which it counts as part of the thing: an edit's room to grow does not."""


def read_camera_path(path: Path, height: int | None = None) -> tuple[Cameras, float]:
    """The cameras of a path, and how many seconds it takes.

    Args:
        path: of the file.
        height: of the pictures; by default the file's. Their shape stays.

    Raises:
        DataError: the file is missing, no camera path, or of cameras that are not perspective; in one line.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        kind = str(written.get("camera_type", "perspective"))
        if kind.lower() != "perspective":
            raise DataError(f"{path}: its cameras are {kind}: only perspective ones are rendered")
        frames = written["camera_path"]
        poses = np.array([frame["camera_to_world"] for frame in frames], np.float64).reshape(-1, 4, 4)
        angles = np.array([frame.get("fov", 50.0) for frame in frames], np.float64)
        wide, high = int(written["render_width"]), int(written["render_height"])
        seconds = float(written.get("seconds", len(frames) / 24))
        tall = height or high
        width = max(round(wide * tall / high), 1)
        focal = tall / 2 / np.tan(np.radians(angles) / 2)
        ones = np.ones_like(focal)
        lens = np.stack([focal, focal, ones * width / 2, ones * tall / 2], axis=1)
        if not len(frames) or not 0 < seconds < np.inf:
            raise ValueError("it has no frame, or takes no time")
        return Cameras(poses, lens, width, tall), seconds
    except OSError as error:
        raise DataError(f"cannot read the camera path {path}: {error.strerror or error}") from error
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{path} is no camera path of nerfstudio's viewer ({_short(error)})") from error


def turntable(field: RadianceField, frames: int, size: int) -> Cameras:
    """Once round what is seen of a field, from the front, as far away as the rig stands from a thing of that size."""
    seen = field.density.detach() > SEEN
    nodes = field.nodes()[seen if seen.any() else field.open]
    low, high = (part.cpu().numpy() for part in (nodes.amin(0), nodes.amax(0)))
    distance = RIG.distance * float((high - low).max()) / RIG.edge
    turn = orbit(
        np.arange(frames) * 360.0 / frames, np.full(frames, ELEVATION), distance, RIG.fov, size, size
    )
    poses = turn.camera_to_world.copy()
    poses[:, :3, 3] += (low + high) / 2
    return Cameras(poses, turn.intrinsics, size, size)


def _short(error: Any) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
