"""Captures as a dataset: NeRF-synthetic scenes and nerfstudio captures that a YAML file lists with their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from piva_bench import paths
from piva_bench.data.dataset import DatasetCard, Problem
from piva_bench.data.files import FolderFiles, fingerprint
from piva_bench.data.kept_views import kept_arrays
from piva_bench.data.listed_scenes import ListedScenes, in_turn, make_sample, on_colour, slug
from piva_bench.data.scene_sample import SIDES, SceneSample, Shots
from piva_bench.errors import DataError, UserError
from piva_bench.key import content_key
from piva_bench.scene.sources import FRAMES, OwnScene, open_capture
from piva_bench.scene.transforms import capture_files
from piva_bench.scene.views import PosedViews

if TYPE_CHECKING:
    from piva_bench.profiles import Profile
    from piva_bench.scene.cameras import Cameras

LIST = "scenes.yaml"
SHIPPED = "nerf-synthetic"
"""The list for a folder without one."""
VERSION = 1
"""To be raised when a change to how captures are read changes their views."""

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
    background: tuple[Share, Share, Share] = Field(
        (1.0, 1.0, 1.0), description="RGB behind it; of pictures without transparency the colour they have"
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
        colour: behind it.
        resolution: side of the views in pixels; pictures are cropped to their central square.
    """

    path: Path
    colour: tuple[float, float, float]
    resolution: int

    @cached_property
    def id(self) -> str:
        """BLAKE2b over transforms and pictures, colour and resolution.

        Raises:
            DataError: a file is missing or a pose not finite.
        """
        files = capture_files(self.path)
        base = files[0].parent
        head = [f"capture {VERSION}", str(self.resolution), repr(self.colour)]
        return fingerprint(FolderFiles(base), files, base, head)

    @property
    def box(self) -> NDArray[np.floating[Any]]:
        """[2, 3] about the ball that every camera sees whole."""
        return self._opened.box

    @property
    def turntable_cameras(self) -> Cameras:
        """Once round at the capture's cameras' mean distance and elevation."""
        return self._opened.turntable

    def fit_views(self) -> Shots:
        """The capture's pictures."""
        return on_colour(self._opened.views, self.colour)

    def turntable(self) -> Shots:
        """Renders of the fitted field, once round at the cameras' mean distance and elevation, with depth.

        Raises:
            DataError: the capture cannot be read or fitted.
        """
        cameras = self.turntable_cameras
        key = content_key({"turntable": VERSION, "scene": self.id, "frames": FRAMES})
        kept = kept_arrays(key, ("images", "depth"), self._render)
        return on_colour(PosedViews(kept["images"], cameras, kept["depth"]), self.colour)

    def places(self) -> tuple[NDArray[np.uint8], ...]:
        """None: it stands before a colour."""
        return ()

    @property
    def _opened(self) -> OwnScene:
        return _open(self.path, self.id, self.resolution)

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
    """The captures of a list.

    Args:
        profile: says how large the views are.
        root: the YAML; or a folder: its ``scenes.yaml``, else the scenes of the shipped list that lie there.
        strict: whether a capture that cannot be read is an error.

    Raises:
        DataError: there is no list, it is malformed, or (strict) a capture is missing or damaged.
    """
    path, base = _find(root)
    listed = read_list(path)
    scenes: list[list[SceneSample]] = []
    ids: dict[str, str] = {}
    problems: list[Problem] = []
    for entry in listed.scenes:
        scene = CaptureScene(base / entry.path, entry.background, profile.resolution)
        try:
            ids[entry.title] = scene.id
        except UserError as error:
            if strict:
                raise DataError(f"scene {entry.title}: {error}") from error
            problems.append(Problem(None, f"scene {entry.title}: {error}"))
            continue
        scenes.append(_samples(entry, scene))
    card = DatasetCard(
        name=listed.name,
        title=listed.title,
        license=listed.license,
        source=listed.source,
        description=f"Captures of scenes; they are judged in {FRAMES} views of a turntable, rendered from the field "
        "that is fitted to a capture's pictures.",
        resolution=profile.resolution,
    )
    revision = content_key({"list": listed.model_dump(mode="json"), "scenes": ids})[:16]
    return ListedScenes("captures", card, in_turn(scenes), revision, tuple(problems))


def read_list(path: Path) -> CaptureList:
    """Reads a list of captures.

    Raises:
        DataError: it is missing or malformed; in one line.
    """
    try:
        return CaptureList.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _find(root: Path | None) -> tuple[Path, Path]:
    """The list, and where its paths start."""
    if root is None:
        raise DataError(
            "The dataset 'captures' needs --data-root: a YAML that lists scenes, or the folder nerf_synthetic"
        )
    if not root.is_dir():
        return root, root.parent
    own = root / LIST
    return (own if own.is_file() else paths.data_root() / "captures" / f"{SHIPPED}.yaml"), root


def _samples(entry: CaptureEntry, scene: CaptureScene) -> list[SceneSample]:
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
