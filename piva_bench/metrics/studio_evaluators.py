"""The evaluators that both protocols of the embedded world measure with."""

from __future__ import annotations

import json
from pathlib import Path

from piva_bench import paths
from piva_bench.metrics.protocol import fingerprint


class StudioEvaluators:
    """Base of a protocol that measures with the studio's CLIP, its attribute classifier and ST-LPIPS.

    Args:
        definitions: the protocol's name and the number of its metrics' code.
        clip: folder of the evaluator CLIP.
        classifier: folder of the attribute classifier.
        stlpips: weights of ST-LPIPS; by default those of the installed ``stlpips-pytorch``.

    Raises:
        ModelError: an evaluator is missing or damaged.
    """

    def __init__(
        self,
        definitions: str,
        clip: Path | None = None,
        classifier: Path | None = None,
        stlpips: Path | None = None,
    ) -> None:
        # Imported here: tables and listings need the descriptions alone, and open_clip takes seconds.
        from piva_bench.metrics.clip import SmallClip
        from piva_bench.metrics.stlpips import STLPIPS
        from piva_bench.metrics.studio_classifier import StudioClassifier

        self._clip = SmallClip.load(clip or paths.studio_clip_dir())
        self._classifier = StudioClassifier.load(classifier or paths.studio_classifier_dir())
        self._stlpips = STLPIPS(stlpips)
        config = {k: self._clip.config[k] for k in ("model_cfg", "preprocess_cfg", "token_ids")}
        self._fingerprint = fingerprint(
            definitions,
            json.dumps(config, sort_keys=True),
            self._clip.model,
            json.dumps(self._classifier.classes),
            self._classifier,
            self._stlpips,
        )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the evaluators' weights, their preprocessing and the definitions."""
        return self._fingerprint
