"""The metrics of the protocol `views-v1`."""

from __future__ import annotations

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

_CLIP = Clip(
    note="Studio CLIP, trained on studio captions; not comparable with any public CLIP.",
    prompts="as captions do",
    headlines=("clip_similarity", "direction_consistency"),
)
_STLPIPS = Distance(
    "stlpips", "ST-LPIPS", "Shift-tolerant LPIPS (AlexNet, arXiv 2207.13686)", "Not LPIPS.", headline=True
)

# fmt: off
METRICS: tuple[MetricInfo, ...] = (
    MetricInfo("edit_accuracy", "Edit acc.", "share", "higher", 100, "oracle", headline=True, description=
        "Of the attributes that the studio classifier sees differ between source and counterfactual in at least "
        "half of the views, the share of views in which it sees the counterfactual's value on the edit, before both of "
        "two backdrops that the edit has not seen."),
    MetricInfo("edit_accuracy_worst", "Edit acc. worst side", "share", "higher", 100, "oracle", description=
        "The same over the views of one side alone (front, side or back), of the side where it is least."),
    *text_metrics(_CLIP),
    MetricInfo("attributes_kept", "Attr. kept", "share", "higher", 100, "oracle", headline=True, description=
        "Of the other attributes of the object, the share of views in which the classifier sees the "
        "counterfactual's value on the edit, before both backdrops."),
    *identity_metrics([_STLPIPS]),
    *INCONSISTENCY,
    *views_metrics(_CLIP),
    *truth_metrics([_STLPIPS], headline=True),
)
# fmt: on
