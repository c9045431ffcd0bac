"""The scores of one 3D edit that need no classifier: its turntable beside the source's and the counterfactual's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from piva_bench.errors import DataError
from piva_bench.metrics.pixels import psnr, ssim
from piva_bench.metrics.protocol import Pixels, Undefined, ViewsPair
from piva_bench.metrics.views import (
    Value,
    clip_similarity,
    depth_change,
    direction_consistency,
    directional_similarity,
    haze,
    silhouette_iou,
    worst_mean,
)
from piva_bench.metrics.views_consistency import back_project, multi_view_consistency
from piva_bench.scene.views import PosedViews

EVERY = 6
"""Perceptual distances look at one view in so many: ST-LPIPS costs ten times what all else in the embedded world does,
and neighbours agree."""
NO_REFERENCE = Undefined("the sample has no counterfactual views")


class Encoder(Protocol):
    """A CLIP: embeds pictures (uint8 [H, W, 3]) and texts in one space."""

    def encode_images(self, images: Any) -> Any:
        """[N, D] of N pictures."""

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """[N, D] of N texts."""


Distance = Callable[[Pixels, Pixels], Sequence[float]]
"""A perceptual distance, for instance LPIPS or ST-LPIPS, of uint8 pictures [V, H, W, 3] one by one."""

Prompts = Mapping[str, tuple[str, str]]
"""Source and target prompt as they describe what is seen from the "front", the "side" and the "back"."""


def side_prompts(source: str, target: str) -> Prompts:
    """Prompts that name the side at their end, as DreamFusion does (arXiv 2209.14988)."""
    return {side: (f"{source}, {side} view", f"{target}, {side} view") for side in ("front", "side", "back")}


def score_views(
    pair: ViewsPair, encoders: Mapping[str, Encoder], distances: Mapping[str, Distance] | None = None
) -> dict[str, Value]:
    """Scores of one edit over the views of a turntable. What needs a counterfactual that is not there is undefined.

    Args:
        pair: the edit, its source and perhaps its counterfactual; each view is compared with the prompt of its side,
            and the backdrop counts before which it does worst.
        encoders: CLIPs by what is appended to the names of their metrics.
        distances: perceptual distances by name; each adds ``source_<name>`` and ``reference_<name>``, over one view
            in `EVERY`.

    Raises:
        DataError: views from different cameras.
    """
    edit, known = pair.edited, {"source": pair.source}
    if pair.reference is not None:
        known["reference"] = pair.reference
    for views in known.values():
        _same_cameras(views, edit)
    pictures = {name: shown(views, pair.backdrops) for name, views in known.items()}
    edited = shown(edit, pair.backdrops)
    scores: dict[str, Value] = {
        "view_inconsistency": _consistency(edit),
        "view_inconsistency_source": _consistency(pair.source),
        "haze": haze(edit.alpha, *(views.alpha for views in known.values()))
        if "reference" in known
        else NO_REFERENCE,
    }
    for end, encoder in encoders.items():
        found = _embedded(encoder, pair)
        scores |= {f"{name}{end}": value for name, value in found.items()}
    near = {
        name: _against(views, pictures[name], edit, edited, distances or {}) for name, views in known.items()
    }
    if pair.reference is None:
        near["reference"] = dict.fromkeys(near["source"], NO_REFERENCE)
    return scores | {f"{name}_{each}": value for name in near for each, value in near[name].items()}


def shown(views: PosedViews, backdrops: Pixels) -> Pixels:
    """The views before each backdrop, uint8 [B, V, H, W, 3]."""
    return np.stack([views.composite(place / np.float32(255)) for place in backdrops])


def _embedded(encoder: Encoder, pair: ViewsPair) -> dict[str, Value]:
    """What a CLIP says of the edit's pictures, beside those of the source."""
    # Prompts may name the place, so likeness to them is only fair there; of changes the place is no part.
    places = np.concatenate([pair.backgrounds[None], pair.backdrops])
    (home, *away), (home_source, *away_source) = (
        [np.asarray(encoder.encode_images(list(turn))) for turn in shown(views, places)]
        for views in (pair.edited, pair.source)
    )
    first, second = np.stack(away_source), np.stack(away)
    texts = np.asarray(encoder.encode_texts([text for told in pair.prompts.values() for text in told]))
    told = {side: texts[2 * number : 2 * number + 2] for number, side in enumerate(pair.prompts)}
    of_source, of_target = np.stack([told[side] for side in pair.edited.cameras.view_names], axis=1)
    return {
        "clip_similarity": clip_similarity(home[None], of_target),
        "clip_similarity_source": clip_similarity(home_source[None], of_target),
        "clip_directional": directional_similarity(first, second, of_source, of_target),
        "direction_consistency": direction_consistency(first, second),
    }


def _same_cameras(first: PosedViews, second: PosedViews) -> None:
    one, other = first.cameras, second.cameras
    same = len(one) == len(other) and (one.width, one.height) == (other.width, other.height)
    if not same or not (
        np.allclose(one.camera_to_world, other.camera_to_world, atol=1e-4)
        and np.allclose(one.intrinsics, other.intrinsics, rtol=1e-4)
    ):
        raise DataError("views of source and edit must be taken by the same cameras: render both on one path")


def _consistency(views: PosedViews) -> Value:
    if views.depth is None:
        return Undefined("the views have no depth")
    return multi_view_consistency(views)


def _against(
    known: PosedViews, pictures: Pixels, edit: PosedViews, edited: Pixels, distances: Mapping[str, Distance]
) -> dict[str, Value]:
    """How near an edit's views are to others: pixels, structure, silhouettes, depth."""
    views = range(len(edit))

    def over_views(distance: Callable[[Pixels, Pixels], Value]) -> Value:
        turns = zip(pictures, edited, strict=True)
        values = [[_number(distance(known[i], edited[i])) for i in views] for known, edited in turns]
        return worst_mean(np.array(values), "defined for no view")

    large = min(known.cameras.width, known.cameras.height) >= 11
    return {
        "psnr": over_views(psnr),
        "ssim": over_views(ssim) if large else Undefined("pictures smaller than SSIM's window"),
        "silhouette_iou": silhouette_iou(known.silhouettes, edit.silhouettes),
        "depth_change": Undefined("the views have no depth")
        if known.depth is None or edit.depth is None
        else depth_change(known.depth, edit.depth, _size(known)),
        **{
            name: worst_mean(
                np.array([distance(a[::EVERY], b[::EVERY]) for a, b in zip(pictures, edited, strict=True)]),
                "defined for no view",
                higher=False,
            )
            for name, distance in distances.items()
        },
    }


def _number(value: Value) -> float:
    return math.nan if isinstance(value, Undefined) else value


def _size(views: PosedViews) -> float:
    """Largest edge of the box round all points that the views hit."""
    points = np.concatenate([back_project(views, index)[2] for index in range(len(views))])
    return float(np.ptp(points, axis=0).max()) if len(points) else 1.0
