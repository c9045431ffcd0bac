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
    from piva_bench.metrics.protocol import MetricInfo
    from piva_bench.runs.plan import Unit
    from piva_bench.runs.record import Record, ScoreFile


class PlainProgress:
    """One line per batch. Also keeps the tallies that both kinds of display show."""

    def __init__(self) -> None:
        self._todo = self._done = self._in_batch = self._failed = 0
        self._start = time.monotonic()
        self._headline: Sequence[MetricInfo] = ()
        self._method = ""
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, todo: int, headline: Sequence[MetricInfo]) -> None:
        """See ``Watcher``."""
        self._todo, self._headline, self._start = todo, headline, time.monotonic()

    def batch_started(self, units: Sequence[Unit]) -> None:
        """See ``Watcher``."""
        self._method, self._in_batch = units[0].variant.name, len(units)

    def step(self, fraction: float, scalars: Mapping[str, float]) -> None:
        """See ``Watcher``."""

    def committed(self, record: Record, scores: ScoreFile | None) -> None:
        """See ``Watcher``."""
        self._done += 1
        self._in_batch -= 1
        self._failed += record.status == "failed"
        for metric in self._headline:
            value = scores.values.get(metric.name) if scores else None
            if value is not None:
                self._values[record.method, metric.name].append(value * metric.scale)
        if self._in_batch == 0:
            self._show_batch()

    def warn(self, line: str) -> None:
        """See ``Watcher``."""
        typer.echo(f"warning: {line}", err=True)

    def _show_batch(self) -> None:
        remaining = (time.monotonic() - self._start) / self._done * (self._todo - self._done)
        width = len(str(self._todo))
        typer.echo(
            f"[{self._done:{width}}/{self._todo}] {self._method}  {self._scores()}  "
            f"{remaining // 60:.0f}:{remaining % 60:02.0f} left",
            err=True,
        )

    def _scores(self) -> str:
        """Running means of the current method."""
        shown = []
        for metric in self._headline:
            values = self._values[self._method, metric.name]
            if values:
                shown.append(f"{metric.title} {sum(values) / len(values):.3g}")
        if self._failed:
            shown.append(f"{self._failed} failed")
        return "  ".join(shown)


class BarProgress(PlainProgress):
    """A rich progress bar; a batch counts by the fraction of its steps."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        super().__init__()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[scores]}"),
            console=Console(stderr=True),
            # Batches of different methods differ in speed: look back further than the default of 30 s.
            speed_estimate_period=300,
        )
        self._task = self._bar.add_task("loading the model", total=None, scores="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, todo: int, headline: Sequence[MetricInfo]) -> None:
        """See ``Watcher``."""
        super().started(todo, headline)
        if todo == 0:
            self._bar.update(self._task, visible=False)

    def batch_started(self, units: Sequence[Unit]) -> None:
        """See ``Watcher``."""
        super().batch_started(units)
        self._bar.update(
            self._task,
            description=self._method,
            total=self._todo,
            completed=self._done,
            scores=self._scores(),
        )

    def step(self, fraction: float, scalars: Mapping[str, float]) -> None:
        """See ``Watcher``."""
        self._bar.update(self._task, completed=round(self._done + fraction * self._in_batch, 1))

    def warn(self, line: str) -> None:
        """See ``Watcher``."""
        self._bar.console.print(f"warning: {line}", markup=False, highlight=False)

    def _show_batch(self) -> None:
        self._bar.update(self._task, completed=self._done, scores=self._scores())


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
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bar:

        def follow(task: TaskID) -> Callable[[int, object], None]:
            return lambda index, _: bar.update(task, completed=index + 1)

        yield [follow(bar.add_task(name, total=steps)) for name, steps in stages]
