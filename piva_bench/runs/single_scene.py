"""One scene of one's own: views of it from a capture or a 3D model, its field, one edit, what is saved of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from piva_bench.distillation.method import EditMethod, OnStep, SceneTask
from piva_bench.distillation.scene_params import FieldEditParams
from piva_bench.errors import UserError
from piva_bench.runs.fields import fitted_field
from piva_bench.runs.files import write_atomic
from piva_bench.runs.views import encode_views
from piva_bench.scene.animation import write_turntable
from piva_bench.scene.cameras import RIG, Cameras, Floats, orbit
from piva_bench.scene.field import RadianceField
from piva_bench.scene.views import PosedViews

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser

MODELS = (".glb", ".gltf", ".obj", ".ply", ".stl")
MODEL_VIEWS = 64
"""Views that a 3D model is photographed in for its field."""
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
        note: what a user should know, in one line.
    """

    views: PosedViews
    box: Floats
    turntable: Cameras
    sided: bool
    note: str | None = None


@dataclass(frozen=True)
class SceneEdit:
    """A finished edit of a scene.

    Attributes:
        source: views of the source from the turntable.
        edited: the same of the edit.
        field: the edited field.
        seconds: of the edit.
    """

    source: PosedViews
    edited: PosedViews
    field: RadianceField
    seconds: float

    def save(self, folder: Path, background: tuple[float, float, float]) -> list[Path]:
        """Writes ``turntable.gif``, ``views.png``, ``depth.png`` and ``field.safetensors``; their paths.

        Raises:
            UserError: the folder cannot be written to.
        """
        views, depth = encode_views(self.edited)
        files = {"views.png": views, "depth.png": depth, "field.safetensors": self.field.to_bytes()}
        try:
            for name, content in files.items():
                write_atomic(folder / name, content)
            columns = {
                name: shown.composite(background)
                for name, shown in (("source", self.source), ("edit", self.edited))
            }
            turntable = write_turntable(folder / "turntable.gif", columns)
        except OSError as error:
            raise UserError(f"Cannot write to {folder}: {error.strerror or error}.") from error
        return [turntable, *(folder / name for name in files)]


def open_scene(path: Path, resolution: int, frames: int = 120) -> OwnScene:
    """Reads a capture, or photographs a 3D model from all sides.

    Args:
        path: a folder with transforms, a transforms file, or a model file.
        resolution: side that pictures are edited at.
        frames: of the turntable.

    Raises:
        DataError: what is there cannot be read, in one line that says why.
    """
    if path.suffix.lower() in MODELS:
        return _from_model(path, resolution, frames)
    from piva_bench.scene.transforms import read_views

    views = _resized(read_views(path), resolution)
    centre, radius = _seen_by_all(views.cameras)
    return OwnScene(
        views,
        np.stack([centre - radius, centre + radius]),
        _orbit(views.cameras, centre, frames),
        sided=False,
    )


def _from_model(path: Path, resolution: int, frames: int) -> OwnScene:
    from piva_bench.scene.renderer import ViewRenderer
    from piva_bench.scene.subject import Frame, load_model

    subject = load_model(path)
    frame = Frame.around([subject])
    views = ViewRenderer().render(subject, RIG.sphere(MODEL_VIEWS, resolution), frame)
    room = ROOM * RIG.edge
    box = frame.box(subject) + np.array([[-room], [room]])
    return OwnScene(views, box, RIG.turntable(frames, resolution), sided=True, note=subject.note)


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
    axes = -cameras.camera_to_world[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    # All cameras side by side leave the distance open; the smallest one fitting is taken.
    centre = np.linalg.lstsq(
        across.sum(0), (across @ cameras.positions[:, :, None]).sum(0)[:, 0], rcond=None
    )[0]
    distances = np.linalg.norm(cameras.positions - centre, axis=1)
    half = np.arctan2([cameras.width / 2, cameras.height / 2], cameras.intrinsics[:, :2]).min(axis=1)
    radius = float((distances * np.sin(half)).min())
    if not radius > 0:
        raise UserError("The cameras do not look at a common point: edit3d takes objects seen from around.")
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


def edit_scene(
    scene: OwnScene,
    method: EditMethod,
    params: FieldEditParams,
    denoiser: Denoiser,
    source_prompt: str,
    target_prompt: str,
    *,
    seed: int = 0,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    side_words: Mapping[str, str] | None = None,
    on_fit: Callable[[int, float], None] | None = None,
    on_step: OnStep | None = None,
) -> SceneEdit:
    """Fits a scene's field, unless that was done before, and edits it.

    Args:
        scene: what to edit.
        method: with its parameters.
        params: of the field.
        denoiser: the model.
        source_prompt: what the scene shows.
        target_prompt: what it shall show.
        seed: of all noise.
        background: what the scene stands before; of opaque views the one they have.
        side_words: what is appended to the prompts by side, where the scene has a front.
        on_fit: told of every step of the fit.
        on_step: told of every step of the edit.

    Raises:
        UserError: method, scene and options do not fit together, or the edit failed.
    """
    colour = torch.tensor(background).view(1, 3, 1, 1).expand(len(scene.views), -1, -1, -1)
    digest = hashlib.blake2b(scene.views.images.tobytes(), digest_size=16)
    digest.update(scene.views.cameras.camera_to_world.tobytes() + scene.views.cameras.intrinsics.tobytes())
    digest.update(repr(background if scene.views.opaque else None).encode())
    field = fitted_field(
        digest.hexdigest(),
        scene.views,
        scene.box,
        params,
        denoiser.device,
        background=background if scene.views.opaque else None,
        on_step=on_fit,
    )
    words = (side_words or {}) if scene.sided else {}
    task = SceneTask(
        "scene",
        field,
        scene.views.cameras,
        colour,
        scene.turntable,
        source_prompt,
        target_prompt,
        params,
        {side: (source_prompt + more, target_prompt + more) for side, more in words.items()},
    )
    (outcome,) = method.edit_scenes([task], denoiser, seed, on_step)
    if outcome.views is None or outcome.field is None:
        raise UserError(f"The edit failed: {outcome.reason}. Other parameters or another seed may help.")
    return SceneEdit(field.render_views(scene.turntable), outcome.views, outcome.field, outcome.seconds)
