"""The pool: hands batches to workers and yields them finished, in whatever order that is.

A worker is this process, or one of several: a single-threaded process for each core, or a process for each GPU.
Batches are cut by the plan, not here, so the records do not depend on how many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from piva_bench.runs.crew import CrewPool, Finished
from piva_bench.runs.plan import Batch, Unit
from piva_bench.runs.processes import Processes
from piva_bench.runs.watcher import Watcher

if TYPE_CHECKING:
    from piva_bench.runs.request import Prepared
    from piva_bench.runs.worker import Worker


class Pool(Protocol):
    """Workers for one plan."""

    workers: int

    def batch_size(self, units: Sequence[Unit], interrupted: int | None) -> int:
        """See ``Prepared.batch_size``."""

    def map(self, groups: Sequence[Sequence[Batch]], shares: bool, watcher: Watcher) -> Iterator[Finished]:
        """Computes all batches; those of a group in one place, one after another.

        Args:
            groups: of batches.
            shares: whether what the batches of a group have in common is computed once.
            watcher: told of every batch and step.

        Raises:
            UserError: a method or model that cannot be used; what was yielded before stays good.
        """

    def close(self) -> None:
        """Ends the workers at once."""


class OwnProcess:
    """The one worker is this process, with as many threads as torch likes."""

    workers = 1

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    @cached_property
    def _worker(self) -> Worker:
        from piva_bench.runs.worker import Worker

        return Worker.of(self._prepared)

    def batch_size(self, units: Sequence[Unit], interrupted: int | None) -> int:
        """See ``Pool``."""
        return self._prepared.batch_size(units, lambda: self._worker.denoiser, interrupted)

    def map(self, groups: Sequence[Sequence[Batch]], shares: bool, watcher: Watcher) -> Iterator[Finished]:
        """See ``Pool``."""
        from piva_bench.runs.worker import Tell

        number = 0
        for group in groups:
            if shares:
                self._worker.share()
            for batch in group:
                number += 1
                watcher.batch_started(number, batch)

                def step(share: float, scalars: Mapping[str, float], number: int = number) -> None:
                    watcher.step(number, share, scalars)

                yield Finished(number, self._worker.run(batch, Tell(step, watcher.warn)))

    def close(self) -> None:
        """See ``Pool``."""


def open_pool(prepared: Prepared, groups: int) -> Pool:
    """The pool that suits a plan and the machine.

    Args:
        prepared: the plan.
        groups: how many groups of batches there will be, about; more workers than these are of no use.
    """
    request = prepared.request
    if request.executor == "ray":
        from piva_bench.runs.ray_crew import RayCrew

        asked = None if request.workers == "auto" else request.workers
        return CrewPool(prepared, RayCrew(prepared, request.ray_address, asked))
    wanted = min(worker_count(prepared), groups)
    if wanted > 1 or request.timeout is not None:  # only another process can be stopped
        return CrewPool(prepared, Processes(prepared, wanted))
    return OwnProcess(prepared)


def worker_count(prepared: Prepared) -> int:
    """As asked for; else one for each GPU, or for each physical core."""
    if prepared.request.workers != "auto":
        return prepared.request.workers
    if prepared.device == "cpu":
        import psutil

        return psutil.cpu_count(logical=False) or 1
    if prepared.device == "cuda":
        import torch

        return torch.cuda.device_count()
    return 1
