"""pnp-v1: PIE-Bench's official calculator (PnPInversion), reproduced with every quirk that moves a number.

What it does that a protocol made today would not, and what published values therefore contain:

1. the edit was saved as JPEG at Pillow's default quality (`as_saved`); an edit that comes out of a JPEG file has
   been through it, and is scored as it is;
2. the outermost ring of pixels always belongs to the edit region (`with_border`);
3. "outside the mask" means both pictures multiplied by the mask and averaged over the whole frame;
4. so LPIPS sees -1 in the hole;
5. DINO is fed with 0 to 255 where it expects 0 to 1;
6. and with a picture shrunk without antialiasing;
7. its self-similarity includes the class token;
8. CLIPScore is cut off at 0, and the "edited part" is the whole frame, black outside the mask;
9. a region without pixels gives no value: such images are left out of the average;
10. SSIM is averaged over the picture without 5 pixels at each border, as torchmetrics did up to its version 1.4:
    later ones average the whole map, which gives other numbers (up to 1.7 in a table's units of 0.01).

Two things are not reproduced, and are as small as this:

- The official scripts cut values off to the level below (``(x * 255).astype(uint8)``) before they save; here the
  nearest level is saved, once, for all protocols. Half a level darker is .04 in MSE x 10^4 by itself, and .00 to .12
  with what else an edit differs in.
- They save the edit as the last panel of a strip. Where a decoder smooths chroma it looks one pixel over the seam, so
  up to two columns there differ from a picture saved alone. Edits that are such strips are read from them as they are.

The protocol `clean` measures the same things without them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from piva_bench.metrics.evaluators import locate
from piva_bench.metrics.pnp_v1.table import METRICS
from piva_bench.metrics.protocol import (
    Mask,
    MetricInfo,
    Pair,
    Pixels,
    Scores,
    Undefined,
    fingerprint,
    versions,
)

if TYPE_CHECKING:
    from piva_bench.metrics.clip_score import ClipScore
    from piva_bench.metrics.dino import Dino
    from piva_bench.metrics.lpips_model import Lpips

Results = dict[str, float | Undefined]

DEFINITIONS = "pnp-v1/2"
"""Raise the last number when a metric's code changes what it computes."""

OFFICIAL = (
    "ViT depth 12 width 768 patch 8 input 224",
    "CLIP depth 24 width 1024 patch 14 input 224",
)
"""The architectures of DINO ViT-B/8 and CLIP ViT-L/14."""

SSIM_BORDER = 5
"""Pixels at each border that SSIM's mean leaves out: half its window of 11."""

UNOFFICIAL = "other-"
"""Begins the fingerprint where another architecture stands in for an official model."""


class PnpV1:
    """Official PIE-Bench protocol: DINO structure distance, PSNR, LPIPS-squeeze, MSE and SSIM, CLIPScore.

    Args:
        dino: the model of the structure distance; by default the local copy.
        clip: the model of CLIPScore; by default the local copy.
        lpips: LPIPS-squeeze; by default on the local trunk.

    Raises:
        ModelError: a model is missing or damaged.
    """

    name: ClassVar[str] = "pnp-v1"
    descriptors: ClassVar[Mapping[str, MetricInfo]] = {metric.name: metric for metric in METRICS}

    def __init__(
        self, dino: Dino | None = None, clip: ClipScore | None = None, lpips: Lpips | None = None
    ) -> None:
        from piva_bench.metrics.clip_score import ClipScore
        from piva_bench.metrics.dino import Dino
        from piva_bench.metrics.lpips_model import Lpips

        self._dino = dino or Dino.load(locate("dino-vitb8"))
        self._clip = clip or ClipScore.load(locate("clip-vit-l14"))
        self._lpips = lpips or Lpips.load("squeeze", locate("lpips-squeeze"))
        architectures = (self._dino.architecture, self._clip.architecture)
        # torchmetrics' SSIM has changed before, and the codec decides what a JPEG looks like.
        codec = f"libjpeg {features.version('libjpeg_turbo') or features.version('jpg')}"
        libraries = (*versions("torchmetrics", "pillow"), codec)
        models = (self._dino, self._clip.model, self._lpips.model)
        words = str(sorted(self._clip.tokenizer.get_vocab().items()))
        digest = fingerprint(DEFINITIONS, *libraries, *architectures, words, *models)
        self._fingerprint = digest if architectures == OFFICIAL else UNOFFICIAL + digest

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over weights, vocabulary, definitions and the libraries that decide numbers, after
        "other-" where a model is not the official architecture.
        """
        return self._fingerprint

    def score(self, pair: Pair) -> Scores:
        """All metrics of one edit; see ``descriptors`` for their definitions."""
        edited = pair.edited if pair.edited_is_jpeg else as_saved(pair.edited)
        source_values, edited_values = _values(pair.source), _values(edited)
        mask = None if pair.mask is None else with_border(pair.mask)
        inside: Mask | Undefined = Undefined("the sample has no edit mask") if mask is None else mask
        outside: Mask | Undefined = inside if isinstance(inside, Undefined) else ~inside
        if not isinstance(outside, Undefined) and not outside.any():
            outside = Undefined("the edit mask covers the whole picture")
        return Scores.collect(
            {
                # Quirk 5: everything else here is divided by 255.
                "structure_distance": self._dino.structure_distance(
                    source_values * 255, edited_values * 255, antialias=False
                ),
                **self._distances("", source_values, edited_values, None),
                **self._distances("_unedit_part", source_values, edited_values, outside),
                **self._distances("_edit_part", source_values, edited_values, inside),
                "clip_similarity_source_image": self._clip.score(pair.source, pair.source_prompt),
                "clip_similarity_target_image": self._clip.score(edited, pair.target_prompt),
                "clip_similarity_target_image_edit_part": inside
                if isinstance(inside, Undefined)
                else self._clip.score(edited * inside[:, :, None], pair.target_prompt),
            }
        )

    def _distances(
        self, suffix: str, first: Tensor, second: Tensor, where: Mask | Undefined | None
    ) -> Results:
        names = [name + suffix for name in ("psnr", "lpips", "mse", "ssim")]
        if isinstance(where, Undefined):
            return dict.fromkeys(names, where)
        if where is not None:
            kept = torch.from_numpy(where)
            first, second = first * kept, second * kept
        values = (
            _psnr(first, second),
            self._lpips.distance(first * 2 - 1, second * 2 - 1),
            float((first - second).square().mean()),
            _ssim(first, second),
        )
        return dict(zip(names, values, strict=True))


def as_saved(picture: Pixels) -> Pixels:
    """A picture after JPEG at Pillow's default quality, as the official scripts save edits.

    They save the edit as the last panel of a strip; panels of a multiple of 16 pixels share no block.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG")
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def with_border(mask: Mask) -> Mask:
    """The mask with its outermost ring of pixels set, as the official decoder returns it."""
    mask = mask.copy()
    mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = True
    return mask


def _values(picture: Pixels) -> Tensor:
    """uint8 [H, W, 3] to float [3, H, W] in [0, 1]."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255


def _psnr(first: Tensor, second: Tensor) -> float | Undefined:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    value = float(peak_signal_noise_ratio(first, second, data_range=1.0))
    return value if np.isfinite(value) else Undefined("the pictures are equal there: PSNR is infinite")


def _ssim(first: Tensor, second: Tensor) -> float:
    from torchmetrics.functional.image import structural_similarity_index_measure

    # Quirk 10. The map is that of the whole picture in every version; only what the mean leaves out changed.
    _, similarity = structural_similarity_index_measure(
        first[None], second[None], data_range=1.0, return_full_image=True
    )
    return float(similarity[..., SSIM_BORDER:-SSIM_BORDER, SSIM_BORDER:-SSIM_BORDER].mean())
