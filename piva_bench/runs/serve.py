"""What a worker in another process does: it loads everything, then answers what it is asked, one by one.

Messages are tuples of plain values, their first member says what they are. To the worker: ``size`` (find how many edits
fit into memory) and ``run`` (a batch). From it: ``ready`` once, with the versions of its libraries, ``step``
and ``warn`` on the way of a batch, and an answer: ``size``, ``done``, or the ``user`` or ``error`` that ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from piva_bench import prepare
from piva_bench.errors import UserError
from piva_bench.runs.plan import Batch, Unit

if TYPE_CHECKING:
    from piva_bench.runs.request import Order
    from piva_bench.runs.worker import Worker

Message: TypeAlias = tuple[Any, ...]

LAST = ("ready", "size", "done", "user", "error")
"""What is said before the next request is waited for, or at the end."""


def request_of(batch: Batch, fresh: bool) -> Message:
    """A batch as a message.

    Args:
        batch: to make.
        fresh: whether what is kept for other edits is to be forgotten, and kept from here on.
    """
    keys = [unit.key for unit in batch.units]
    shorter = {steps: [unit.key for unit in units] for steps, units in batch.shorter.items()}
    return "run", keys, shorter, fresh


def serve(
    order: Order, threads: int | None, receive: Callable[[], Message], send: Callable[[Message], None]
) -> None:
    """Answers requests until there are no more.

    Args:
        order: the plan.
        threads: torch's; None for as many as it likes.
        receive: waits for the next request; ``EOFError`` where there will be none.
        send: takes a message away.
    """
    prepare()
    import torch

    from piva_bench.runs.manifest import packages
    from piva_bench.runs.worker import Worker

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        worker = Worker.of(order.prepare())
        units = {unit.key: unit for unit in worker.prepared.units}
        send(("ready", packages()))
        while True:
            send(_answer(worker, units, receive(), send))
    except EOFError:
        return
    except UserError as error:
        send(("user", str(error)))
    except Exception as error:  # said where it can be read, with its type
        send(("error", f"{type(error).__name__}: {error}"))


def _answer(
    worker: Worker, units: Mapping[str, Unit], request: Message, send: Callable[[Message], None]
) -> Message:
    from piva_bench.runs.worker import Tell

    def step(share: float, scalars: Mapping[str, float]) -> None:
        send(("step", share, dict(scalars)))

    def warn(line: str) -> None:
        send(("warn", line))

    def chosen(keys: Sequence[str]) -> tuple[Unit, ...]:
        return tuple(units[key] for key in keys)

    kind, keys, *rest = request
    if kind == "size":
        (workers,) = rest
        found = worker.prepared.batch_size(chosen(keys), lambda: worker.denoiser, None, workers)
        return "size", found
    shorter, fresh = rest
    if fresh:
        worker.share()
    batch = Batch(chosen(keys), {steps: chosen(of) for steps, of in shorter.items()})
    return "done", worker.run(batch, Tell(step, warn))
