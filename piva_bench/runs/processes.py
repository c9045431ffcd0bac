"""Worker processes on this machine: forked from one that has the libraries loaded, or on GPUs started anew."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, cast

from piva_bench.runs.crew import Gone, Member
from piva_bench.runs.serve import Message, serve

if TYPE_CHECKING:
    from piva_bench.runs.request import Order, Prepared

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class Processes:
    """A crew of processes on this machine.

    Args:
        prepared: the plan.
        workers: how many. On a CPU several have a thread each, a single one as many as this process.
    """

    def __init__(self, prepared: Prepared, workers: int) -> None:
        self._prepared, self._workers = prepared, workers

    def size(self) -> int:
        """See ``Crew``."""
        return self._workers

    def start(self, number: int) -> Member:
        """See ``Crew``."""
        ours, theirs = multiprocessing.Pipe()
        arguments = theirs, self._prepared.order(), self._threads()
        process: Any
        if self._prepared.device == "cuda":  # CUDA does not survive a fork
            process = multiprocessing.get_context("spawn").Process(target=_main, args=arguments, daemon=True)
            with _environment({"CUDA_VISIBLE_DEVICES": _visible(number)}):
                process.start()
        else:
            warm_up()
            context: Any = multiprocessing.get_context(_METHOD)
            process = context.Process(target=_main, args=arguments, daemon=True)
            with _environment(_THREADS):
                process.start()
        theirs.close()
        return _Process(number, process, ours)

    def wait(self, members: Sequence[Member], seconds: float | None) -> list[Member]:
        """See ``Crew``."""
        ready = connection.wait([cast(_Process, member).pipe for member in members], seconds)
        return [member for member in members if cast(_Process, member).pipe in ready]

    def close(self) -> None:
        """See ``Crew``."""

    def _threads(self) -> int | None:
        if self._prepared.device != "cpu":
            return None
        import torch

        return 1 if self._workers > 1 else torch.get_num_threads()


class _Process:
    """See ``Member``."""

    def __init__(self, number: int, process: Any, pipe: Any) -> None:
        self.number, self.process, self.pipe = number, process, pipe

    def send(self, message: Message) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def receive(self) -> Message:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):  # an OSError where it died with half a message sent
            self.process.join()
            raise Gone(_death(self.process.exitcode)) from None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


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


def _main(pipe: Any, order: Order, threads: int | None) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends us
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    with suppress(BrokenPipeError):  # nobody is there any more
        serve(order, threads, pipe.recv, pipe.send)


def _die_with_the_driver() -> None:
    """A driver that was killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
