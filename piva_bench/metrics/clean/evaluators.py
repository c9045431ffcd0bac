"""The public evaluators that `clean` and `views-clean` measure with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from piva_bench.errors import UnknownName
from piva_bench.metrics.clean.table import TOWERS
from piva_bench.metrics.evaluators import locate
from piva_bench.metrics.protocol import fingerprint, versions

if TYPE_CHECKING:
    from torch import nn

    from piva_bench.metrics.clip_tower import ClipTower
    from piva_bench.metrics.lpips_model import Lpips

TOWERS_VARIABLE = "PIVA_BENCH_CLIP_TOWERS"


class CleanEvaluators:
    """Base of a protocol that measures with LPIPS-alex, LPIPS-vgg and public CLIPs.

    Args:
        first: what the fingerprint begins with: the protocol's name with the number of its metrics' code, and what
            it measures with besides.
        lpips: LPIPS by trunk ("alex", "vgg"); by default on the local trunks.
        towers: CLIPs by short name; by default the local copies of those that the environment variable
            ``PIVA_BENCH_CLIP_TOWERS`` lists (comma-separated), else of "vit-l14".

    Raises:
        ModelError: a model is missing or damaged.
        UnknownName: no tower of a listed name.
    """

    def __init__(
        self,
        *first: str | nn.Module,
        lpips: Mapping[str, Lpips] | None = None,
        towers: Mapping[str, ClipTower] | None = None,
    ) -> None:
        # Imported here: tables and listings need the descriptions alone, and open_clip takes seconds.
        from piva_bench.metrics.clip_tower import ClipTower
        from piva_bench.metrics.lpips_model import Lpips

        # The cheap look-ups first: what is missing is said before seconds of loading.
        chosen = {} if towers else {name: locate(f"openclip-{name}") for name in chosen_towers()}
        self._lpips = lpips or {
            "alex": Lpips.load("alex", locate("lpips-alex")),
            "vgg": Lpips.load("vgg", locate("lpips-vgg")),
        }
        self._towers = towers or {name: ClipTower.load(folder) for name, folder in chosen.items()}
        self._fingerprint = fingerprint(
            *first,
            *versions("scikit-image"),  # SSIM and colour differences are its own
            *(model.model for _, model in sorted(self._lpips.items())),
            *(
                part
                for name, tower in self._towers.items()
                for part in (name, tower.description, tower.model)
            ),
        )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over weights, preprocessing, definitions and the library of pixel metrics."""
        return self._fingerprint


def chosen_towers() -> Sequence[str]:
    """The CLIP towers to measure with.

    Raises:
        UnknownName: one that does not exist.
    """
    listed = os.environ.get(TOWERS_VARIABLE) or next(iter(TOWERS))
    names = [name.strip() for name in listed.split(",") if name.strip()]
    for name in names:
        if name not in TOWERS:
            raise UnknownName(f"CLIP tower in {TOWERS_VARIABLE}", name, TOWERS)
    return names
