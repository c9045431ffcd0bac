"""Scores of stored edits: computed once per edit and protocol, from the saved pictures alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from piva_bench.errors import DataError, UserError
from piva_bench.registry import PROTOCOLS
from piva_bench.runs.inside import Warn
from piva_bench.runs.kinds import kind_of_samples
from piva_bench.runs.record import Record, ScoreFile

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.metrics.protocol import MetricInfo, MetricProtocol, Pair, ViewsPair
    from piva_bench.runs.edit import Edit
    from piva_bench.runs.kinds import Kind
    from piva_bench.runs.store import Store


def headline_metrics(protocol: str, samples: Mapping[str, Sample]) -> list[MetricInfo]:
    """The metrics to watch a run by: the first three that a protocol puts in compact tables. Loads no models.

    Raises:
        UserError: no such protocol, or it is for pictures where these are scenes, or the other way round.
    """
    chosen = PROTOCOLS.load(protocol)
    _check_kind(chosen, protocol, samples)
    return [info for info in chosen.descriptors.values() if info.headline][:3]


class Scorer:
    """Scores edits with one protocol, from their files alone.

    Args:
        protocol: name of the protocol.
        samples: the dataset's samples by id.

    Raises:
        UserError: no such protocol, its models are missing, or it is for pictures where these are scenes, or the
            other way round. Raised here, before hours of editing.
    """

    def __init__(self, protocol: str, samples: Mapping[str, Sample]) -> None:
        chosen = PROTOCOLS.load(protocol)
        self._kind = _check_kind(chosen, protocol, samples)
        self.protocol: MetricProtocol = chosen()
        self.name, self.fingerprint = protocol, str(self.protocol.fingerprint)
        self._samples = samples

    def stored(self, store: Store, record: Record) -> ScoreFile | None:
        """The scores of an edit if they were computed by this very protocol."""
        scores = store.load_scores(self.name, record.key)
        return scores if scores is not None and scores.fingerprint == self.fingerprint else None

    def score(self, store: Store, record: Record, warn: Warn) -> ScoreFile | None:
        """The scores of a stored edit, computed and stored if they are not there yet; see ``score_edit``."""
        if record.status == "failed":
            return None
        if (scores := self.stored(store, record)) is not None:
            return scores
        try:
            edit = store.load(record)
        except DataError as error:
            warn(f"{record.method} on {record.sample_id} is not scored: {error}")
            return None
        if (scores := self.score_edit(edit, warn)) is not None:
            store.save_scores(record.key, scores)
        return scores

    def score_edit(self, edit: Edit, warn: Warn) -> ScoreFile | None:
        """The scores of an edit.

        None for a failed edit and, with a warning, where a picture of the sample or the edit cannot be read.
        """
        record = edit.record
        if record.status == "failed":
            return None
        try:
            pair = self._pair(edit)
        except DataError as error:
            warn(f"{record.method} on {record.sample_id} is not scored: {error}")
            return None
        result = self.protocol.score(pair)
        return ScoreFile(
            protocol=self.name,
            fingerprint=self.fingerprint,
            values=dict(result.values),
            undefined=dict(result.undefined),
        )

    def _pair(self, edit: Edit) -> Pair | ViewsPair:
        record = edit.record
        if record.sample_id not in self._samples:
            raise DataError(
                f"The dataset has no sample '{record.sample_id}', which record {record.key} edits."
            )
        return self._kind.pair(self._samples[record.sample_id], edit)


def _check_kind(protocol: type[MetricProtocol], name: str, samples: Mapping[str, Sample]) -> Kind:
    kind = kind_of_samples(samples.values())
    scores = getattr(protocol, "kind", "pictures")
    if samples and scores != kind.name:
        raise UserError(
            f"{name} scores {scores}, and these edits are {kind.name}: {kind.protocols} (--protocol)."
        )
    return kind
