"""The validation split: what defaults and hyper-parameters are chosen on, never what is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from piva_bench import paths
from piva_bench.data.pie import PieDataset, open_pie
from piva_bench.data.scenes import SceneDataset, open_scenes

if TYPE_CHECKING:
    from piva_bench.profiles import Profile

PIE, SCENES = "pie_val", "objaverse_val"


def open_pie_val(profile: Profile, root: Path | None, strict: bool = True) -> PieDataset:
    """The embedded validation tasks: 60 of PIE-Bench's ten types, none of whose compositions `pie` shows.

    Raises:
        DataError: see `open_pie`.
    """
    return replace(open_pie(profile, root or paths.data_root() / PIE, strict), name=PIE)


def open_objaverse_val(profile: Profile, root: Path | None, strict: bool = True) -> SceneDataset:
    """The embedded validation scenes: edits of 8 objects that `objaverse` does not show.

    Raises:
        DataError: see `open_scenes`.
    """
    return open_scenes(SCENES, paths.data_root() / SCENES, profile, root, strict)
