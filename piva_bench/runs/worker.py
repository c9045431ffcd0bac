"""The worker: makes and scores edits, batch by batch. It knows neither the store nor the screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch

from piva_bench.diffusion.kept import KeptRows
from piva_bench.errors import DataError, MethodError, UserError
from piva_bench.key import content_key
from piva_bench.method import EditOutcome, Progress
from piva_bench.runs.batch_size import PeakMemory, out_of_memory
from piva_bench.runs.blame import describe
from piva_bench.runs.edit import Edit, sha256
from piva_bench.runs.guard import undisturbed
from piva_bench.runs.kinds import KINDS
from piva_bench.runs.kinds.base import Task
from piva_bench.runs.masks import blended, need_mask, with_mask
from piva_bench.runs.plan import Batch, Unit
from piva_bench.runs.record import Record
from piva_bench.runs.unfinished import UNFINISHED, Unfinished

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.runs.request import Prepared
    from piva_bench.runs.scoring import Scorer

ALIKE = 3
"""So many edits of a setting that break alike, none of which went well before, are the method's fault."""


@dataclass(frozen=True)
class Tell:
    """Whom a worker tells of its way.

    Attributes:
        step: the share of the batch's steps that are done, and batch means of the last one's scalars.
        warn: what the user should know.
    """

    step: Callable[[float, Mapping[str, float]], None]
    warn: Callable[[str], None]


@dataclass
class _Luck:
    """How a setting has fared so far."""

    fits: int | None = None
    went_well: bool = False
    reasons: list[str] = field(default_factory=list)


class Worker:
    """Edits of a plan, on one device.

    Args:
        prepared: the plan.
        scorer: of its protocol.
        denoiser: the model.
    """

    def __init__(self, prepared: Prepared, scorer: Scorer, denoiser: Denoiser) -> None:
        self.prepared, self.scorer, self.denoiser = prepared, scorer, denoiser
        self._luck: dict[str, _Luck] = {}
        self._states: list[Unfinished] = []
        self._told = set[str]()

    @classmethod
    def of(cls, prepared: Prepared) -> Worker:
        """A worker with everything loaded; takes seconds.

        Raises:
            UserError: the model or a metric's is missing or unsuitable.
        """
        return cls(prepared, prepared.scorer(), prepared.load_denoiser())

    def share(self) -> None:
        """From here on what edits have in common is kept, until ``share`` is called again."""
        folder = self.prepared.output_dir
        # On another machine there may be no such folder.
        self.denoiser.kept = KeptRows(folder=folder if folder.is_dir() else None)

    def run(self, batch: Batch, tell: Tell) -> list[Edit]:
        """A batch's edits, scored.

        Raises:
            UserError: the method does not fit the model, or does not keep to its contract.
        """
        variant, kind = batch.variant, KINDS[batch.variant.kind]
        tasks: list[Task] = []
        outcomes: dict[str, EditOutcome] = {}
        for unit in batch.units:
            try:
                resolution = self.prepared.setup.resolution
                if unit.mask:
                    need_mask(unit.sample, resolution)
                task = kind.task(unit.sample, variant, resolution, self.denoiser.device)
                tasks.append(with_mask(task, unit.sample, resolution) if unit.mask == "steps" else task)
                for note in unit.sample.notes:
                    self._once(note, tell)
            except DataError as error:
                outcomes[unit.sample.id] = EditOutcome(unit.sample.id, None, reason=str(error))
        peak = PeakMemory(self.denoiser.device)
        if tasks:
            made = self._edit(batch, tasks, tell)
            outcomes |= {outcome.sample_id: outcome for outcome in made}
        megabytes = peak.megabytes()
        together = min(len(tasks), self._fitting(variant.key) or len(tasks))
        edits = [self._finish(unit, outcomes[unit.sample.id], together, megabytes) for unit in batch.units]
        for steps, units in batch.shorter.items():
            for unit in units:
                whole = outcomes[unit.sample.id]
                # Where nothing could be edited the shorter runs have the same reason.
                outcome = whole.snapshots.get(steps, whole)
                edits.append(self._finish(unit, outcome, together, megabytes))
        scored = [replace(edit, scores=self.scorer.score_edit(edit, tell.warn)) for edit in edits]
        # As late as can be: until it is stored an edit that is killed goes on from its state.
        while self._states:
            self._states.pop().remove()
        return scored

    def _edit(self, batch: Batch, tasks: list[Task], tell: Tell) -> list[EditOutcome]:
        """A batch's outcomes. What is too large for the memory is halved, now and from now on; if the method
        breaks for another reason, each edit is tried alone, to find the culprit.
        """
        variant = batch.variant
        size = min(len(tasks), self._fitting(variant.key) or len(tasks))
        if size == len(tasks):
            made, reason, full = self._try(batch, tasks, tell)
            if made is not None:
                return made
            if len(tasks) == 1:
                return [EditOutcome(tasks[0].sample_id, None, reason=reason)]
            size = (len(tasks) + 1) // 2 if full else 1
            if full:
                self._luck_of(variant.key).fits = size
            how = f"{size} at a time from now on" if full else "trying them one by one"
            tell.warn(f"{variant.name} broke on {len(tasks)} edits ({reason}): {how}")
        parts = [tasks[i : i + size] for i in range(0, len(tasks), size)]
        return [outcome for part in parts for outcome in self._edit(batch, part, tell)]

    def _once(self, line: str, tell: Tell) -> None:
        if line not in self._told:
            self._told.add(line)
            tell.warn(line)

    def _luck_of(self, key: str) -> _Luck:
        return self._luck.setdefault(key, _Luck())

    def _fitting(self, key: str) -> int | None:
        """Most edits of this setting that the memory is known to hold; None as long as nothing is known."""
        return self._luck_of(key).fits

    def _try(self, batch: Batch, tasks: list[Task], tell: Tell) -> tuple[list[EditOutcome] | None, str, bool]:
        """Outcomes, or None, the reason in one line, and whether memory ran out."""
        luck = self._luck_of(batch.variant.key)
        try:
            made = self._call(batch, tasks, tell)
            luck.went_well = True
            return made, "", False
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            # A method does not end a run. The error holds on to the frames and so to the tensors of the attempt: only
            # its text leaves here.
            reason, full = describe(error), out_of_memory(error)
            if not full and len(tasks) == 1:
                luck.reasons.append(reason)
        if full and self.denoiser.device.type == "cuda":
            torch.cuda.empty_cache()
        if not luck.went_well and luck.reasons[:ALIKE] == [reason] * ALIKE:
            raise MethodError(
                f"{batch.variant.requested} breaks alike on its first {ALIKE} edits: {reason}. Nothing more is tried; "
                "--traceback shows where."
            )
        return None, reason, full

    def _call(self, batch: Batch, tasks: list[Task], tell: Tell) -> list[EditOutcome]:
        def on_step(progress: Progress) -> None:
            share = (progress.index + 1) / progress.steps if progress.steps else 0.0
            tell.step(share, progress.scalars)

        variant = batch.variant
        keys = {unit.sample.id: unit.key for unit in batch.units}
        with undisturbed(lambda line: self._once(f"{variant.name}: {line}", tell)):
            outcomes, seconds = KINDS[variant.kind].timed_edit(
                variant.method(), tasks, self.denoiser, batch.seed, on_step, sorted(batch.shorter),
                self._unfinished([keys[task.sample_id] for task in tasks]),
            )  # fmt: skip
        if [outcome.sample_id for outcome in outcomes] != [task.sample_id for task in tasks]:
            raise MethodError(
                f"Method {variant.name} did not return one outcome per edit in order: mend its edit()."
            )
        return [replace(outcome, seconds=seconds / len(tasks)) for outcome in outcomes]

    def _unfinished(self, keys: Sequence[str]) -> Unfinished:
        identity = content_key({"edits": list(keys)})
        state = Unfinished(self.prepared.output_dir, f"{UNFINISHED}/{identity}.safetensors", identity)
        self._states.append(state)
        return state

    def _finish(self, unit: Unit, outcome: EditOutcome, batch_size: int, megabytes: float | None) -> Edit:
        setup, variant = self.prepared.setup, unit.variant
        kind = KINDS[variant.kind]
        reason = kind.fault(outcome, setup.resolution)
        if unit.mask == "end" and outcome.image is not None and not reason:
            outcome = replace(outcome, image=blended(outcome.image, unit.sample, setup.resolution))
        made = None if reason else kind.encode(outcome, unit.key, self.prepared.request.keep_fields)
        files = made.files if made else {}
        costs: dict[str, Any] = {
            "unet_evaluations": outcome.unet_evaluations,
            "training_evaluations": outcome.training_evaluations,
            "seconds": round(outcome.seconds, 6),
            "peak_memory_mb": megabytes,
            "batch_size": max(batch_size, 1),
        }
        record = Record(
            **setup.model_dump(),
            key=unit.key,
            status="failed" if reason else "ok",
            reason=reason,
            sample_id=unit.sample.id,
            edit_type=unit.sample.edit_type,
            tags=dict(unit.sample.tags),
            notes=unit.sample.notes,
            method=variant.name,
            method_version=variant.version,
            method_source=variant.source_hash,
            params=variant.params_dict(),
            seed=unit.seed,
            mask=unit.mask,
            device=str(self.denoiser.device),
            image_sha=made.sha if made else None,
            files={name: sha256(content) for name, content in files.items()},
            **costs,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return Edit(record, made.png if made else None, outcome.trace, files)


def failed_edits(prepared: Prepared, units: Sequence[Unit], reason: str) -> list[Edit]:
    """Records of edits that no worker could make."""
    return [
        Edit(
            Record(
                **prepared.setup.model_dump(),
                key=unit.key,
                status="failed",
                reason=reason,
                sample_id=unit.sample.id,
                edit_type=unit.sample.edit_type,
                tags=dict(unit.sample.tags),
                method=unit.variant.name,
                method_version=unit.variant.version,
                method_source=unit.variant.source_hash,
                params=unit.variant.params_dict(),
                seed=unit.seed,
                mask=unit.mask,
                device=prepared.device,
                batch_size=1,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
        for unit in units
    ]
