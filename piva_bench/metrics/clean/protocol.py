"""clean: what PIE-Bench's metrics mean to measure, without the quirks of its calculator.

True means over the pixels of a region; values in [0, 1] for every network; the picture as it was saved; LPIPS
on untouched pictures with its map averaged over the region, so that no network ever sees a hole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from piva_bench.metrics import colour, pixels
from piva_bench.metrics.clean.evaluators import CleanEvaluators
from piva_bench.metrics.clean.table import METRICS, column
from piva_bench.metrics.evaluators import locate
from piva_bench.metrics.protocol import Mask, MetricInfo, Pair, Pixels, Scores, Undefined
from piva_bench.metrics.studio_v1.protocol import direction_agreement

if TYPE_CHECKING:
    from piva_bench.metrics.clip_tower import ClipTower
    from piva_bench.metrics.dino import Dino
    from piva_bench.metrics.lpips_model import Lpips

Results = dict[str, float | Undefined]

DEFINITIONS = "clean/1"
"""Raise the last number when a metric's code changes what it computes."""


class Clean(CleanEvaluators):
    """PIE-Bench's metrics as they are meant: masked means, LPIPS-alex and -vgg, several CLIPs, structure.

    Args:
        dino: the model of the structure distance; by default the local copy.
        lpips: LPIPS by trunk ("alex", "vgg"); by default on the local trunks.
        towers: CLIPs by short name; by default the local copies of those that the environment variable
            ``PIVA_BENCH_CLIP_TOWERS`` lists (comma-separated), else of "vit-l14".

    Raises:
        ModelError: a model is missing or damaged.
        UnknownName: no tower of a listed name.
    """

    name: ClassVar[str] = "clean"
    descriptors: ClassVar[Mapping[str, MetricInfo]] = {metric.name: metric for metric in METRICS}

    def __init__(
        self,
        dino: Dino | None = None,
        lpips: Mapping[str, Lpips] | None = None,
        towers: Mapping[str, ClipTower] | None = None,
    ) -> None:
        from piva_bench.metrics.dino import Dino

        self._dino = dino or Dino.load(locate("dino-vitb8"))
        super().__init__(DEFINITIONS, self._dino.architecture, self._dino, lpips=lpips, towers=towers)

    def score(self, pair: Pair) -> Scores:
        """All metrics of one edit; CLIP metrics of the chosen towers only."""
        inside, outside = (pixels.region(pair.mask, inside=side) for side in (True, False))
        return Scores.collect({**self._text(pair), **self._identity(pair, inside, outside)})

    def _text(self, pair: Pair) -> Results:
        results: Results = {}
        for name, tower in self._towers.items():
            source, edited = tower.encode_images([pair.source, pair.edited])
            before, after = tower.encode_texts([pair.source_prompt, pair.target_prompt])
            results[column("clip_target", name)] = float(edited @ after)
            results[column("clip_directional", name)] = direction_agreement(source, edited, before, after)
        return results

    def _identity(self, pair: Pair, inside: Mask | Undefined, outside: Mask | Undefined) -> Results:
        source, edited = _values(pair.source), _values(pair.edited)
        results: Results = {
            "structure_distance": self._dino.structure_distance(source, edited, antialias=True),
            "psnr": pixels.psnr(pair.source, pair.edited),
            "colour_drift": colour.colour_drift(pair.source, pair.edited, outside),
            "saturation_change": colour.saturation_change(pair.source, pair.edited),
        }
        for trunk, model in self._lpips.items():
            first, second = source * 2 - 1, edited * 2 - 1
            results[f"lpips_{trunk}"] = model.distance(first, second)
            results[f"lpips_{trunk}_outside"] = (
                outside
                if isinstance(outside, Undefined)
                else float(model.map(first, second)[torch.from_numpy(outside)].mean())
            )
        for side, where in (("inside", inside), ("outside", outside)):
            results[f"psnr_{side}"] = pixels.psnr(pair.source, pair.edited, where)
            results[f"mse_{side}"] = pixels.mse(pair.source, pair.edited, where)
            results[f"ssim_{side}"] = pixels.ssim(pair.source, pair.edited, where)
        return results


def _values(picture: Pixels) -> Tensor:
    """uint8 [H, W, 3] to float [3, H, W] in [0, 1]."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
