"""Kinds of things that are edited; a further one is a file here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from piva_bench.runs.kinds.base import Encoded, Kind
from piva_bench.runs.kinds.pictures import Pictures
from piva_bench.runs.kinds.scenes import Scenes

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample

__all__ = ["KINDS", "Encoded", "Kind", "kind_of_samples"]

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Pictures(), Scenes())}


def kind_of_samples(samples: Iterable[Sample]) -> Kind:
    """What a dataset's samples are; pictures where none can be read."""
    return KINDS["scenes" if any(sample.kind == "scenes" for sample in samples) else "pictures"]
