"""The reference rows that a run adds by itself: what no edit, the autoencoder alone and the true edit score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from piva_bench.data.sample import UnreadableSample
from piva_bench.registry import METHODS
from piva_bench.runs.variants import Variant, known_parameters, resolve_variants

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.profiles import Profile

ROWS = ("identity", "vae_roundtrip", "counterfactual")


def reference_rows(
    asked: Sequence[Variant],
    samples: Sequence[Sample],
    given: Mapping[str, Any],
    profile: Profile,
    kind: str,
) -> list[Variant]:
    """The rows that edit this kind, have a sample to stand on, and are not asked for anyway.

    Args:
        asked: the methods that are.
        samples: what is edited.
        given: the user's parameters; a row takes those that it has.
        profile: supplies defaults.
        kind: what is edited; see ``EditMethod.kinds``.
    """
    found = []
    for name in ROWS:
        cls = METHODS.load(name)
        if kind not in cls.kinds or name in {variant.name for variant in asked}:
            continue
        known = known_parameters(cls, kind)
        own = {parameter: value for parameter, value in given.items() if parameter in known}
        found += resolve_variants([name], own, profile, kind)
    return [variant for variant in found if fitting(variant, samples)]


def fitting(variant: Variant, samples: Sequence[Sample]) -> list[Sample]:
    """The samples that a reference row can be made of: nothing is asked of it, so nothing of it may fail."""
    true = variant.cls.card.needs_reference
    return [
        sample
        for sample in samples
        if not isinstance(sample, UnreadableSample) and (sample.has_counterfactual or not true)
    ]
