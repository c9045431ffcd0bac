"""Takes all pictures of a dataset of 3D edits and writes it in the format of `piva_bench.data.scenes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.pie_write import write_card
from piva_bench.data.scene_manifest import CameraPath, Manifest, SampleEntry, SceneEntry, Stage
from piva_bench.data.scenes import CARD, MANIFEST, read_scenes
from piva_bench.data.sprites import tile
from piva_bench.scene.cameras import Rig
from piva_bench.scene.renderer import ViewRenderer
from piva_bench.scene.subject import Frame, Subject
from piva_bench.scene.views import PosedViews
from piva_bench.studio.plan_objaverse import DISTANCE, TURNTABLE_ELEVATION
from piva_bench.studio.render import CAMERA_DISTANCE, FIELD_OF_VIEW, TARGET, Placed, Renderer, turn
from piva_bench.studio.scene import Scene

SIZE = 64
RINGS = (10.0, 18.0, 27.0)
"""Elevations of the fitting views, within those of the pictures that models are trained on (8 to 30 degrees)."""
A_RING, A_TURN = 16, 120
BOX = ((-0.65, -0.65, -0.48), (0.65, 0.65, 0.82))
"""The room for objects and their edits. The floor lies at -0.47, and what stands on it ends below 0.82."""
DEPTH = (CAMERA_DISTANCE * DISTANCE - 1.0, CAMERA_DISTANCE * DISTANCE + 1.0)
RIG = Rig(
    distance=CAMERA_DISTANCE * DISTANCE,
    fov=FIELD_OF_VIEW,
    elevations=(RINGS[0], RINGS[-1]),
    # They turn with the object, so no side may be favoured: from above all round, a little from below.
    lights=((0, 0, 1), (1, 1, 1), (1, -1, 1), (-1, 1, 1), (-1, -1, 1), (0, 0, -1)),
)
FRAME = Frame(1.0, (float(TARGET[0]), float(-TARGET[2]), float(TARGET[1])))
"""The world has the set's scale; its origin is the point that the studio's camera looks at."""


@dataclass(frozen=True)
class Shoot:
    """One object in its place, and its edits.

    Attributes:
        name: of the scene.
        place: a scene with the floor and backdrop.
        pieces: the source's.
        edits: the counterfactuals' pieces, by sample.
        object: what samples share that are not independent.
        words: see `SceneEntry`.
    """

    name: str
    place: Scene
    pieces: Sequence[Placed]
    edits: Mapping[str, Sequence[Placed]]
    object: str
    words: Mapping[str, Any]


def fit_path() -> CameraPath:
    """Rings of cameras, each ring turned against the one below; no azimuth is a test view's."""
    azimuths = [
        (1.0 + 360 / A_RING * (number + ring / len(RINGS))) % 360
        for ring in range(len(RINGS))
        for number in range(A_RING)
    ]
    return CameraPath(azimuths=tuple(azimuths), elevations=tuple(np.repeat(RINGS, A_RING).tolist()))


def turntable_path() -> CameraPath:
    """Once round."""
    azimuths = tuple(360 / A_TURN * number for number in range(A_TURN))
    return CameraPath(azimuths=azimuths, elevations=(TURNTABLE_ELEVATION,) * A_TURN)


def photograph_scenes(
    out: Path, shoots: Sequence[Shoot], samples: Mapping[str, SampleEntry], card: DatasetCard
) -> None:
    """Write the dataset.

    Args:
        out: its folder; what it holds already is overwritten.
        shoots: the scenes.
        samples: by name; whether the counterfactual is reshaped is found out here.
        card: without number of samples and revision, which are filled in.

    Raises:
        ValueError: an object or edit that leaves the stage's room or the pictures.
    """
    fit, turntable = fit_path(), turntable_path()
    stage = Stage(size=SIZE, distance=RIG.distance, fov=RIG.fov, box=BOX, depth=DEPTH)
    renderer, studio = ViewRenderer(RIG), Renderer(SIZE)
    elevations = tuple(sorted({*fit.elevations, *turntable.elevations}))
    sets: dict[str, tuple[float, ...]] = {}
    reshaped: set[str] = set()
    for shoot in shoots:
        set_name = f"{shoot.place.floor}-{shoot.place.backdrop}"
        if set_name not in sets:
            sets[set_name] = elevations
            empty = [_empty(studio, shoot.place, elevation, ()) for elevation in elevations]
            _write(out / "sets" / f"{set_name}.webp", np.concatenate(empty, axis=1))
        folder = out / "views" / shoot.name
        _write(folder / "shadows.webp", tile(_shadows(studio, shoot, [fit, turntable])))
        views = {}
        for name, path in (("fit", fit), ("turntable", turntable)):
            views[name] = _photograph(renderer, shoot.name, shoot.pieces, stage, path)
            _write_views(folder, name, views[name], stage, depth=True)
        for name, pieces in shoot.edits.items():
            edited = _photograph(renderer, name, pieces, stage, turntable)
            if _levels(edited, stage) != _levels(views["turntable"], stage):
                reshaped.add(name)
            _write_views(folder, name, edited, stage, depth=name in reshaped)
    manifest = Manifest(
        format="piva-bench scenes 1",
        stage=stage,
        fit=fit,
        turntable=turntable,
        sets=sets,
        scenes={
            shoot.name: SceneEntry(
                object=shoot.object, set=f"{shoot.place.floor}-{shoot.place.backdrop}", words=shoot.words
            )
            for shoot in shoots
        },
        samples={
            name: entry.model_copy(update={"reshaped": name in reshaped}) for name, entry in samples.items()
        },
    )
    (out / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_card(out / CARD, card.model_copy(update={"samples": len(samples), "revision": None}))
    revision = read_scenes(card.name, out).revision
    write_card(out / CARD, card.model_copy(update={"samples": len(samples), "revision": revision}))


def _photograph(
    renderer: ViewRenderer, name: str, pieces: Sequence[Placed], stage: Stage, path: CameraPath
) -> PosedViews:
    subject = Subject(tuple(pieces))
    low, high = FRAME.box(subject)
    if (low < np.array(BOX[0]) - 1e-3).any() or (high > BOX[1]).any():
        raise ValueError(f"{name} reaches from {low.round(2)} to {high.round(2)}: out of the room {BOX}")
    views = renderer.render(subject, stage.cameras(path), FRAME)
    rim = [views.images[:, [0, -1], :, 3], views.images[:, :, [0, -1], 3]]
    if any(side.any() for side in rim):
        raise ValueError(f"{name} is cut off in a view")
    return views


def _empty(studio: Renderer, place: Scene, elevation: float, pieces: Sequence[Placed]) -> NDArray[np.uint8]:
    scene = place.replace(elevation=elevation, distance=DISTANCE, shift=0.0, yaw=0.0, phase=0.0, light=0.0)
    return studio.render_set(scene, pieces)


def _shadows(studio: Renderer, shoot: Shoot, paths: Sequence[CameraPath]) -> NDArray[np.uint8]:
    """By how much the place is darkened in each view, of 255: [V, H, W]. A thing one sees through casts none."""
    solid = [piece for piece in shoot.pieces if piece.opacity > 0.5]
    bare: dict[float, NDArray[np.uint8]] = {}
    shadows = []
    for path in paths:
        for azimuth, elevation in zip(path.azimuths, path.elevations, strict=True):
            if elevation not in bare:
                bare[elevation] = _empty(studio, shoot.place, elevation, ())
            # The set stands still and the object turns, as on a turntable.
            turned = [replace(piece, model=turn(1, -azimuth) @ piece.model) for piece in solid]
            dark = _empty(studio, shoot.place, elevation, turned)
            light = bare[elevation].sum(-1, dtype=np.float32)
            shadows.append(np.rint(255 * dark.sum(-1, dtype=np.float32) / np.maximum(light, 1)))
    return np.clip(np.stack(shadows), 0, 255).astype(np.uint8)


def _levels(views: PosedViews, stage: Stage) -> bytes:
    assert views.depth is not None
    return stage.depth_levels(views.depth).tobytes()


def _write_views(folder: Path, name: str, views: PosedViews, stage: Stage, *, depth: bool) -> None:
    # Where nothing is seen colour says nothing, and one colour packs best.
    _write(
        folder / f"{name}.webp", tile(np.where(views.images[..., 3:] > 0, views.images, 0).astype(np.uint8))
    )
    if depth:
        assert views.depth is not None
        _write(folder / f"{name}_depth.webp", tile(stage.depth_levels(views.depth)))


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, lossless=True, exact=True, quality=70, method=4)
