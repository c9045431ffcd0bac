"""The local executor: takes the edits that are missing, batch by batch, and commits each batch as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import torch

from piva_bench.errors import DataError, UserError
from piva_bench.method import EditOutcome, Progress, SceneOutcome
from piva_bench.runs.batch_size import PeakMemory, out_of_memory
from piva_bench.runs.pictures import to_pixels
from piva_bench.runs.plan import Unit, Variant, make_batches
from piva_bench.runs.record import Record, ScoreFile, Setup
from piva_bench.runs.store import Edit, Store, encode_png, sha256
from piva_bench.runs.tasks import Task, make_task, timed_edit
from piva_bench.runs.views import depth_path, encode_views, field_path

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.metrics.protocol import MetricInfo
    from piva_bench.runs.scoring import Scorer


class Watcher(Protocol):
    """Somebody who follows a run: a progress bar, a log."""

    def started(self, todo: int, headline: Sequence[MetricInfo]) -> None:
        """So many edits are to be computed; ``headline`` are the metrics to show on the way."""

    def batch_started(self, units: Sequence[Unit]) -> None:
        """These edits are being computed."""

    def step(self, fraction: float, scalars: Mapping[str, float]) -> None:
        """The batch has come this far (0 to 1); ``scalars`` are batch means of the step."""

    def committed(self, record: Record, scores: ScoreFile | None) -> None:
        """This edit is stored, and scored unless it failed."""

    def warn(self, line: str) -> None:
        """Something the user should know."""


@dataclass(frozen=True)
class Work:
    """What of a plan is still to be done.

    Attributes:
        missing: edits without a whole record.
        retries: edits whose record says they failed; tried again, after the missing ones and in batches of
            their own, so that they do not shift the batches of the others.
        done: records that need nothing.
    """

    missing: list[Unit]
    retries: list[Unit]
    done: list[Record]

    @property
    def todo(self) -> int:
        """Number of edits to compute."""
        return len(self.missing) + len(self.retries)


def find_work(units: Sequence[Unit], store: Store, overwrite: bool = False) -> Work:
    """Compares a plan with the store."""
    records = store.records()
    work = Work([], [], [])
    for unit in units:
        record = records.get(unit.key)
        if overwrite or record is None or not store.is_whole(record):
            work.missing.append(unit)
        elif record.status == "failed":
            work.retries.append(unit)
        else:
            work.done.append(record)
    return work


class Executor:
    """Computes edits on this machine.

    Args:
        store: opened for writing.
        setup: what all records share.
        denoiser: the model.
        scorer: scores each edit as it comes in.
        batch_size: most edits computed together.
        watcher: told what happens.
        keep_fields: whether edited fields of scenes are stored beside their views.
    """

    def __init__(
        self,
        store: Store,
        setup: Setup,
        denoiser: Denoiser,
        scorer: Scorer,
        batch_size: int,
        watcher: Watcher,
        keep_fields: bool = False,
    ) -> None:
        self.store, self.setup, self.denoiser, self.scorer = store, setup, denoiser, scorer
        self.batch_size, self.watcher, self.keep_fields = batch_size, watcher, keep_fields
        self._fits: dict[int, int] = {}

    def run(self, work: Work, by_sample: bool = False) -> list[Record]:
        """Computes and stores everything that is to be done; returns the new records.

        Args:
            work: what is to be done.
            by_sample: the order of the batches, see ``make_batches``.

        Raises:
            UserError: results cannot be stored, or a method does not fit the model. What is stored stays.
        """
        records: list[Record] = []
        for units in (work.missing, work.retries):
            for batch in make_batches(units, self.batch_size, by_sample):
                records += self._run_batch(batch)
        return records

    def _run_batch(self, units: list[Unit]) -> list[Record]:
        self.watcher.batch_started(units)
        variant = units[0].variant
        tasks: list[Task] = []
        outcomes: dict[str, EditOutcome] = {}
        for unit in units:
            try:
                tasks.append(make_task(unit.sample, variant, self.setup.resolution, self.denoiser.device))
            except DataError as error:
                outcomes[unit.sample.id] = EditOutcome(unit.sample.id, None, reason=str(error))
        peak = PeakMemory(self.denoiser.device)
        if tasks:
            made = self._edit(variant, tasks, units[0].seed)
            outcomes |= {outcome.sample_id: outcome for outcome in made}
        megabytes = peak.megabytes()
        together = min(len(tasks), self._fitting(variant))
        edits = [self._finish(unit, outcomes[unit.sample.id], together, megabytes) for unit in units]
        self.store.commit(edits)
        for edit in edits:
            self.watcher.committed(edit.record, self.scorer.score(edit.record))
        return [edit.record for edit in edits]

    def _edit(self, variant: Variant, tasks: list[Task], seed: int) -> list[EditOutcome]:
        """A batch's outcomes. What is too large for the memory is halved, now and from now on; if the method
        breaks for another reason, each edit is tried alone, to find the culprit.
        """
        size = min(len(tasks), self._fitting(variant))
        if size == len(tasks):
            made, reason, full = self._try(variant, tasks, seed)
            if made is not None:
                return made
            if len(tasks) == 1:
                return [EditOutcome(tasks[0].sample_id, None, reason=reason)]
            size = (len(tasks) + 1) // 2 if full else 1
            if full:
                self._fits[id(variant)] = size
            how = f"{size} at a time from now on" if full else "trying them one by one"
            self.watcher.warn(f"{variant.name} broke on {len(tasks)} edits ({reason}): {how}")
        parts = [tasks[i : i + size] for i in range(0, len(tasks), size)]
        return [outcome for part in parts for outcome in self._edit(variant, part, seed)]

    def _fitting(self, variant: Variant) -> int:
        """Most edits of this setting that the memory is known to hold."""
        return self._fits.get(id(variant), self.batch_size)

    def _try(
        self, variant: Variant, tasks: list[Task], seed: int
    ) -> tuple[list[EditOutcome] | None, str, bool]:
        """Outcomes, or None, the reason in one line, and whether memory ran out."""
        try:
            return self._call(variant, tasks, seed), "", False
        except UserError:
            raise
        except Exception as error:
            # The error holds on to the frames and so to the tensors of the attempt: only its text leaves here.
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            full = out_of_memory(error)
        if full and self.denoiser.device.type == "cuda":
            torch.cuda.empty_cache()
        return None, reason, full

    def _call(self, variant: Variant, tasks: list[Task], seed: int) -> list[EditOutcome]:
        def on_step(progress: Progress) -> None:
            share = (progress.index + 1) / progress.steps if progress.steps else 0.0
            self.watcher.step(share, progress.scalars)

        outcomes, seconds = timed_edit(variant, tasks, self.denoiser, seed, on_step)
        if [outcome.sample_id for outcome in outcomes] != [task.sample_id for task in tasks]:
            raise UserError(
                f"Method {variant.name} did not return one outcome per edit in order: mend its edit()."
            )
        return [replace(outcome, seconds=seconds / len(tasks)) for outcome in outcomes]

    def _fault(self, outcome: EditOutcome) -> str | None:
        """Why an outcome is no result; None if it is one."""
        if isinstance(outcome, SceneOutcome):
            if outcome.views is None:
                return outcome.reason or "the method returned no views and no reason"
            return None
        if outcome.image is None:
            return outcome.reason or "the method returned no picture and no reason"
        expected = (3, self.setup.resolution, self.setup.resolution)
        if tuple(outcome.image.shape) != expected:
            return f"the picture has the shape {tuple(outcome.image.shape)}, not {expected}"
        if not bool(torch.isfinite(outcome.image).all()):
            return "the picture holds values that are not finite"
        return None

    def _finish(self, unit: Unit, outcome: EditOutcome, batch_size: int, megabytes: float | None) -> Edit:
        png, sha = None, None
        files: dict[str, bytes] = {}
        reason = self._fault(outcome)
        if outcome.image is not None and reason is None:
            png, sha = encode_png(to_pixels(outcome.image))
        elif isinstance(outcome, SceneOutcome) and outcome.views is not None and reason is None:
            png, depth = encode_views(outcome.views)
            sha, files[depth_path(unit.key)] = sha256(png), depth
            if self.keep_fields and outcome.field is not None:
                files[field_path(unit.key)] = outcome.field.to_bytes()
        record = Record(
            **self.setup.model_dump(),
            key=unit.key,
            status="failed" if reason else "ok",
            reason=reason,
            sample_id=unit.sample.id,
            edit_type=unit.sample.edit_type,
            tags=dict(unit.sample.tags),
            method=unit.variant.name,
            method_version=unit.variant.version,
            method_source=unit.variant.source_hash,
            params=unit.variant.params_dict(),
            seed=unit.seed,
            device=str(self.denoiser.device),
            image_sha=sha,
            files={name: sha256(content) for name, content in files.items()},
            unet_evaluations=outcome.unet_evaluations,
            training_evaluations=outcome.training_evaluations,
            seconds=round(outcome.seconds, 6),
            peak_memory_mb=megabytes,
            batch_size=max(batch_size, 1),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return Edit(record, png, outcome.trace, files)
