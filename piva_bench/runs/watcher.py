"""Somebody who follows a run: a progress bar, a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from piva_bench.metrics.protocol import MetricInfo
    from piva_bench.runs.plan import Batch
    from piva_bench.runs.record import Record, ScoreFile


class Watcher(Protocol):
    """Told what happens. Several batches may be under way at once; each is told of under its number."""

    def started(self, todo: int, headline: Sequence[MetricInfo], workers: int) -> None:
        """So many edits are to be computed by so many workers; ``headline`` are the metrics to show on the way."""

    def batch_started(self, number: int, batch: Batch) -> None:
        """These edits are being computed."""

    def step(self, number: int, fraction: float, scalars: Mapping[str, float]) -> None:
        """The batch has come this far (0 to 1); ``scalars`` are batch means of the step."""

    def committed(self, number: int, record: Record, scores: ScoreFile | None) -> None:
        """This edit of the batch is stored, and scored unless it failed."""

    def batch_ended(self, number: int) -> None:
        """All edits of the batch are stored."""

    def warn(self, line: str) -> None:
        """Something the user should know."""
