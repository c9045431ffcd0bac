"""How sharp an edit is: a worked example of a metric protocol."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from piva_bench.plugin import MetricInfo, Pair, Pixels, Scores, Undefined, fingerprint


class SharpnessV1:
    """Sharpness of the edit against that of the source. It needs no model."""

    name = "sharpness-v1"
    descriptors: Mapping[str, MetricInfo] = {
        "sharpness": MetricInfo(
            name="sharpness",
            title="Sharpness",
            unit="ratio",
            direction="none",
            scale=1,
            group="identity",
            description="Mean absolute step between neighbouring pixels, edit over source, whole picture.",
            headline=True,
        )
    }

    @property
    def fingerprint(self) -> str:
        """Changes when a score would: with the definition here, with the weights where there are any."""
        return fingerprint("sharpness-v1: mean |difference| along both axes, edit / source")

    def score(self, pair: Pair) -> Scores:
        """All metrics of one edit. What cannot be said is `Undefined`, never 0."""
        before, after = steepness(pair.source), steepness(pair.edited)
        ratio = Undefined("the source is of one colour") if before == 0 else after / before
        return Scores.collect({"sharpness": ratio})


def steepness(picture: Pixels) -> float:
    """Mean absolute step between neighbouring pixels."""
    values = picture.astype(np.float64)
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())
