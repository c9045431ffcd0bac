"""Scenes edited by a rule: their fields distilled view by view, then photographed."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.engine import Distillation
from piva_bench.distillation.field_edit import FieldEdit
from piva_bench.distillation.params import Rule
from piva_bench.distillation.scenes import SceneViews
from piva_bench.distillation.state import Keeper, State
from piva_bench.errors import UserError
from piva_bench.method import OnStep, SceneOutcome, SceneTask


def distill_scenes(
    rule: Rule,
    batch: Sequence[SceneTask],
    denoiser: Denoiser,
    seed: int,
    on_step: OnStep | None = None,
    snapshots: Sequence[int] = (),
    unfinished: Keeper | None = None,
) -> list[SceneOutcome]:
    """Edits a batch of radiance fields by a rule; see ``DistillationMethod.edit_scenes``."""
    if not batch:
        return []
    if len({task.params for task in batch}) > 1 or len({task.size for task in batch}) > 1:
        raise UserError("A batch holds scenes of one size, edited alike: group them.")
    start = time.perf_counter()
    taken: dict[int, list[SceneOutcome]] = {}
    with torch.inference_mode(False), torch.no_grad():
        edits = [FieldEdit(task, denoiser.device, seed) for task in batch]
        run = Distillation(rule, SceneViews(edits, denoiser, batch[0].params.views, seed), denoiser, seed)

        def outcomes() -> list[SceneOutcome]:
            return _outcomes(batch, edits, run, start)

        def take(steps: int) -> None:
            taken[steps] = outcomes()

        def keep(steps: int) -> None:
            if unfinished is not None and unfinished.due:
                unfinished.write(_state(run, edits, steps))

        first = _resume(run, edits, unfinished, snapshots)
        run.run(on_step, snapshots, take, first, keep)
        final = outcomes()
    return [
        replace(outcome, snapshots={steps: made[row] for steps, made in taken.items()})
        for row, outcome in enumerate(final)
    ]


def _state(run: Distillation, edits: Sequence[FieldEdit], steps: int) -> State:
    state = run.state(steps)
    fields = {
        name: value for row, edit in enumerate(edits) for name, value in edit.state(f"field{row}").items()
    }
    return replace(state, tensors={**state.tensors, **fields})


def _resume(
    run: Distillation, edits: Sequence[FieldEdit], unfinished: Keeper | None, snapshots: Sequence[int]
) -> int:
    """Puts the state of an unfinished edit back, if there is one; the number of steps that are done."""
    state = unfinished.read() if unfinished is not None else None
    # What was seen on the way is not kept: where it is wanted, the way is gone again.
    if state is None or any(wanted <= state.steps for wanted in snapshots):
        return 0
    run.restore(state)
    for row, edit in enumerate(edits):
        edit.restore(f"field{row}", state.tensors)
    return state.steps


def _outcomes(
    batch: Sequence[SceneTask], edits: Sequence[FieldEdit], run: Distillation, start: float
) -> list[SceneOutcome]:
    standing = run.standing()
    reasons = [standing.reason(row) or _not_finite(edit) for row, edit in enumerate(edits)]
    shown = [
        None if reason else edit.field.render_views(task.turntable)
        for edit, reason, task in zip(edits, reasons, batch, strict=True)
    ]
    seconds = (time.perf_counter() - start) / len(batch)
    accounts = standing.accounts()
    return [
        SceneOutcome(
            task.sample_id,
            reason=reasons[row],
            seconds=seconds,
            **accounts[row],
            views=shown[row],
            # A copy: the edit may go on.
            field=None if reasons[row] else copy.deepcopy(edits[row].field).cpu(),
        )
        for row, task in enumerate(batch)
    ]


def _not_finite(edit: FieldEdit) -> str | None:
    return None if edit.field.raw.isfinite().all() else "the field's values are not finite"
