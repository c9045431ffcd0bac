"""The metrics of the protocol `views-clean`."""

from __future__ import annotations

from piva_bench.metrics.clean.table import TOWERS, column, mark
from piva_bench.metrics.protocol import MetricInfo
from piva_bench.metrics.views_metrics import (
    INCONSISTENCY,
    Clip,
    Distance,
    identity_metrics,
    text_metrics,
    truth_metrics,
    views_metrics,
)


def _clip(tower: str, title: str) -> Clip:
    first = tower == next(iter(TOWERS))
    return Clip(
        note=f"{title}.",
        prompts="where the dataset's prompts do",
        headlines=("clip_similarity", "clip_directional", "direction_consistency") if first else (),
        end=column("", tower),
        mark=f" {mark(tower)}",
    )


_CLIPS = tuple(_clip(tower, title) for tower, title in TOWERS.items())
_LPIPS = (
    Distance("lpips_alex", "LPIPS-A", "LPIPS v0.1 (AlexNet)", headline=True),
    Distance("lpips_vgg", "LPIPS-V", "LPIPS v0.1 (VGG-16)"),
)

METRICS: tuple[MetricInfo, ...] = (
    *(metric for clip in _CLIPS for metric in text_metrics(clip)),
    *identity_metrics(_LPIPS),
    *INCONSISTENCY,
    *(metric for clip in _CLIPS for metric in views_metrics(clip)),
    # No headlines: of most scenes that it is meant for nobody knows the counterfactual.
    *truth_metrics(_LPIPS, headline=False),
)
