"""The scores of one 3D edit that need no classifier: its turntable beside the source's and the counterfactual's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError
from piva_bench.metrics.pixels import psnr, ssim
from piva_bench.metrics.protocol import Pixels, Undefined
from piva_bench.metrics.views import (
    Value,
    clip_similarity,
    depth_change,
    direction_consistency,
    directional_similarity,
    front_confusion,
    front_repetition,
    janus_index,
    silhouette_iou,
)
from piva_bench.metrics.views_consistency import back_project, multi_view_consistency
from piva_bench.scene.views import WHITE, PosedViews


class Encoder(Protocol):
    """Embeds pictures (uint8 [H, W, 3]) and texts in one space, as :class:`piva_bench.metrics.clip.SmallClip`."""

    def encode_images(self, images: Any) -> Any:
        """[N, D] of N pictures."""

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """[N, D] of N texts."""


Distance = Callable[[Pixels, Pixels], Sequence[float]]
"""A perceptual distance, for instance LPIPS or ST-LPIPS, of pictures [V, H, W, 3] one by one."""

Prompts = Mapping[str, tuple[str, str]]
"""Source and target prompt as they describe what is seen from the "front", the "side" and the "back"."""


def side_prompts(source: str, target: str) -> Prompts:
    """Prompts that name the side at their end, as DreamFusion does (arXiv 2209.14988)."""
    return {side: (f"{source}, {side} view", f"{target}, {side} view") for side in ("front", "side", "back")}


def score_views(
    source: PosedViews,
    edit: PosedViews,
    prompts: Prompts,
    encoder: Encoder,
    *,
    reference: PosedViews | None = None,
    distance: Distance | None = None,
    background: Sequence[float] | NDArray[np.floating[Any]] = WHITE,
    closed: bool = True,
) -> dict[str, Value]:
    """Scores of one edit over its views.

    Args:
        source: views of the source.
        edit: views of the edit from the same cameras.
        prompts: what source and edit show; each view is compared with the prompt of its side.
        encoder: a CLIP.
        reference: the counterfactual from the same cameras; adds ``reference_*`` and ``front_confusion``.
        distance: a perceptual distance; adds ``source_lpips`` and ``reference_lpips``, whatever LPIPS it is.
        background: behind the pictures: a colour, or pictures [V, H, W, 3], in [0, 1].
        closed: whether the views go once round.

    Raises:
        DataError: views from different cameras.
    """
    others = [edit] if reference is None else [edit, reference]
    for other in others:
        _same_cameras(source, other)
    before, after = source.composite(background), edit.composite(background)
    first, second = (np.asarray(encoder.encode_images(list(pictures))) for pictures in (before, after))
    texts = np.asarray(encoder.encode_texts([text for pair in prompts.values() for text in pair]))
    told = {side: texts[2 * number : 2 * number + 2] for number, side in enumerate(prompts)}
    of_source, of_target = np.stack([told[side] for side in edit.cameras.view_names], axis=1)
    front, back = told["front"][1], told["back"][1]
    azimuths = edit.cameras.azimuths
    scores: dict[str, Value] = {
        "clip_similarity": clip_similarity(second, of_target),
        "clip_similarity_source": clip_similarity(first, of_target),
        "clip_directional": directional_similarity(first, second, of_source, of_target),
        "direction_consistency": direction_consistency(first, second, closed=closed),
        "janus_index": janus_index(second, azimuths, front, back),
        "janus_index_source": janus_index(first, azimuths, front, back),
        "front_repetition": front_repetition(second, azimuths),
        "front_repetition_source": front_repetition(first, azimuths),
        "view_inconsistency": _consistency(edit, closed=closed),
        "view_inconsistency_source": _consistency(source, closed=closed),
        **_against("source", source, before, edit, after, distance),
    }
    if reference is not None:
        truth = reference.composite(background)
        known = np.asarray(encoder.encode_images(list(truth)))
        scores["front_confusion"] = front_confusion(second, known, azimuths)
        scores |= _against("reference", reference, truth, edit, after, distance)
    return scores


def _same_cameras(first: PosedViews, second: PosedViews) -> None:
    one, other = first.cameras, second.cameras
    same = len(one) == len(other) and (one.width, one.height) == (other.width, other.height)
    if not same or not (
        np.allclose(one.camera_to_world, other.camera_to_world, atol=1e-4)
        and np.allclose(one.intrinsics, other.intrinsics, rtol=1e-4)
    ):
        raise DataError("views of source and edit must be taken by the same cameras: render both on one path")


def _consistency(views: PosedViews, *, closed: bool) -> Value:
    if views.depth is None:
        return Undefined("the views have no depth")
    return multi_view_consistency(views, closed=closed)


def _against(
    name: str,
    known: PosedViews,
    pictures: Pixels,
    edit: PosedViews,
    edited: Pixels,
    distance: Distance | None,
) -> dict[str, Value]:
    """How near an edit's views are to others: pixels, structure, silhouettes, depth."""
    pairs = list(zip(pictures, edited, strict=True))
    large = min(known.cameras.width, known.cameras.height) >= 11
    scores: dict[str, Value] = {
        f"{name}_psnr": _over_views([psnr(a, b) for a, b in pairs]),
        f"{name}_ssim": _over_views([ssim(a, b) for a, b in pairs])
        if large
        else Undefined("pictures smaller than SSIM's window"),
        f"{name}_silhouette_iou": silhouette_iou(known.silhouettes, edit.silhouettes),
        f"{name}_depth_change": Undefined("the views have no depth"),
    }
    if distance is not None:
        scores[f"{name}_lpips"] = _over_views(distance(pictures, edited))
    if known.depth is not None and edit.depth is not None:
        scores[f"{name}_depth_change"] = depth_change(known.depth, edit.depth, _size(known))
    return scores


def _over_views(values: Sequence[Value]) -> Value:
    defined = [value for value in values if not isinstance(value, Undefined)]
    return float(np.mean(defined)) if defined else Undefined("defined for no view")


def _size(views: PosedViews) -> float:
    """Largest edge of the box round all points that the views hit."""
    points = np.concatenate([back_project(views, index)[2] for index in range(len(views))])
    return float(np.ptp(points, axis=0).max()) if len(points) else 1.0
