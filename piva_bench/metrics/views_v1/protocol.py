"""views-v1: the protocol of 3D edits in the embedded world, over all views of a turntable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from piva_bench.metrics.protocol import MetricInfo, Pixels, Scores, ViewsPair
from piva_bench.metrics.studio_evaluators import StudioEvaluators
from piva_bench.metrics.views import Value, attribute_scores
from piva_bench.metrics.views_v1.table import METRICS

DEFINITIONS = "views-v1/2"
"""Raise the last number when a metric's code changes what it computes."""
HEADS = ("object", "color", "material", "print", "pose", "accessory")
"""Attributes of the object. The others are those of the place, which no edit of the object can change."""


class ViewsV1(StudioEvaluators):
    """Text agreement, identity, consistency over views, and distance to the truth, by the studio's evaluators.

    Args:
        clip: folder of the evaluator CLIP.
        classifier: folder of the attribute classifier.
        stlpips: weights of ST-LPIPS; by default those of the installed ``stlpips-pytorch``.

    Raises:
        ModelError: an evaluator is missing or damaged.
    """

    name: ClassVar[str] = "views-v1"
    kind: ClassVar[str] = "scenes"
    descriptors: ClassVar[Mapping[str, MetricInfo]] = {metric.name: metric for metric in METRICS}

    def __init__(
        self, clip: Path | None = None, classifier: Path | None = None, stlpips: Path | None = None
    ) -> None:
        super().__init__(DEFINITIONS, clip, classifier, stlpips)

    def score(self, pair: ViewsPair) -> Scores:
        """All metrics of one 3D edit; see ``descriptors`` for their definitions."""
        from piva_bench.metrics.views_table import NO_REFERENCE, score_views

        found = score_views(pair, {"": self._clip}, {"stlpips": self._stlpips.pairwise})
        found |= self._attributes(pair)
        return Scores.collect({name: found.get(name, NO_REFERENCE) for name in self.descriptors})

    def _attributes(self, pair: ViewsPair) -> dict[str, Value]:
        from piva_bench.metrics.views_table import shown

        if pair.reference is None:
            return {}
        source, edited, reference = (
            [self._read(turn) for turn in shown(views, pair.backdrops)]
            for views in (pair.source, pair.edited, pair.reference)
        )
        return attribute_scores(source, edited, reference, pair.edited.cameras.view_names)

    def _read(self, pictures: Pixels) -> list[dict[str, str]]:
        return [{head: seen[head] for head in HEADS} for seen in self._classifier.predict(pictures)]
