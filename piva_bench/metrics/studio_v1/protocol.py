"""studio-v1: the protocol of the embedded world, with metrics that only an exact counterfactual allows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from piva_bench.metrics import colour, pixels
from piva_bench.metrics.protocol import MetricInfo, Pair, Pixels, Scores, Undefined
from piva_bench.metrics.studio_evaluators import StudioEvaluators
from piva_bench.metrics.studio_v1.table import METRICS

if TYPE_CHECKING:
    from torch import Tensor

Results = dict[str, float | Undefined]

NO_REFERENCE = Undefined("the sample has no counterfactual picture")
SAME = 1e-5
"""Unit embeddings nearer than this are equal but for rounding: a direction between them would be noise."""

DEFINITIONS = "studio-v1/1"
"""Raise the last number when a metric's code changes what it computes."""


class StudioV1(StudioEvaluators):
    """Text agreement by the studio's CLIP, identity by pixels and ST-LPIPS, colour, and distance to the
    truth.

    Args:
        clip: folder of the evaluator CLIP.
        classifier: folder of the attribute classifier.
        stlpips: weights of ST-LPIPS; by default those of the installed ``stlpips-pytorch``.

    Raises:
        ModelError: an evaluator is missing or damaged.
    """

    name: ClassVar[str] = "studio-v1"
    descriptors: ClassVar[Mapping[str, MetricInfo]] = {metric.name: metric for metric in METRICS}

    def __init__(
        self, clip: Path | None = None, classifier: Path | None = None, stlpips: Path | None = None
    ) -> None:
        super().__init__(DEFINITIONS, clip, classifier, stlpips)

    def score(self, pair: Pair) -> Scores:
        """All metrics of one edit; see ``descriptors`` for their definitions."""
        return Scores.collect(
            {**self._text(pair), **self._identity(pair), **self._colour(pair), **self._oracle(pair)}
        )

    def _text(self, pair: Pair) -> Results:
        source, edited = self._clip.encode_images(np.stack([pair.source, pair.edited]))
        before, after = self._clip.encode_texts([pair.source_prompt, pair.target_prompt])
        return {
            "clip_target": float(edited @ after),
            "clip_directional": direction_agreement(source, edited, before, after),
        }

    def _identity(self, pair: Pair) -> Results:
        others = [pair.source] if pair.reference is None else [pair.source, pair.reference]
        distances = self._stlpips.distances(pair.edited, others)
        inside, outside = (pixels.region(pair.mask, inside=side) for side in (True, False))
        return {
            "stlpips": distances[0],
            "psnr": pixels.psnr(pair.source, pair.edited),
            "psnr_outside": pixels.psnr(pair.source, pair.edited, outside),
            "mse_outside": pixels.mse(pair.source, pair.edited, outside),
            "ssim_outside": pixels.ssim(pair.source, pair.edited, outside),
            "psnr_inside": pixels.psnr(pair.source, pair.edited, inside),
            "mse_inside": pixels.mse(pair.source, pair.edited, inside),
            "ssim_inside": pixels.ssim(pair.source, pair.edited, inside),
            "counterfactual_stlpips": NO_REFERENCE if pair.reference is None else distances[1],
        }

    def _colour(self, pair: Pair) -> Results:
        inside, outside = (pixels.region(pair.mask, inside=side) for side in (True, False))
        return {
            "colour_drift": colour.colour_drift(pair.source, pair.edited, outside),
            "saturation_change": colour.saturation_change(pair.source, pair.edited),
            "saturation_excess": NO_REFERENCE
            if pair.reference is None
            else colour.saturation_change(pair.reference, pair.edited, inside),
        }

    def _oracle(self, pair: Pair) -> Results:
        if pair.reference is None:
            names = ("psnr", "psnr_inside", "psnr_outside")
            attributes = ("edit_accuracy", "attributes_kept", "attribute_agreement")
            return dict.fromkeys((*(f"counterfactual_{name}" for name in names), *attributes), NO_REFERENCE)
        inside, outside = (pixels.region(pair.mask, inside=side) for side in (True, False))
        return {
            "counterfactual_psnr": pixels.psnr(pair.reference, pair.edited),
            "counterfactual_psnr_inside": pixels.psnr(pair.reference, pair.edited, inside),
            "counterfactual_psnr_outside": pixels.psnr(pair.reference, pair.edited, outside),
            **self._attributes(pair.source, pair.edited, pair.reference),
        }

    def _attributes(self, *pictures: Pixels) -> Results:
        source, edited, reference = self._classifier.predict(np.stack(pictures))
        return attribute_scores(source, edited, reference)


def direction_agreement(source: Tensor, edited: Tensor, before: Tensor, after: Tensor) -> float | Undefined:
    """CLIP directional similarity: cosine between what changed in the picture and what changed in the prompt.

    Embeddings [D] of unit length are differenced (StyleGAN-NADA, arXiv 2108.00946, as in the code of
    Instruct-NeRF2NeRF), so the length of either embedding plays no part.
    """
    seen, said = edited - source, after - before
    if said.norm() < SAME:
        return Undefined("the source and target prompts are the same to the text encoder")
    if seen.norm() < SAME:
        return Undefined("the edit is the same as the source to the image encoder")
    return float(seen @ said / (seen.norm() * said.norm()))


def attribute_scores(
    source: Mapping[str, str], edited: Mapping[str, str], reference: Mapping[str, str]
) -> Results:
    """How the classifier's view of the edit compares with its view of the counterfactual, attribute by
    attribute.

    Its view of the counterfactual, not the scene's description, is the yardstick: so a mistake that it makes
    on both is not counted against the method.
    """

    def share(heads: list[str], nothing: str) -> float | Undefined:
        if not heads:
            return Undefined(nothing)
        return sum(edited[head] == reference[head] for head in heads) / len(heads)

    changed = [head for head in reference if source[head] != reference[head]]
    kept = [head for head in reference if source[head] == reference[head]]
    return {
        "edit_accuracy": share(changed, "the classifier sees no attribute change in the counterfactual"),
        "attributes_kept": share(kept, "the classifier sees every attribute change in the counterfactual"),
        "attribute_agreement": share(list(reference), "the classifier has no attributes"),
    }
