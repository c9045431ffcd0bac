"""How long a plan will take: from stored edits where there are some, else from a short trial."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from piva_bench.data.sample import UnreadableSample
from piva_bench.runs.kinds import KINDS
from piva_bench.runs.plan import Unit
from piva_bench.runs.variants import Variant

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.runs.record import Record
    from piva_bench.runs.request import Prepared

_TRIAL_STEPS = (1, 3)


@dataclass(frozen=True)
class Estimate:
    """The cost of one variant's part of a plan.

    Attributes:
        edits: how many are to be computed.
        seconds: how long they will take together.
        basis: what the figure rests on, for people.
    """

    variant: Variant
    edits: int
    seconds: float
    basis: str


def estimate(
    todo: Sequence[Unit],
    stored: Sequence[Record],
    prepared: Prepared,
) -> list[Estimate]:
    """The cost of each variant among the edits to be computed.

    Args:
        todo: the edits to be computed.
        stored: finished edits of the same set-up.
        prepared: the plan; its model is loaded if a trial is needed.
    """
    by_variant: dict[str, list[Unit]] = defaultdict(list)
    for unit in todo:
        by_variant[unit.variant.key].append(unit)
    estimates, denoiser = [], None
    for units in by_variant.values():
        variant = units[0].variant
        params = variant.params_dict()
        like = [record for record in stored if (record.method, record.params) == (variant.name, params)]
        known = [record.seconds for record in like if record.status == "ok"]
        if known:
            seconds, basis = median(known) * len(units), f"{len(known)} stored edits"
        else:
            denoiser = denoiser or prepared.load_denoiser()
            together = units[: prepared.batch_size(units, partial(_itself, denoiser), trial=True)]
            seconds = _trial(together, denoiser, prepared.setup.resolution) * len(units)
            basis = "a trial of a few steps"
            if variant.kind == "scenes":
                basis += ", fitting fields not counted"
        estimates.append(Estimate(variant, len(units), seconds, basis))
    return estimates


def _itself(denoiser: Denoiser) -> Denoiser:
    return denoiser


def _trial(units: Sequence[Unit], denoiser: Denoiser, resolution: int) -> float:
    """Seconds per edit. Two short runs tell a step's cost from what is paid once."""
    variant = units[0].variant
    tasks = [
        KINDS[variant.kind].task(unit.sample, variant, resolution, denoiser.device, trial=True)
        for unit in units
        if not isinstance(unit.sample, UnreadableSample)
    ]
    if not tasks:
        return 0.0

    def run(steps: int | None) -> float:
        changes = {} if steps is None else {"steps": steps}
        trial = replace(variant, params=variant.params.model_copy(update=changes))
        return KINDS[variant.kind].timed_edit(trial.method(), tasks, denoiser, units[0].seed)[1]

    steps = variant.method().steps
    if steps is None:
        return run(None) / len(tasks)
    run(1)  # warms caches and threads up
    few, more = _TRIAL_STEPS
    once = run(few)
    per_step = max(run(more) - once, 0.0) / (more - few)
    return (once + per_step * (steps - few)) / len(tasks)
