"""Scenes of one's own: views of a capture, or of a 3D model that is photographed from all sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Cameras, Floats, orbit
from piva_bench.scene.capture_check import (
    PLAIN,
    Note,
    border_colour,
    check_cameras,
    check_silhouettes,
    common_point,
)
from piva_bench.scene.models import FOREIGN, MODELS
from piva_bench.scene.views import PosedViews

if TYPE_CHECKING:
    from piva_bench.scene.subject import Frame, Subject

MODEL_VIEWS = 64
"""Views that a 3D model is photographed in for its field."""
FRAMES = 120
"""Views of a turntable."""
ROOM = 0.2
"""How far beyond a 3D model's box, as a share of its largest edge, an edit may grow."""
SIDE_WORDS = {"front": ", front view", "side": ", side view", "back": ", back view"}
"""What threestudio appends to a prompt."""
STUDIO_SIDE_WORDS = {"front": "", "side": " seen from the side", "back": " seen from behind"}
"""The words of the embedded model's captions."""


@dataclass(frozen=True)
class OwnScene:
    """A scene to be edited.

    Attributes:
        views: it is known by; the edit looks from the same cameras.
        box: [2, 3] the room that it and the edit may fill.
        turntable: views to show it in.
        sided: whether it is known which side is the front.
        notes: what a user should know, a line each.
        background: RGB in [0, 1] that opaque views have at their border; None where they have no such colour, or
            transparency.
        model: the file of the 3D model that was photographed.
    """

    views: PosedViews
    box: Floats
    turntable: Cameras
    sided: bool
    notes: tuple[str, ...] = ()
    background: tuple[float, float, float] | None = None
    model: Path | None = None


@dataclass(frozen=True)
class Photographs:
    """What was taken of a 3D model.

    Attributes:
        views: of each path of cameras, with depth.
        box: [2, 3] the room that the model and an edit of it may fill.
        notes: what a user should know about the file, a line each.
    """

    views: tuple[PosedViews, ...]
    box: Floats
    notes: tuple[str, ...]


def open_scene(path: Path, resolution: int, frames: int = FRAMES) -> OwnScene:
    """Reads a capture, or photographs a 3D model from all sides.

    Args:
        path: a folder with transforms, a transforms file, or a model file.
        resolution: side that pictures are edited at.
        frames: of the turntable.

    Raises:
        DataError: what is there cannot be read, in one line that says why.
    """
    if path.is_dir() or path.suffix.lower() not in (*MODELS, *FOREIGN):
        return open_capture(path, resolution, frames)
    taken = photograph(path, RIG.sphere(MODEL_VIEWS, resolution))
    notes = tuple(f"{path}: {line}" for line in taken.notes)
    turntable = RIG.turntable(frames, resolution)
    return OwnScene(taken.views[0], taken.box, turntable, True, notes, model=path)


def open_capture(path: Path, resolution: int, frames: int = FRAMES, *, square: bool = False) -> OwnScene:
    """Reads a NeRF-synthetic scene or a nerfstudio capture; nobody knows which side of it is the front.

    Args:
        path: a folder with transforms, or a transforms file.
        resolution: long side that pictures are edited at.
        frames: of the turntable.
        square: whether pictures are cropped to their central square, the part that the box is seen in.

    Raises:
        DataError: what is there cannot be read, or is no object seen from around, in one line that says why.
    """
    from piva_bench.scene.transforms import open_transforms

    notes: list[str] = []
    capture = open_transforms(path, note=notes.append)
    views = capture.views()
    try:
        check_silhouettes(views, check_cameras(views.cameras, lambda line: notes.append(f"{path}: {line}")))
        background = plain_background(views, lambda line: notes.append(f"{path}: {line}"))
        views = _resized(_squared(views) if square else views, resolution)
        centre, radius = _seen_by_all(views.cameras)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    box = np.stack([centre - radius, centre + radius])
    turntable = _orbit(views.cameras, centre, frames)
    return OwnScene(views, box, turntable, False, tuple(notes), background)


def plain_background(views: PosedViews, note: Note) -> tuple[float, float, float] | None:
    """The colour behind the object: of opaque views what most of their border has; None of others.

    Args:
        views: of a capture, not cropped.
        note: told if they show no plain background.
    """
    if not views.opaque:
        return None
    colour, share = border_colour(views)
    if share < PLAIN:
        note(
            "the pictures show the object's surroundings (no transparency, no plain background): what surrounds it is "
            "pressed into the field's box, and silhouettes mean nothing; give masks (mask_path) to edit the object"
        )
        return None
    return colour


def photograph(path: Path, *paths: Cameras) -> Photographs:
    """Photographs a 3D model, brought to the rig's size and place, from each path of cameras.

    Raises:
        DataError: the file is missing, damaged or holds no triangle; in one line.
        UserError: no OpenGL on this machine.
    """
    from piva_bench.scene.subject import Frame, load_model

    subject = load_model(path)
    frame = Frame.around([subject])
    views = _shot(subject, frame, paths)
    # Of a sheet one sees nothing exactly from the side; of a field nothing comes if that is so from most sides.
    if min(shots.silhouettes.any(axis=(1, 2)).mean() for shots in views) < 0.5:
        raise DataError(
            f"the 3D model {path} is hardly seen: it is transparent or too thin for views of "
            f"{views[0].cameras.width} pixels"
        )
    room = ROOM * RIG.edge
    return Photographs(views, frame.box(subject) + np.array([[-room], [room]]), subject.notes)


def photograph_beside(path: Path, source: Path, cameras: Cameras) -> PosedViews:
    """Photographs a 3D model whose file has another's frame: what both have is where ``photograph`` shows the other's.

    Args:
        path: of the model that is seen.
        source: of the one that is brought to the rig's size and place, and this one with it.
        cameras: from where.

    Raises:
        DataError: a file is missing, damaged or holds no triangle; in one line.
        UserError: no OpenGL on this machine.
    """
    from piva_bench.scene.subject import Frame, load_model

    known = load_model(source)
    (views,) = _shot(load_model(path).beside(known), Frame.around([known]), (cameras,))
    return views


def _shot(subject: Subject, frame: Frame, paths: Sequence[Cameras]) -> tuple[PosedViews, ...]:
    from piva_bench.scene.renderer import ViewRenderer

    renderer = ViewRenderer()
    try:
        return tuple(renderer.render(subject, cameras, frame) for cameras in paths)
    finally:
        renderer.close()


def _squared(views: PosedViews) -> PosedViews:
    cameras = views.cameras
    side = min(cameras.width, cameras.height)
    left, top = (cameras.width - side) // 2, (cameras.height - side) // 2
    moved = cameras.intrinsics - np.array([0, 0, left, top])
    return PosedViews(
        views.images[:, top : top + side, left : left + side],
        Cameras(cameras.camera_to_world, moved, side, side),
        None,
        views.names,
    )


def _resized(views: PosedViews, resolution: int) -> PosedViews:
    """The views with a long side of ``resolution`` and sides that the networks can halve; depth is left out."""
    scale, multiple = resolution / max(views.cameras.width, views.cameras.height), max(resolution // 8, 8)
    width, height = (
        max(round(side * scale / multiple), 1) * multiple
        for side in (views.cameras.width, views.cameras.height)
    )
    if (width, height) == (views.cameras.width, views.cameras.height):
        return views.without_depth()
    # Premultiplied, so that colours behind transparent pixels do not bleed in.
    images = [
        Image.fromarray(image).convert("RGBa").resize((width, height), Image.Resampling.BOX).convert("RGBA")
        for image in views.images
    ]
    stacked = np.stack([np.asarray(image) for image in images])
    return PosedViews(stacked, views.cameras.resized(width, height), None, views.names)


def _seen_by_all(cameras: Cameras) -> tuple[Floats, float]:
    """Centre and radius of a ball that every camera sees whole: about the point their axes pass nearest."""
    centre = common_point(cameras)
    distances = np.linalg.norm(cameras.positions - centre, axis=1)
    half = np.arctan2([cameras.width / 2, cameras.height / 2], cameras.intrinsics[:, :2]).min(axis=1)
    radius = float((distances * np.sin(half)).min())
    return centre, radius


def _orbit(cameras: Cameras, centre: Floats, frames: int) -> Cameras:
    """Once round the centre, at the cameras' mean distance and elevation."""
    away = cameras.positions - centre
    distances = np.linalg.norm(away, axis=1)
    elevation = float(np.degrees(np.arcsin(away[:, 2] / distances)).mean())
    fov = float(np.degrees(2 * np.arctan(cameras.width / 2 / cameras.intrinsics[:, 0].mean())))
    turn = orbit(
        np.arange(frames) * 360.0 / frames,
        np.full(frames, elevation),
        float(distances.mean()),
        fov,
        cameras.width,
        cameras.height,
    )
    poses = turn.camera_to_world.copy()
    poses[:, :3, 3] += centre
    return Cameras(poses, turn.intrinsics, turn.width, turn.height)
