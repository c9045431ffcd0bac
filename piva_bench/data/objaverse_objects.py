"""Objaverse's own objects as a dataset: a subset's GLBs in the cache, photographed, one sample a target prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from piva_bench.data.dataset import DatasetCard, Problem
from piva_bench.data.kept_views import Arrays, kept_arrays
from piva_bench.data.listed_scenes import ListedScenes, in_turn, make_sample, on_colour, slug
from piva_bench.data.scene_sample import SceneSample, Shots
from piva_bench.errors import DataError
from piva_bench.key import content_key
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.objaverse import (
    NOT_CACHED,
    Fetched,
    FetchedObject,
    ObjaverseFetcher,
    ObjectCard,
    Subset,
    read_subset,
)
from piva_bench.scene.sources import FRAMES, MODEL_VIEWS, ROOM, SIDE_WORDS, STUDIO_SIDE_WORDS, photograph
from piva_bench.scene.views import WHITE, PosedViews

if TYPE_CHECKING:
    from piva_bench.profiles import Profile

PHOTOGRAPHS_VERSION = 2
"""To be raised when a change to the renderer changes its pictures."""


@dataclass(frozen=True)
class PhotographedModel:
    """A 3D model's file, photographed when its views are first asked for; a `SceneSource`.

    Attributes:
        name: of the object, for messages.
        path: of the file.
        sha256: of its bytes.
        resolution: side of the views in pixels.
    """

    name: str
    path: Path
    sha256: str
    resolution: int
    rendered: ClassVar[bool] = False
    _faults: list[DataError] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def id(self) -> str:
        """BLAKE2b over the file's bytes, the cameras, the lights and the resolution."""
        return content_key(
            {
                "photographs": PHOTOGRAPHS_VERSION,
                "model": self.sha256,
                "rig": asdict(RIG),
                "views": [MODEL_VIEWS, FRAMES],
                "room": ROOM,
                "resolution": self.resolution,
            }
        )

    @property
    def box(self) -> NDArray[np.floating[Any]]:
        """[2, 3] the model's box and some room about it."""
        return self._arrays("box")["box"]

    @property
    def turntable_cameras(self) -> Cameras:
        """Of the views to judge by."""
        return RIG.turntable(FRAMES, self.resolution)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the file, a line each; none of one that cannot be photographed."""
        try:
            lines = self._arrays("notes")["notes"].tolist()
        except DataError:
            return ()
        return tuple(f"{self.name}: {line}" for line in lines)

    def fit_views(self) -> Shots:
        """Views from all over the rig's sphere, before white."""
        return self._shots("fit", RIG.sphere(MODEL_VIEWS, self.resolution))

    def turntable(self) -> Shots:
        """Views once round, from the front, before white."""
        return self._shots("turntable", self.turntable_cameras)

    def places(self) -> tuple[NDArray[np.uint8], ...]:
        """None: it stands before a colour."""
        return ()

    def _shots(self, name: str, cameras: Cameras) -> Shots:
        kept = self._arrays(name, f"{name}_depth")
        return on_colour(PosedViews(kept[name], cameras, kept[f"{name}_depth"]), WHITE)

    def _arrays(self, *names: str) -> Arrays:
        if self._faults:  # it would be read again for each of its edits, and for each of its paths of views
            raise self._faults[0]
        try:
            return kept_arrays(self.id, names, self._photograph)
        except DataError as error:
            self._faults.append(DataError(f"{self.name}: {error}"))
            raise self._faults[0] from error

    def _photograph(self) -> Mapping[str, NDArray[Any]]:
        size = self.resolution
        taken = photograph(self.path, RIG.sphere(MODEL_VIEWS, size), RIG.turntable(FRAMES, size))
        fit, turntable = taken.views
        return {
            "fit": fit.images,
            "fit_depth": fit.need_depth("keeping views"),
            "turntable": turntable.images,
            "turntable_depth": turntable.need_depth("keeping views"),
            "box": taken.box,
            "notes": np.array(taken.notes, dtype=str),
        }


def open_subset(name: str | Path, profile: Profile, strict: bool = True) -> ListedScenes:
    """The objects of a subset that lie in Objaverse's cache, with the edits that the subset asks for.

    Args:
        name: of a subset that ships with the program, or a YAML file.
        profile: says how large the views are and whose words name the sides.
        strict: whether a torn file, and a cache without any of the objects, are errors.

    Raises:
        UnknownName: no subset of this name.
        DataError: the list cannot be read or has no prompts; (strict) a file in the cache is torn, none is there.
    """
    subset = read_subset(name)
    wanted = subset.promptable()
    if not wanted:
        raise DataError(f"{name}: no object has prompts: give some a source_prompt and target_prompts")
    fetcher = ObjaverseFetcher()
    cached = fetcher.cached(wanted)
    notes = _notes(subset, wanted, cached, f"{fetcher.directory}", str(name))
    if strict and cached.faults:
        raise DataError(_named_faults(wanted, cached)[0])
    if strict and not cached.objects:
        raise DataError(notes[-1])
    words = STUDIO_SIDE_WORDS if profile.name == "embedded" else SIDE_WORDS
    samples = in_turn([_samples(found, words, profile.resolution) for found in cached.objects])
    missing = notes if len(cached.objects) < len(wanted) else ()
    return ListedScenes(
        name="objaverse",
        card=_card(subset, cached, profile.resolution),
        samples=samples,
        revision=_revision(subset, cached, words),
        problems=tuple(Problem(None, line) for line in (*_named_faults(wanted, cached), *missing)),
        notes=notes,
    )


def _named_faults(wanted: list[ObjectCard], cached: Fetched) -> list[str]:
    return [
        f"{card.name or card.uid}: {cached.faults[card.uid]}" for card in wanted if card.uid in cached.faults
    ]


def _samples(found: FetchedObject, words: Mapping[str, str], resolution: int) -> list[SceneSample]:
    card = found.card
    source = card.source_prompt or ""
    scene = PhotographedModel(card.name or card.uid, found.path, found.sha256, resolution)
    return [
        make_sample(
            scene,
            number,
            (source, target),
            words,
            name=f"{slug(card.name or source)}-{card.uid[:8]}",
            path=found.path,
            resolution=resolution,
            tags={"object": card.uid, "licence": found.licence},
        )
        for number, target in enumerate(card.target_prompts, start=1)
    ]


def _revision(subset: Subset, cached: Fetched, words: Mapping[str, str]) -> str:
    """BLAKE2b over the list, the files of the objects that are there, and how they are shown and told of."""
    files = {found.card.uid: found.sha256 for found in cached.objects}
    shown = {
        "photographs": PHOTOGRAPHS_VERSION,
        "rig": asdict(RIG),
        "views": [MODEL_VIEWS, FRAMES],
        "room": ROOM,
    }
    told = {"subset": subset.model_dump(mode="json"), "words": dict(words)}
    return content_key({**shown, **told, "files": files})[:16]


def _card(subset: Subset, cached: Fetched, resolution: int) -> DatasetCard:
    licences = Counter(found.licence for found in cached.objects)
    return DatasetCard(
        name=f"objaverse-{subset.name}",
        title=subset.title,
        license="by object: "
        + (", ".join(f"{n} {name}" for name, n in licences.most_common()) or "none here"),
        source=subset.source,
        description=f"Objects of Objaverse in {MODEL_VIEWS} views to fit a field to and {FRAMES} test views on a "
        "turntable, before white; the prompts are this project's own.",
        resolution=resolution,
    )


def _notes(
    subset: Subset, wanted: list[ObjectCard], cached: Fetched, cache: str, name: str
) -> tuple[str, ...]:
    """What is passed over and why, a line a reason; objects that can be fetched come last."""
    lines = []
    if silent := len(subset.objects) - len(wanted):
        lines.append(f"{subset.name}: {silent} of {len(subset.objects)} objects have no prompts: passed over")
    reasons: dict[str, list[str]] = {}
    for card in wanted:
        if reason := cached.left_out.get(card.uid):
            reasons.setdefault(reason, []).append(card.name or card.uid)
    absent = reasons.pop(NOT_CACHED, [])
    fetch = f"piva-bench data fetch objaverse --subset {name}"
    for reason, names in reasons.items():
        lines.append(f"{subset.name}: {_few(names)} left out: {reason}")
    if absent:
        lines.append(
            f"{subset.name}: {len(absent)} of {len(wanted)} objects are not in {cache} ({_few(absent)}): "
            f"`{fetch}` gets them"
        )
    return tuple(lines)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
