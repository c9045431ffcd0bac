"""views-clean: the protocol of 3D edits of real objects, over all views of a turntable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from piva_bench.metrics.clean.evaluators import CleanEvaluators
from piva_bench.metrics.clean.table import column
from piva_bench.metrics.protocol import MetricInfo, Pixels, Scores, ViewsPair
from piva_bench.metrics.views_clean.table import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.metrics.clip_tower import ClipTower
    from piva_bench.metrics.lpips_model import Lpips

DEFINITIONS = "views-clean/2"
"""Raise the last number when a metric's code changes what it computes."""
REMEMBERED = 64
"""Turntables whose embeddings are kept, some 0.4 MB each."""


class ViewsClean(CleanEvaluators):
    """What `views-v1` measures, by the evaluators of `clean`: LPIPS-alex and -vgg, several CLIPs; no attributes.

    Args:
        lpips: LPIPS by trunk ("alex", "vgg"); by default on the local trunks.
        towers: CLIPs by short name; by default the local copies of those that the environment variable
            ``PIVA_BENCH_CLIP_TOWERS`` lists (comma-separated), else of "vit-l14".

    Raises:
        ModelError: a model is missing or damaged.
        UnknownName: no tower of a listed name.
    """

    name: ClassVar[str] = "views-clean"
    kind: ClassVar[str] = "scenes"
    descriptors: ClassVar[Mapping[str, MetricInfo]] = {metric.name: metric for metric in METRICS}

    def __init__(
        self, lpips: Mapping[str, Lpips] | None = None, towers: Mapping[str, ClipTower] | None = None
    ) -> None:
        super().__init__(DEFINITIONS, lpips=lpips, towers=towers)
        self._encoders = {column("", name): _Remembering(tower) for name, tower in self._towers.items()}
        self._distances = {f"lpips_{trunk}": model.pairwise for trunk, model in self._lpips.items()}

    def score(self, pair: ViewsPair) -> Scores:
        """All metrics of one 3D edit; CLIP metrics of the chosen towers only."""
        from piva_bench.metrics.views_table import score_views

        found = score_views(pair, self._encoders, self._distances)
        return Scores.collect({name: found[name] for name in self.descriptors if name in found})


class _Remembering:
    """A tower that embeds the same turntable once: all edits of an object are set beside the same source."""

    def __init__(self, tower: ClipTower) -> None:
        self.encode_texts = tower.encode_texts
        self._tower = tower
        self._known: dict[bytes, Tensor] = {}

    def encode_images(self, pictures: Sequence[Pixels]) -> Tensor:
        """Unit embeddings [N, D] of uint8 pictures [H, W, 3]."""
        digest = hashlib.blake2b(digest_size=16)
        for picture in pictures:
            digest.update(f"{picture.shape}".encode())
            digest.update(picture.tobytes())
        key = digest.digest()
        # Taken out and put in again: the dictionary's order is that of the last use.
        found = self._known.pop(key, None)
        self._known[key] = self._tower.encode_images(pictures) if found is None else found
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return self._known[key]
