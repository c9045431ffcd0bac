"""The pool: hands batches to workers and yields them finished, in whatever order that is.

A worker is this process, or one of several: a single-threaded process for each core, or a process for each GPU.
Batches are cut by the plan, not here, so the records do not depend on how many workers there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Protocol

from piva_bench import prepare
from piva_bench.errors import UserError
from piva_bench.runs.plan import Batch, Unit
from piva_bench.runs.watcher import Watcher

if TYPE_CHECKING:
    from piva_bench.runs.request import Order, Prepared
    from piva_bench.runs.store import Edit
    from piva_bench.runs.worker import Worker

DEATHS = 2
"""A batch that so many worker processes died of is given up."""


@dataclass(frozen=True)
class Finished:
    """A batch's edits, under the number it was announced by."""

    number: int
    edits: list[Edit]


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
        return self._prepared.worker()

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


@dataclass
class _Process:
    """A worker process, and what it is busy with."""

    process: Any
    pipe: Any
    number: int
    group: deque[tuple[int, Batch]] = field(default_factory=deque)

    @property
    def busy(self) -> bool:
        return bool(self.group)


class LocalPool:
    """Worker processes on this machine.

    Args:
        prepared: the plan.
        workers: how many.
    """

    def __init__(self, prepared: Prepared, workers: int) -> None:
        self._prepared, self.workers = prepared, workers
        self._processes = [self._start(number) for number in range(workers)]
        self._deaths: dict[int, int] = {}

    def batch_size(self, units: Sequence[Unit], interrupted: int | None) -> int:
        """See ``Pool``."""
        if self._prepared.request.batch_size != "auto" or interrupted:
            return self._prepared.batch_size(units, lambda: None, interrupted)
        first = self._processes[0]
        first.pipe.send(("size", [unit.key for unit in units], self.workers))
        while True:
            try:
                kind, *rest = first.pipe.recv()
            except EOFError:
                raise UserError(
                    "A worker process died while trying how many edits fit into memory: give --batch-size 1."
                ) from None
            if kind == "size":
                return int(rest[0])
            _raise(kind, rest)

    def map(self, groups: Sequence[Sequence[Batch]], shares: bool, watcher: Watcher) -> Iterator[Finished]:
        """See ``Pool``."""
        numbers = iter(range(1, 1 + sum(map(len, groups))))
        waiting = deque(deque((next(numbers), batch) for batch in group) for group in groups)
        while waiting or any(worker.busy for worker in self._processes):
            for worker in self._processes:
                if not worker.busy and waiting:
                    worker.group = waiting.popleft()
                    self._send(worker, shares, watcher, first=True)
            ready = connection.wait([worker.pipe for worker in self._processes if worker.busy])
            for worker in [one for one in self._processes if one.pipe in ready]:
                try:
                    kind, *rest = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    yield from self._bury(worker, waiting, watcher)
                    continue
                if kind == "step":
                    watcher.step(worker.group[0][0], *rest)
                elif kind == "warn":
                    watcher.warn(rest[0])
                elif kind == "done":
                    number, _ = worker.group.popleft()
                    yield Finished(number, rest[0])
                    if worker.busy:
                        self._send(worker, shares, watcher)
                else:
                    _raise(kind, rest)

    def close(self) -> None:
        """See ``Pool``."""
        for worker in self._processes:
            worker.process.kill()
        for worker in self._processes:
            worker.process.join()
            worker.pipe.close()

    def _send(self, worker: _Process, shares: bool, watcher: Watcher, first: bool = False) -> None:
        number, batch = worker.group[0]
        watcher.batch_started(number, batch)
        keys = [unit.key for unit in batch.units]
        shorter = {steps: [unit.key for unit in units] for steps, units in batch.shorter.items()}
        # A process that has died is found when its answer is waited for.
        with suppress(BrokenPipeError):
            worker.pipe.send(("run", keys, shorter, shares and first))

    def _bury(
        self, worker: _Process, waiting: deque[deque[tuple[int, Batch]]], watcher: Watcher
    ) -> Iterator[Finished]:
        """A new process in a dead one's place; its batch is tried once more elsewhere, then given up."""
        from piva_bench.runs.worker import failed_edits

        worker.process.join()
        how = _death(worker.process.exitcode)
        number, batch = worker.group[0]
        self._deaths[number] = self._deaths.get(number, 0) + 1
        rest = worker.group
        self._processes[self._processes.index(worker)] = self._start(worker.number)
        if self._deaths[number] >= DEATHS:
            rest.popleft()
            reason = f"the worker process died of it twice ({how})"
            watcher.warn(f"a batch of {batch.variant.name} is given up: {reason}")
            yield Finished(number, failed_edits(self._prepared, batch.all_units, reason))
        else:
            watcher.warn(f"a worker process died ({how}): its batch of {batch.variant.name} is tried again")
        if rest:
            waiting.append(rest)

    def _start(self, number: int) -> _Process:
        ours, theirs = multiprocessing.Pipe()
        gpu = self._prepared.device == "cuda"
        arguments = theirs, self._prepared.order(), None if gpu else 1
        process: Any
        if gpu:  # CUDA does not survive a fork
            process = multiprocessing.get_context("spawn").Process(target=_serve, args=arguments, daemon=True)
            with _environment({"CUDA_VISIBLE_DEVICES": _visible(number)}):
                process.start()
        else:
            warm_up()
            context: Any = multiprocessing.get_context(_METHOD)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            with _environment(_THREADS):
                process.start()
        theirs.close()
        return _Process(process, ours, number)


_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def warm_up() -> None:
    """Lets a process that workers are forked from load the libraries, beside what this one has to do meanwhile."""
    if _METHOD == "forkserver":
        from multiprocessing import forkserver

        multiprocessing.get_context("forkserver").set_forkserver_preload(["piva_bench.runs.preload"])
        with _environment(_THREADS):
            forkserver.ensure_running()


def _visible(number: int) -> str:
    """The GPU of a worker, among those that this process may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[number].strip() if given else str(number)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables that a process started within the block inherits; libraries read them when they are imported."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"{name}: out of memory, or killed" if name == "SIGKILL" else name
    return f"exit code {exit_code}"


def _raise(kind: str, rest: Sequence[Any]) -> None:
    if kind == "user":
        raise UserError(rest[0])
    raise RuntimeError(f"a worker process failed: {rest[0] if rest else kind}")


def _serve(pipe: Any, order: Order, threads: int | None) -> None:
    """What a worker process does: batches as they are sent, until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends us
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    prepare()
    import torch

    from piva_bench.runs.worker import Tell

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        worker = order.prepare().worker()
        units = {unit.key: unit for unit in worker.prepared.units}

        def step(share: float, scalars: Mapping[str, float]) -> None:
            pipe.send(("step", share, dict(scalars)))

        def warn(line: str) -> None:
            pipe.send(("warn", line))

        while True:
            kind, *rest = pipe.recv()
            if kind == "size":
                keys, workers = rest
                chosen = [units[key] for key in keys]
                pipe.send(
                    ("size", worker.prepared.batch_size(chosen, lambda: worker.denoiser, None, workers))
                )
                continue
            keys, shorter, fresh = rest
            if fresh:
                worker.share()
            batch = Batch(
                tuple(units[key] for key in keys),
                {steps: tuple(units[key] for key in of) for steps, of in shorter.items()},
            )
            pipe.send(("done", worker.run(batch, Tell(step, warn))))
    except EOFError:
        return
    except UserError as error:
        pipe.send(("user", str(error)))
    except Exception as error:  # said where it can be read, with its type
        pipe.send(("error", f"{type(error).__name__}: {error}"))


def _die_with_the_driver() -> None:
    """A driver that was killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def open_pool(prepared: Prepared, groups: int) -> Pool:
    """The pool that suits a plan and the machine.

    Args:
        prepared: the plan.
        groups: how many groups of batches there will be, about; more workers than these are of no use.
    """
    wanted = min(worker_count(prepared), groups)
    return OwnProcess(prepared) if wanted <= 1 else LocalPool(prepared, wanted)


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
