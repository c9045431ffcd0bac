"""Captures as a dataset: NeRF-synthetic scenes and nerfstudio captures that a YAML file lists with their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from piva_bench import paths
from piva_bench.data.dataset import DatasetCard
from piva_bench.data.files import FolderFiles, fingerprint
from piva_bench.data.kept_views import kept_arrays
from piva_bench.data.listed_scenes import (
    EDIT_TYPE,
    ListedScenes,
    in_turn,
    make_sample,
    on_colour,
    slug,
)
from piva_bench.data.sample import Sample, UnreadableSample, need_readable
from piva_bench.data.scene_sample import SIDES, Shots
from piva_bench.errors import DataError, UserError
from piva_bench.key import content_key
from piva_bench.paths import absolute
from piva_bench.scene.capture_check import check_cameras
from piva_bench.scene.sources import FRAMES, OwnScene, open_capture, plain_background
from piva_bench.scene.transforms import open_transforms
from piva_bench.scene.views import WHITE, PosedViews

if TYPE_CHECKING:
    from piva_bench.profiles import Profile
    from piva_bench.scene.cameras import Cameras

LIST = "scenes.yaml"
SHIPPED = "nerf-synthetic"
"""The list for a folder without one."""
VERSION = 1
"""To be raised when a change to how captures are read changes their views."""

MEASURED = 8
"""Pictures that the background's colour is measured on."""

Prompt = Annotated[str, Field(pattern=r"\S")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaptureEntry(_Strict):
    """One capture with its edits."""

    path: str = Field(min_length=1, description="folder or transforms file, from where the list lies")
    name: str | None = Field(None, min_length=1, description="by default the path's last part")
    source_prompt: Prompt
    target_prompts: tuple[Prompt, ...] = Field(min_length=1)
    background: tuple[Share, Share, Share] | None = Field(
        None,
        description="RGB behind it; by default white, and of pictures without transparency the colour at their border",
    )

    @property
    def title(self) -> str:
        """Its name, else the path's last part."""
        return self.name or Path(self.path).name


class CaptureList(_Strict):
    """The contents of the YAML."""

    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    source: str = Field(min_length=1)
    license: str = Field("not stated", min_length=1)
    scenes: tuple[CaptureEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> CaptureList:
        names = [slug(entry.title) for entry in self.scenes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two scenes are called {twice[0]}: give them a `name` each")
        return self


@dataclass(frozen=True)
class CaptureScene:
    """A capture, read when its views are asked for; a `SceneSource`.

    Nobody has photographed it from a turntable: those views are rendered from the field fitted to its own.

    Attributes:
        path: folder or transforms file.
        background: colour behind it, if it was given.
        resolution: side of the views in pixels; pictures are cropped to their central square.
    """

    path: Path
    background: tuple[float, float, float] | None
    resolution: int
    rendered: ClassVar[bool] = True

    def check(self) -> list[str]:
        """Looks at transforms, cameras and the sizes of the pictures; what a user should know, a line each.

        Raises:
            DataError: a file is missing, or it is no object seen from around; in one line.
        """
        notes: list[str] = []
        capture = open_transforms(self.path, note=notes.append)
        try:
            check_cameras(capture.cameras, notes.append)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error
        measured, surroundings = self._measured
        if self.background is None and measured not in (None, WHITE):
            shown = ",".join(f"{part:.3g}" for part in self.colour)
            notes.append(f"its background is taken from the pictures' border: {shown}")
        return [*notes, *surroundings]

    @cached_property
    def id(self) -> str:
        """BLAKE2b over transforms and pictures, colour and resolution.

        Raises:
            DataError: a file is missing or a pose not finite.
        """
        capture = open_transforms(self.path)
        base = capture.file.parent
        head = [f"capture {VERSION}", str(self.resolution), repr(self.colour)]
        if any(marks := [frame.marks() for frame in capture.frames]):
            head += marks
        return fingerprint(FolderFiles(base), capture.files(), base, head)

    @cached_property
    def colour(self) -> tuple[float, float, float]:
        """Behind it: as given, else white or, of pictures without transparency, what they have at their border."""
        return self.background or self._measured[0] or WHITE

    @property
    def box(self) -> NDArray[np.floating[Any]]:
        """[2, 3] about the ball that every camera sees whole."""
        return self._opened.box

    @property
    def turntable_cameras(self) -> Cameras:
        """Once round at the cameras' mean distance and elevation."""
        return self._opened.turntable

    def fit_views(self) -> Shots:
        """The capture's pictures."""
        return on_colour(self._opened.views, self.colour)

    def turntable(self) -> Shots:
        """Renders of the fitted field from the turntable's cameras, with depth.

        Raises:
            DataError: the capture cannot be read or fitted.
        """
        key = content_key({"turntable": VERSION, "scene": self.id, "frames": FRAMES} | self._how)
        kept = kept_arrays(key, ("images", "depth"), self._render)
        return on_colour(PosedViews(kept["images"], self.turntable_cameras, kept["depth"]), self.colour)

    @property
    def _how(self) -> dict[str, float]:
        """What decides the turntable of opaque views beside the scene."""
        from piva_bench.scene.fit import EMPTY

        return {"empty": EMPTY} if self._opened.views.opaque else {}

    def places(self) -> tuple[NDArray[np.uint8], ...]:
        """None: it stands before a colour."""
        return ()

    @property
    def _opened(self) -> OwnScene:
        return _open(self.path, self.id, self.resolution)

    @cached_property
    def _measured(self) -> tuple[tuple[float, float, float] | None, list[str]]:
        """The background of some of the views, evenly spread, and what there is to say of it."""
        capture = open_transforms(self.path)
        numbers = np.linspace(0, len(capture.frames) - 1, min(MEASURED, len(capture.frames))).round()
        notes: list[str] = []
        colour = plain_background(capture.views(numbers.astype(int).tolist()), notes.append)
        return colour, notes

    def _render(self) -> Mapping[str, NDArray[Any]]:
        import torch

        from piva_bench.scene.kept_fields import UsualFit, fitted_field

        shots = self.fit_views()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        field = fitted_field(self.id, shots.views, self.box, UsualFit(), device, background=shots.colour)
        views = field.render_views(self.turntable_cameras)
        return {"images": views.images, "depth": views.need_depth("keeping views")}


@lru_cache(maxsize=2)
def _open(path: Path, fingerprint: str, resolution: int) -> OwnScene:
    """Pictures decoded once for all that asks for them in a row; the fingerprint is there to tell copies apart."""
    return open_capture(path, resolution, FRAMES, square=True)


def open_captures(profile: Profile, root: Path | None, strict: bool = True) -> ListedScenes:
    """The captures of a list. One that cannot be used has an `UnreadableSample` for each of its edits.

    Args:
        profile: says how large the views are.
        root: the YAML; or a folder: its ``scenes.yaml``, else the scenes of the shipped list that lie there; or one of
            these scenes.
        strict: whether a list of which no capture can be used is an error.

    Raises:
        DataError: there is no list, it is malformed, or (strict) no capture of it can be used.
    """
    listed, base, notes = _find(root)
    scenes: list[list[Sample]] = []
    ids: dict[str, str] = {}
    for entry in listed.scenes:
        scene = CaptureScene(base / entry.path.replace("\\", "/"), entry.background, profile.resolution)
        try:
            notes += [f"scene {entry.title}: {line}" for line in scene.check()]
            ids[entry.title] = scene.id
            scenes.append(_samples(entry, scene))
        except UserError as error:
            scenes.append(_unusable(entry, scene.path, f"scene {entry.title}: {error}"))
    samples = in_turn(scenes)
    if strict:
        need_readable(samples)
    card = DatasetCard(
        name=listed.name,
        title=listed.title,
        license=listed.license,
        source=listed.source,
        description=f"Captures of scenes; they are judged in {FRAMES} views of a turntable, rendered from the field "
        "that is fitted to a capture's pictures.",
        resolution=profile.resolution,
    )
    told = listed.model_dump(mode="json")
    for row in told["scenes"]:
        row["background"] = row["background"] or list(WHITE)
    revision = content_key({"list": told, "scenes": ids})[:16]
    return ListedScenes("captures", card, samples, revision, notes=tuple(notes))


def read_list(path: Path) -> CaptureList:
    """Reads a list of captures.

    Raises:
        DataError: it is missing or malformed; in one line.
    """
    try:
        return CaptureList.model_validate(yaml.safe_load(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _find(root: Path | None) -> tuple[CaptureList, Path, list[str]]:
    """The list, where its paths start, and what of it is left out."""
    if root is None:
        raise DataError(
            "The dataset 'captures' needs --data-root: a YAML that lists scenes, or the folder nerf_synthetic"
        )
    alone = root.is_file() and root.suffix == ".json"
    if not root.is_dir() and not alone:
        return read_list(root), root.parent, []
    if (root / LIST).is_file():
        return read_list(root / LIST), root, []
    shipped = read_list(paths.data_root() / "captures" / f"{SHIPPED}.yaml")
    if alone or any(root.glob("transforms*.json")):
        folder = absolute(root.parent if alone else root)
        known = [entry for entry in shipped.scenes if entry.path == folder.name]
        if not known:
            raise DataError(
                f"{root} is a capture itself, and what it shows is not said: write a {LIST} beside it that names its "
                "path, source_prompt and target_prompts (docs/scenes.md), or edit it with `piva-bench edit3d --scene`"
            )
        return shipped.model_copy(update={"scenes": tuple(known)}), folder.parent, []
    there = tuple(entry for entry in shipped.scenes if (root / entry.path).is_dir())
    if not there:
        raise DataError(
            f"{root} holds no {LIST}, and none of NeRF-synthetic's scenes: name a YAML that lists captures with "
            "their prompts (docs/scenes.md)"
        )
    absent = [entry.title for entry in shipped.scenes if entry not in there]
    notes = [f"{root} does not hold {', '.join(absent)}: left out"] if absent else []
    return shipped.model_copy(update={"scenes": there}), root, notes


def _unusable(entry: CaptureEntry, path: Path, fault: str) -> list[Sample]:
    return [
        UnreadableSample(
            f"{slug(entry.title)}-{number}",
            path,
            entry.source_prompt,
            target,
            "",
            EDIT_TYPE,
            tags={"object": slug(entry.title)},
            fault=fault,
        )
        for number, target in enumerate(entry.target_prompts, start=1)
    ]


def _samples(entry: CaptureEntry, scene: CaptureScene) -> list[Sample]:
    return [
        make_sample(
            scene,
            number,
            (entry.source_prompt, target),
            # Which side is the front nobody knows.
            dict.fromkeys(SIDES, ""),
            name=slug(entry.title),
            path=scene.path,
            resolution=scene.resolution,
            tags={"object": slug(entry.title)},
        )
        for number, target in enumerate(entry.target_prompts, start=1)
    ]
