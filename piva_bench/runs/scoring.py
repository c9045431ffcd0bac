"""Scores of stored edits: computed once per edit and protocol, from the saved pictures alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from piva_bench.data.scene_sample import SIDES, SceneSample
from piva_bench.errors import DataError, UserError
from piva_bench.metrics.protocol import Pair, ViewsPair
from piva_bench.registry import PROTOCOLS
from piva_bench.runs.pictures import mask_pixels, reference_pixels, source_pixels
from piva_bench.runs.record import Record, ScoreFile
from piva_bench.runs.store import Warn

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.metrics.protocol import MetricInfo, MetricProtocol
    from piva_bench.runs.store import Store


class Scorer:
    """Scores edits of one store with one protocol.

    Args:
        protocol: name of the protocol.
        store: where pictures and scores are.
        samples: the dataset's samples by id.
        warn: told about edits that cannot be scored.

    Raises:
        UserError: no such protocol, its models are missing, or it is for pictures where these are scenes, or the
            other way round. Raised here, before hours of editing.
    """

    def __init__(self, protocol: str, store: Store, samples: Mapping[str, Sample], warn: Warn) -> None:
        chosen = PROTOCOLS.load(protocol)
        _check_kind(chosen, protocol, samples)
        self.protocol: MetricProtocol = chosen()
        self.name, self.fingerprint = protocol, str(self.protocol.fingerprint)
        self._store, self._samples, self._warn = store, samples, warn

    def headline(self) -> list[MetricInfo]:
        """The metrics to watch a run by: the first three the protocol puts in compact tables."""
        return [info for info in self.protocol.descriptors.values() if info.headline][:3]

    def stored(self, record: Record) -> ScoreFile | None:
        """The scores of an edit if they were computed by this very protocol."""
        scores = self._store.load_scores(self.name, record.key)
        return scores if scores is not None and scores.fingerprint == self.fingerprint else None

    def score(self, record: Record) -> ScoreFile | None:
        """The scores of an edit, computed and stored if they are not there yet.

        None for a failed edit and, with a warning, where a picture of the sample or the edit cannot be read.
        """
        if record.status == "failed":
            return None
        if (scores := self.stored(record)) is not None:
            return scores
        try:
            pair = self._pair(record)
        except DataError as error:
            self._warn(f"{record.method} on {record.sample_id} is not scored: {error}")
            return None
        result = self.protocol.score(pair)
        scores = ScoreFile(
            protocol=self.name,
            fingerprint=self.fingerprint,
            values=dict(result.values),
            undefined=dict(result.undefined),
        )
        self._store.save_scores(record.key, scores)
        return scores

    def _pair(self, record: Record) -> Pair | ViewsPair:
        if record.sample_id not in self._samples:
            raise DataError(
                f"The dataset has no sample '{record.sample_id}', which record {record.key} edits."
            )
        sample = self._samples[record.sample_id]
        if isinstance(sample, SceneSample):
            source, reference = sample.load_turntable(), sample.load_counterfactual()
            return ViewsPair(
                source=source.views,
                edited=self._store.load_views(record, source.views.cameras),
                reference=None if reference is None else reference.views,
                backgrounds=source.backgrounds,
                prompts={side: sample.prompts(side) for side in SIDES},
            )
        return Pair(
            source=source_pixels(sample, record.resolution),
            edited=self._store.load_image(record),
            reference=reference_pixels(sample, record.resolution),
            mask=mask_pixels(sample, record.resolution),
            source_prompt=sample.source_prompt,
            target_prompt=sample.target_prompt,
            edited_is_jpeg=record.from_jpeg,
        )


def _check_kind(protocol: object, name: str, samples: Mapping[str, Sample]) -> None:
    kind = getattr(protocol, "kind", "pictures")
    given = "scenes" if any(isinstance(sample, SceneSample) for sample in samples.values()) else "pictures"
    if samples and kind != given:
        fitting = (
            "views-v1 and views-clean score 3D edits"
            if given == "scenes"
            else "studio-v1, pnp-v1 and clean score pictures"
        )
        raise UserError(f"{name} scores {kind}, and these edits are {given}: {fitting} (--protocol).")
