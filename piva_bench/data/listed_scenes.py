"""What datasets have in common whose scenes a YAML file lists: prompts by side, plain backgrounds, the dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from piva_bench.data.dataset import DatasetCard, Problem
from piva_bench.data.sample import Sample
from piva_bench.data.scene_sample import SceneSample, SceneSource, Shots

if TYPE_CHECKING:
    from piva_bench.scene.views import PosedViews

EDIT_TYPE = "own"
"""Of edits that are prompts and nothing else, as in a folder of own pictures."""


@dataclass(frozen=True)
class ListedScenes:
    """A dataset of 3D edits that a YAML file lists.

    Attributes:
        name: what it is asked for by.
        card: origin, terms, size of the views.
        samples: the edits, those of scenes that cannot be used as `UnreadableSample`.
        revision: content fingerprint of the list and of all that its scenes are made from.
        problems: what is wrong with scenes that are left out.
        notes: what a user should know of scenes, and of those that are left out, a line each.
    """

    name: str
    card: DatasetCard
    samples: tuple[Sample, ...]
    revision: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def resolution(self) -> int:
        """Side of the views in pixels."""
        return self.card.resolution


def make_sample(
    scene: SceneSource,
    number: int,
    prompts: tuple[str, str],
    words: Mapping[str, str],
    *,
    name: str,
    path: Path,
    resolution: int,
    tags: Mapping[str, str],
) -> SceneSample:
    """One edit of a scene; nobody knows its counterfactual.

    Args:
        scene: the source.
        number: of the edit among the scene's, from 1.
        prompts: source and target.
        words: what is appended to both, by side.
        name: of the scene, unique.
        path: where it is read from, for messages.
        resolution: side of its views in pixels.
        tags: of the sample.
    """
    source, target = prompts
    return SceneSample(
        id=f"{name}-{number}",
        source_path=path,
        source_prompt=source,
        target_prompt=target,
        instruction="",
        edit_type=EDIT_TYPE,
        tags=tags,
        resolution=resolution,
        scene=scene,
        side_prompts=side_prompts(prompts, words),
    )


def side_prompts(prompts: tuple[str, str], words: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Source and target prompt for each side: what names it is appended to both."""
    source, target = prompts
    return {side: (source + more, target + more) for side, more in words.items()}


def in_turn(scenes: Sequence[Sequence[Sample]]) -> tuple[Sample, ...]:
    """The samples of several scenes: the first edit of each, then the second ..., so that a few show many scenes."""
    longest = max(map(len, scenes), default=0)
    return tuple(samples[number] for number in range(longest) for samples in scenes if number < len(samples))


def slug(text: str) -> str:
    """Letters, digits and hyphens of a name, for ids and files."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "scene"


def on_colour(views: PosedViews, colour: Sequence[float]) -> Shots:
    """Views before one colour (RGB in [0, 1])."""
    pixel = np.rint(np.asarray(colour, np.float64) * 255).astype(np.uint8)
    return Shots(views, np.broadcast_to(pixel, (*views.images.shape[:3], 3)))
