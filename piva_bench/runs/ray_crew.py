"""Workers as actors of a Ray cluster: one for each GPU, or for each core, of all its nodes; nodes may come and go.

Actors are not restarted by Ray but replaced by the pool, which puts their batches back. Each has one batch at a time,
which is stored before the next is sent, so nothing piles up in Ray's memory.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from piva_bench.errors import UserError
from piva_bench.runs.crew import Gone, Member
from piva_bench.runs.serve import LAST, Message, serve

if TYPE_CHECKING:
    from piva_bench.runs.request import Order, Prepared

LOOK = 2.0
"""Seconds between two looks at what the cluster has."""
KNOCK = 20.0
"""Seconds that a cluster has to answer at its address."""


class Actor:
    """A worker in a process of the cluster: a thread serves, and what it says is streamed to the driver.

    Args:
        order: the plan.
        folder: the driver's working directory, which relative paths start from.
        threads: torch's; None for as many as it likes.
    """

    def __init__(self, order: Order, folder: str, threads: int | None) -> None:
        self._requests: queue.Queue[Message] = queue.Queue()
        self._said: queue.Queue[Message] = queue.Queue()
        with suppress(OSError):  # a node without it has no use for relative paths, and says so itself
            os.chdir(folder)
        arguments = order, threads, self._requests.get, self._said.put
        threading.Thread(target=serve, args=arguments, daemon=True).start()

    def exchange(self, request: Message | None = None) -> Iterator[Message]:
        """Hands a request on and yields what is said until it is answered; without one, until the worker is ready."""
        if request is not None:
            self._requests.put(request)
        while True:
            said = self._said.get()
            yield said
            if said[0] in LAST:
                return


class RayCrew:
    """A crew of actors.

    Args:
        prepared: the plan.
        address: of the cluster; by default ``RAY_ADDRESS``, else a cluster of this machine alone.
        workers: how many at most; by default as many as the cluster has GPUs or cores.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or it has no GPU where one is asked for.
    """

    def __init__(self, prepared: Prepared, address: str | None, workers: int | None) -> None:
        self._prepared, self._workers = prepared, workers
        self._kind = "CPU" if prepared.device == "cpu" else "GPU"
        self._ray = _connect(address)
        self._looked, self._found = 0.0, 0
        if not self.size():
            self._ray.shutdown()
            raise UserError(f"The Ray cluster has no {self._kind}: give --device cpu, or add nodes.")

    def size(self) -> int:
        """See ``Crew``."""
        if self._workers is not None:
            return self._workers
        if time.monotonic() - self._looked > LOOK:
            self._found = int(self._ray.cluster_resources().get(self._kind, 0))
            self._looked = time.monotonic()
        return self._found

    def start(self, number: int) -> Member:
        """See ``Crew``."""
        own = {name: value for name, value in os.environ.items() if name.startswith("PIVA_BENCH_")}
        on_cpu = self._kind == "CPU"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        kind = self._ray.remote(Actor).options(
            num_cpus=1,
            num_gpus=0 if on_cpu else 1,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": own | (threads if on_cpu else {})},
        )
        actor = kind.remote(self._prepared.order(), os.getcwd(), 1 if on_cpu else None)  # noqa: PTH109 (as text)
        return _RayMember(number, self._ray, actor)

    def wait(self, members: Sequence[Member], seconds: float | None) -> list[Member]:
        """See ``Crew``."""
        patience = LOOK if seconds is None else min(seconds, LOOK)  # there may be more room then
        speaking = {
            cast(_RayMember, member).stream: member for member in members if cast(_RayMember, member).stream
        }
        if not speaking:
            time.sleep(patience)
            return []
        ready, _ = self._ray.wait(list(speaking), num_returns=1, timeout=patience, fetch_local=False)
        return [speaking[stream] for stream in ready]

    def close(self) -> None:
        """See ``Crew``."""
        self._ray.shutdown()


class _RayMember:
    """See ``Member``."""

    def __init__(self, number: int, ray: Any, actor: Any) -> None:
        self.number, self._ray, self._actor = number, ray, actor
        self.stream: Any = None
        self.send(None)

    def send(self, message: Message | None) -> None:
        self.stream = self._actor.exchange.options(num_returns="streaming").remote(message)

    def receive(self) -> Message:
        try:
            said: Message = self._ray.get(next(self.stream))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            raise Gone(" ".join(str(error).split())[:200] or type(error).__name__) from None
        if said[0] in LAST:
            self.stream = None
        return said

    def kill(self) -> None:
        self._ray.kill(self._actor, no_restart=True)


def _connect(address: str | None) -> Any:
    """Ray, connected to a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray needs Ray: pip install 'piva-bench[ray]'.") from None
    before = signal.getsignal(signal.SIGTERM)
    named = address or os.environ.get("RAY_ADDRESS")
    try:
        if named:
            _knock(named)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=None)
    except (OSError, ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(f"There is no Ray cluster at {named or 'this machine'}: {line}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray would end the program its own way
    return ray


def _knock(address: str) -> None:
    """Raises ``OSError`` where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()
