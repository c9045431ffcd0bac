"""Following a run: a bar with running scores in a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID

    from piva_bench.metrics.protocol import MetricInfo
    from piva_bench.runs.plan import Batch
    from piva_bench.runs.record import Record, ScoreFile


class PlainProgress:
    """One line per batch. Also keeps the tallies that both kinds of display show."""

    def __init__(self) -> None:
        self._todo = self._done = self._failed = self._workers = 0
        self._first = time.monotonic()
        self._headline: Sequence[MetricInfo] = ()
        self._method = ""
        self._under_way: dict[int, tuple[str, int, float]] = {}
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, todo: int, headline: Sequence[MetricInfo], workers: int) -> None:
        """See ``Watcher``."""
        self._todo, self._headline, self._workers = todo, headline, workers

    def batch_started(self, number: int, batch: Batch) -> None:
        """See ``Watcher``."""
        if not self._under_way and not self._done:
            self._first = time.monotonic()  # what came before was loading
        self._under_way[number] = (batch.variant.name, len(batch.all_units), 0.0)

    def step(self, number: int, fraction: float, scalars: Mapping[str, float]) -> None:
        """See ``Watcher``."""
        name, edits, _ = self._under_way[number]
        self._under_way[number] = (name, edits, fraction)

    def committed(self, number: int, record: Record, scores: ScoreFile | None) -> None:
        """See ``Watcher``."""
        self._done += 1
        self._failed += record.status == "failed"
        self._method = record.method
        for metric in self._headline:
            value = scores.values.get(metric.name) if scores else None
            if value is not None:
                self._values[record.method, metric.name].append(value * metric.scale)

    def batch_ended(self, number: int) -> None:
        """See ``Watcher``."""
        self._under_way.pop(number, None)
        self._show()

    def warn(self, line: str) -> None:
        """See ``Watcher``."""
        typer.echo(f"warning: {line}", err=True)

    def _show(self) -> None:
        width = len(str(self._todo))
        typer.echo(
            f"[{self._done:{width}}/{self._todo}] {self._method}  {self._scores()}  {self._left()}", err=True
        )

    def _left(self) -> str:
        """How long it will take at the pace so far, batches under way counted by their share."""
        done = self._done + sum(edits * share for _, edits, share in self._under_way.values())
        if not done:
            return ""
        remaining = (time.monotonic() - self._first) / done * (self._todo - done)
        return f"{remaining // 60:.0f}:{remaining % 60:02.0f} left"

    def _scores(self) -> str:
        """Running means of the method of the last batch."""
        shown = []
        for metric in self._headline:
            values = self._values[self._method, metric.name]
            if values:
                shown.append(f"{metric.title} {sum(values) / len(values):.3g}")
        if self._failed:
            shown.append(f"{self._failed} failed")
        return "  ".join(shown)


class BarProgress(PlainProgress):
    """A rich bar for the run, and below it one for each batch under way."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[scores]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("loading the model", total=None, scores="", left="")
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, todo: int, headline: Sequence[MetricInfo], workers: int) -> None:
        """See ``Watcher``."""
        super().started(todo, headline, workers)
        if todo == 0:
            self._bar.update(self._task, visible=False)

    def batch_started(self, number: int, batch: Batch) -> None:
        """See ``Watcher``."""
        super().batch_started(number, batch)
        edits = len(batch.all_units)
        if number not in self._tasks:
            name = f"  {batch.variant.name}"
            self._tasks[number] = self._bar.add_task(name, total=edits, scores="", left="")
        self._show()

    def step(self, number: int, fraction: float, scalars: Mapping[str, float]) -> None:
        """See ``Watcher``."""
        super().step(number, fraction, scalars)
        _, edits, _ = self._under_way[number]
        self._bar.update(self._tasks[number], completed=round(fraction * edits, 1))
        self._show()

    def batch_ended(self, number: int) -> None:
        """See ``Watcher``."""
        self._bar.remove_task(self._tasks.pop(number))
        super().batch_ended(number)

    def warn(self, line: str) -> None:
        """See ``Watcher``."""
        self._bar.console.print(f"warning: {line}", markup=False, highlight=False)

    def _show(self) -> None:
        part = sum(edits * share for _, edits, share in self._under_way.values())
        self._bar.update(
            self._task,
            description=self._method or "editing",
            total=self._todo,
            completed=round(self._done + part, 1),
            scores=self._scores(),
            left=self._left(),
        )


def open_progress() -> PlainProgress:
    """The display that suits standard error."""
    return BarProgress() if sys.stderr.isatty() else PlainProgress()


@contextmanager
def step_bars(*stages: tuple[str, int | None]) -> Iterator[list[Callable[[int, object], None] | None]]:
    """A bar for each stage (its name and number of steps) in a terminal, nothing anywhere else.

    Yields for each stage what is to be told of every step: its index, and what else there is to say of it.
    """
    if not sys.stderr.isatty():
        yield [None] * len(stages)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:

        def follow(task: TaskID) -> Callable[[int, object], None]:
            return lambda index, _: bar.update(task, completed=index + 1)

        yield [follow(bar.add_task(name, total=steps)) for name, steps in stages]
