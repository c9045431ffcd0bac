"""Datasets of 3D edits: views of objects from all sides, their edits' counterfactuals, and the words for both.

A dataset is a folder (or a zip) with ``dataset.yaml``, the card; ``scenes.json``, a `Manifest`; and pictures:

- ``views/<scene>/fit.webp`` and ``turntable.webp``: RGBA sheets of the source's views, 12 a row; beside them
  ``fit_depth.webp`` and ``turntable_depth.webp``, where grey 0 is nothing and 1 to 255 are the depths of the
  stage's range; and ``shadows.webp``, by how much the place is darkened, of 255, in all views, fit first;
- ``views/<scene>/<sample>.webp``: the counterfactual from the turntable, and ``<sample>_depth.webp`` unless its
  shape is the source's;
- ``sets/<set>.webp``: the empty place, a picture for each elevation beside each other.

All are WebP, lossless.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from piva_bench import paths
from piva_bench.data.card import read_card
from piva_bench.data.dataset import DatasetCard, Problem
from piva_bench.data.files import Files, fingerprint, open_files
from piva_bench.data.scene_manifest import CameraPath, Manifest, SampleEntry
from piva_bench.data.scene_sample import SIDES, SceneSample, Shots
from piva_bench.data.sprites import untile
from piva_bench.errors import DataError
from piva_bench.files import safe_join
from piva_bench.scene.objaverse import DEFAULT_SUBSET
from piva_bench.scene.views import PosedViews

if TYPE_CHECKING:
    from piva_bench.data.listed_scenes import ListedScenes
    from piva_bench.profiles import Profile
    from piva_bench.scene.cameras import Cameras

CARD, MANIFEST = "dataset.yaml", "scenes.json"


@dataclass(frozen=True)
class StoredScene:
    """One scene's views, read when they are asked for; a `SceneSource`."""

    name: str
    base: Path
    manifest: Manifest
    files: Files
    rendered: ClassVar[bool] = False

    @cached_property
    def id(self) -> str:
        """BLAKE2b over stage, cameras and the files of the source."""
        set_name = self.manifest.scenes[self.name].set
        names = ("fit", "fit_depth", "turntable", "turntable_depth", "shadows")
        head = [
            part.model_dump_json()
            for part in (self.manifest.stage, self.manifest.fit, self.manifest.turntable)
        ]
        files = [self._path(name) for name in names] + [self.base / "sets" / f"{set_name}.webp"]
        return fingerprint(self.files, files, self.base, head)

    @property
    def box(self) -> NDArray[np.float64]:
        """[2, 3] of the stage."""
        return np.array(self.manifest.stage.box, np.float64)

    @property
    def turntable_cameras(self) -> Cameras:
        """Those of the manifest's path."""
        return self.manifest.stage.cameras(self.manifest.turntable)

    def fit_views(self) -> Shots:
        """Views to fit a field to."""
        return self._shots("fit", self.manifest.fit, 0)

    def turntable(self) -> Shots:
        """Views to judge by."""
        return self._shots("turntable", self.manifest.turntable, len(self.manifest.fit.azimuths))

    def places(self) -> list[NDArray[np.uint8]]:
        """The dataset's other sets from the turntable's cameras, without anybody's shadow."""
        own, elevations = self.manifest.scenes[self.name].set, self.manifest.turntable.elevations
        others = [
            name for name, known in self.manifest.sets.items() if name != own and {*elevations} <= {*known}
        ]
        return [self._place(name, elevations) for name in others]

    def counterfactual(self, sample: str) -> PosedViews:
        """The views of an edit's counterfactual."""
        reshaped = self.manifest.samples[sample].reshaped
        return self._views(
            sample, f"{sample}_depth" if reshaped else "turntable_depth", self.manifest.turntable
        )

    def counterfactual_paths(self) -> list[Path]:
        """The files that hold its edits' counterfactuals."""
        edits = {key: entry for key, entry in self.manifest.samples.items() if entry.scene == self.name}
        names = [
            name
            for key, entry in edits.items()
            for name in (key, *([f"{key}_depth"] if entry.reshaped else []))
        ]
        return [self._path(name) for name in names]

    def _path(self, name: str) -> Path:
        return self.base / "views" / self.name / f"{name}.webp"

    def _views(self, name: str, depth: str, path: CameraPath) -> PosedViews:
        stage, count = self.manifest.stage, len(path.azimuths)
        images = self._sheet(self._path(name), "RGBA", count)
        levels = self._sheet(self._path(depth), "L", count)
        return PosedViews(images, stage.cameras(path), stage.level_depths(levels))

    def _shots(self, name: str, path: CameraPath, first: int) -> Shots:
        chosen = self._place(self.manifest.scenes[self.name].set, path.elevations)
        total = len(self.manifest.fit.azimuths) + len(self.manifest.turntable.azimuths)
        shadows = self._sheet(self._path("shadows"), "L", total)[first : first + len(path.azimuths)]
        lit = np.rint(chosen * (shadows[..., None] / np.float32(255))).astype(np.uint8)
        return Shots(self._views(name, f"{name}_depth", path), lit)

    def _place(self, name: str, elevations: Sequence[float]) -> NDArray[np.uint8]:
        """An empty set from these elevations, [V, H, W, 3]."""
        known = self.manifest.sets[name]
        sheet = self._sheet(self.base / "sets" / f"{name}.webp", "RGB", len(known), columns=len(known))
        return sheet[[known.index(elevation) for elevation in elevations]]

    def _sheet(self, path: Path, mode: str, count: int, columns: int = 12) -> NDArray[np.uint8]:
        size = self.manifest.stage.size
        expected = (size * columns, size * -(-count // columns))
        try:
            with self.files.reader() as read:
                data = read(path)
            with Image.open(io.BytesIO(data)) as image:
                # The size is known before a pixel is decoded.
                if image.size != expected:
                    raise DataError(
                        f"{path} is {image.size[0]}x{image.size[1]} px, not {expected[0]}x{expected[1]}"
                    )
                return untile(np.asarray(image.convert(mode)), count, size, size)
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing: restore it") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} is no whole picture: restore it") from error


@dataclass(frozen=True)
class SceneDataset:
    """A dataset of 3D edits: its card, its samples, and what was wrong with the others."""

    name: str
    card: DatasetCard
    samples: tuple[SceneSample, ...]
    problems: tuple[Problem, ...]
    scenes: tuple[StoredScene, ...]
    manifest_path: Path
    files: Files

    @property
    def resolution(self) -> int:
        """Side of the views in pixels."""
        return self.card.resolution

    @cached_property
    def revision(self) -> str:
        """BLAKE2b over the manifest and all pictures; the same for a folder and its zip."""
        ids = [scene.id for scene in self.scenes]
        pictures = [path for scene in self.scenes for path in scene.counterfactual_paths()]
        return fingerprint(self.files, [self.manifest_path, *pictures], self.manifest_path.parent, ids)


def open_objaverse(profile: Profile, root: Path | None, strict: bool = True) -> SceneDataset | ListedScenes:
    """The embedded 3D edits of studio objects, a dataset of the same format, or Objaverse's own objects.

    Args:
        profile: says which resolution is wanted; the paper's looks for the first author's list by default.
        root: folder or zip of a dataset of this format; else a subset of Objaverse: a name, or a YAML file.
        strict: whether malformed entries and another resolution are errors.

    Raises:
        UnknownName: neither a folder nor a subset of this name.
        DataError: nothing readable is there, an entry is malformed, or the views have another resolution.
    """
    if root is None and profile.name == "paper":
        root = Path(DEFAULT_SUBSET)
    if root is not None and (root.suffix in (".yaml", ".yml") or not root.exists()):
        from piva_bench.data.objaverse_objects import open_subset

        # A run's manifest has a subset's name as a path, where it was given.
        return open_subset(root if root.suffix else root.name, profile, strict)
    return open_scenes("objaverse", paths.data_root() / "objaverse" / "studio", profile, root, strict)


def open_failure_modes(profile: Profile, root: Path | None, strict: bool = True) -> SceneDataset:
    """The embedded 3D edits of transparent, reflective and thin objects; as `open_objaverse`."""
    return open_scenes("failure_modes", paths.data_root() / "failure_modes", profile, root, strict)


def open_scenes(name: str, embedded: Path, profile: Profile, root: Path | None, strict: bool) -> SceneDataset:
    """Opens a dataset of 3D edits; see `open_objaverse`.

    Args:
        name: what it is asked for by.
        embedded: where it lies if `root` is None.
        profile: says which resolution is wanted.
        root: folder or zip of another one.
        strict: whether malformed entries and another resolution are errors.
    """
    dataset = read_scenes(name, root or embedded)
    if strict and dataset.resolution != profile.resolution:
        raise DataError(
            f"{dataset.files.location} holds {dataset.resolution} px views, profile '{profile.name}' works at "
            f"{profile.resolution} px: name scenes of that size with --data-root, or edit one of your own with edit3d"
        )
    if strict and dataset.problems:
        raise DataError(dataset.problems[0].message)
    return dataset


def read_scenes(name: str, root: Path) -> SceneDataset:
    """Reads a dataset of 3D edits; samples that do not fit the rest become `problems`.

    Raises:
        DataError: the copy as a whole cannot be read.
    """
    files = open_files(root)
    found = files.find(MANIFEST)
    if not found:
        raise DataError(f"{root} holds no {MANIFEST}: it is no dataset of 3D edits (see --data-root)")
    path = found[0]
    with files.reader() as read:
        manifest = _parse(read(path), path)
        try:
            card = read_card(path.with_name(CARD), path.with_name(CARD), read)
        except FileNotFoundError as error:
            raise DataError(f"{path.with_name(CARD)} is missing: restore it") from error
    scenes = {scene: StoredScene(scene, path.parent, manifest, files) for scene in manifest.scenes}
    samples, problems = [], []
    for key, entry in manifest.samples.items():
        if fault := _fault(key, entry, manifest):
            problems.append(Problem(key, f"sample {key!r}: {fault}"))
        else:
            samples.append(_sample(key, entry, scenes[entry.scene]))
    return SceneDataset(name, card, tuple(samples), tuple(problems), tuple(scenes.values()), path, files)


def _parse(data: bytes, path: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']}") from error
    for route in (manifest.fit, manifest.turntable):
        if len(route.azimuths) != len(route.elevations):
            raise DataError(
                f"{path}: {len(route.azimuths)} azimuths and {len(route.elevations)} elevations of cameras"
            )
    return manifest


def _fault(key: str, entry: SampleEntry, manifest: Manifest) -> str | None:
    """What is wrong with an entry, in a few words."""
    for name in (key, entry.scene):
        try:
            safe_join(Path(), name)
        except ValueError as error:
            return f"its name or scene {name!r} {error}"
    if entry.scene not in manifest.scenes:
        return f"its scene {entry.scene!r} is not described: add it to `scenes`"
    place = manifest.scenes[entry.scene].set
    known = manifest.sets.get(place, ())
    if missing := {*manifest.fit.elevations, *manifest.turntable.elevations} - {*known}:
        return f"its place {place!r} has no picture at elevation {min(missing):g}"
    if unsaid := [side for side in SIDES if side not in entry.prompts]:
        return f"it has no prompts for the {unsaid[0]}"
    return None


def _sample(key: str, entry: SampleEntry, scene: StoredScene) -> SceneSample:
    folder = scene.base / "views" / entry.scene
    source, target = entry.prompts["front"]
    return SceneSample(
        id=key,
        source_path=folder / "turntable.webp",
        source_prompt=source,
        target_prompt=target,
        instruction=entry.instruction,
        edit_type=entry.edit_type,
        reference_path=folder / f"{key}.webp",
        tags={**entry.tags, "object": scene.manifest.scenes[entry.scene].object},
        resolution=scene.manifest.stage.size,
        files=scene.files,
        scene=scene,
        counterfactual=lambda: scene.counterfactual(key),
        side_prompts={side: entry.prompts[side] for side in SIDES},
    )
