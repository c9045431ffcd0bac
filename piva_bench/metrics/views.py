"""Scores of a 3D edit from posed views of source, edit and counterfactual: pure functions of what they are given.

Embeddings are [B, V, D]: the V views in order, before each of B backdrops; texts [D], or [V, D] where each view has
its own. Of a view the backdrop counts before which it does worst. Embeddings need not be normalised, every function
does it, before any difference is taken (Vox-E's script takes differences of raw embeddings, which weighs views by their
norm; its numbers are not these). A value that has none is :class:`Undefined` with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from piva_bench.metrics.protocol import Undefined

Vectors = NDArray[np.floating]
Value = float | Undefined

SMALL = 1e-6
"""Shortest difference of unit embeddings that has a direction; fp32 noise is some 1e-7."""


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1 along the last axis, in double precision."""
    values = np.asarray(vectors, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


def _cosines(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    """Cosines of differences, NaN where one has no direction."""
    lengths = np.linalg.norm(first, axis=-1), np.linalg.norm(second, axis=-1)
    defined = np.minimum(*lengths) > SMALL
    cosine = (first * second).sum(-1) / np.where(defined, lengths[0] * lengths[1], 1.0)
    return np.where(defined, cosine, np.nan)


def worst_mean(values: NDArray[np.floating], reason: str, *, higher: bool = True) -> Value:
    """Mean over views of the worst value [B, V] before any backdrop; NaN has none.

    Args:
        values: one for each backdrop and view.
        reason: why there is none, if there is none.
        higher: whether high is good.
    """
    worst = (np.fmin if higher else np.fmax).reduce(values, axis=0)
    defined = worst[np.isfinite(worst)]
    return float(defined.mean()) if defined.size else Undefined(reason)


def clip_similarity(views: Vectors, text: Vectors) -> Value:
    """Mean cosine of the views with their text."""
    return worst_mean((unit(views) * unit(text)).sum(-1), "there is no view")


def directional_similarity(
    source: Vectors, edit: Vectors, source_text: Vectors, target_text: Vectors
) -> Value:
    """Mean cosine of each view's change with the prompts' change (InstructNeRF2NeRF's metric).

    A view that did not change has no direction and is left out.
    """
    wanted = unit(target_text) - unit(source_text)
    if (np.linalg.norm(wanted, axis=-1) <= SMALL).all():
        return Undefined("source and target prompt have the same embedding")
    change = unit(edit) - unit(source)
    return worst_mean(_cosines(change, np.broadcast_to(wanted, change.shape)), "no view was changed")


def direction_consistency(source: Vectors, edit: Vectors, *, closed: bool = True) -> Value:
    """Mean cosine of the edit vectors of neighbouring views, edit less source.

    Three formulas go by this name: this one; the cosine of the edit's step from view to view with the source's, which
    is what Instruct-NeRF2NeRF's authors compute; and the cosine of neighbouring frames' embeddings.

    Args:
        source: embeddings of the source's views.
        edit: those of the edit, from the same cameras.
        closed: whether the last view neighbours the first, as on a turntable.
    """
    change = unit(edit) - unit(source)
    cosines = _cosines(change, np.roll(change, -1, axis=1))
    return worst_mean(cosines if closed else cosines[:, :-1], "no two neighbouring views were changed")


Attributes = Sequence[Sequence[Mapping[str, str]]]
"""What a classifier reads, before each backdrop, off each view: attribute to value."""


def attribute_scores(
    source: Attributes, edit: Attributes, reference: Attributes, names: Sequence[str]
) -> dict[str, Value]:
    """What of an edit a classifier sees, and what it sees of the rest; shares of views.

    What the edit is to change is what the classifier itself sees differ between source and counterfactual in at
    least half of the views, all backdrops together; the yardstick is its reading of the counterfactual in the same view
    before the same backdrop. So a mistake that it makes on both is not counted against the method. A view shows a value
    if it does so before every backdrop.

    Args:
        source: readings of the source's views.
        edit: of the edit's.
        reference: of the counterfactual's.
        names: which side each view shows; ``edit_accuracy_worst`` is that of the side that shows the edit least.
    """
    heads = list(reference[0][0])

    def differs(first: Attributes, head: str) -> NDArray[np.bool_]:
        """[B, V] whether a reading is another one than the counterfactual's."""
        return np.array([
            [a[head] != b[head] for a, b in zip(*pair, strict=True)]
            for pair in zip(first, reference, strict=True)
        ])  # fmt: skip

    same: dict[str, NDArray[np.bool_]] = {
        head: np.all(~differs(edit, head), axis=0, keepdims=True)[0] for head in heads
    }
    meant = [head for head in heads if differs(source, head).mean() >= 0.5]
    kept = [head for head in heads if head not in meant]
    unseen = Undefined("the classifier sees no attribute change in the counterfactual")
    sides = [np.array([name == side for name in names]) for side in sorted(set(names))]
    return {
        "edit_accuracy": _share(same, meant, unseen),
        "edit_accuracy_worst": min(
            np.mean([same[head][side].mean() for head in meant]).item() for side in sides
        )
        if meant
        else unseen,
        "attributes_kept": _share(same, kept, Undefined("the classifier sees every attribute change")),
    }


def _share(same: Mapping[str, NDArray[np.bool_]], heads: Sequence[str], nothing: Undefined) -> Value:
    return float(np.mean([same[head].mean() for head in heads])) if heads else nothing


def silhouette_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Value:
    """Intersection over union of silhouettes [V, H, W], all views pooled."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else Undefined("nothing is seen in either")


def haze(edit: NDArray[np.floating], *known: NDArray[np.floating]) -> Value:
    """Mean opacity of an edit where nothing should be, in [0, 1]; all views pooled.

    Args:
        edit: its alpha [V, H, W].
        known: alphas of what may be there. A pixel round them is left out: edges of renders are soft.
    """
    filled = binary_dilation(np.maximum.reduce(known) > 0, np.ones((1, 3, 3), bool))
    empty = edit[~filled]
    return float(empty.mean(dtype=np.float64)) if empty.size else Undefined("the object fills every view")


def depth_change(first: NDArray[np.floating], second: NDArray[np.floating], size: float) -> Value:
    """Mean absolute difference of depth [V, H, W] where both hit something, as a share of the object's size."""
    both = (first > 0) & (second > 0)
    if not both.any():
        return Undefined("the two share no pixel that hits anything")
    return float(np.abs(first[both].astype(np.float64) - second[both]).mean()) / size
