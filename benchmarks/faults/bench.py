"""The miniature benchmark that is disturbed, the commands that are run on it, and what they make undisturbed."""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import typer

from benchmarks.faults.trial import Command, Ended, State, finished, fresh, state

COMMANDS = {
    "run": ("run", "-m", "dds,identity", "-b", "2", "--workers", "2", "-o", "out"),
    "sweep": (
        *("sweep", "-m", "piva", "--param", "preservation_weight=0,0.4", "--beside", "identity"),
        *("--strength", "masked", "-b", "2", "--workers", "2", "-o", "out"),
    ),
    "score": ("score", "out"),
    "merge": ("merge", "one", "two", "-o", "out"),
    "report": ("report", "out"),
}
"""What is disturbed. Each works in a folder that ``Bench.place`` has laid out."""


@dataclass
class Bench:
    """The miniature, and a place to work in.

    Args:
        root: folder for all of it.
        rng: of the moments and places of faults.
    """

    root: Path
    rng: random.Random
    _references: dict[str, tuple[State, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # In a process of its own: threads that compute do not survive a fork.
        if not (pid := os.fork()):
            from tests.harness import make_bench

            make_bench(self.root / "bench")
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("the miniature cannot be made")
        register(self.bench)
        # What libraries set up when a model is loaded first takes a second, and is set up for all that are forked.
        from piva_bench.runs.request import RunRequest, prepare

        request = RunRequest(methods=("dds",), dataset="pie", data_root=self.bench / "data", device="cpu")
        prepare(request).load_denoiser()

    @property
    def bench(self) -> Path:
        """Model, data, methods and protocol; see `tests.harness`."""
        return self.root / "bench"

    @property
    def out(self) -> Path:
        """The results that a disturbed command writes."""
        return self.root / "work" / "out"

    def odd(self, name: str) -> str:
        """A method that misbehaves; see `tests.harness`."""
        return f"{self.bench / 'odd.py'}:{name}"

    def place(self, command: str) -> None:
        """An empty place to work in, with what a command needs."""
        work = fresh(self.root / "work")
        if command in ("score", "report"):
            shutil.copytree(self._made, work / "out")
        if command == "score":
            shutil.rmtree(work / "out" / "scores")
        if command == "merge":
            for name in ("one", "two"):
                shutil.copytree(self._shares / name, work / name)

    def start(self, arguments: Sequence[str], before: Callable[[], object] | None = None) -> Command:
        """A command, begun; without its report unless that is what it is for."""

        def prepared() -> None:
            if arguments[0] != "report":
                _leave_the_report_out()
            if before is not None:
                before()

        return Command(arguments, self.root / "work", prepared)

    def run(self, arguments: Sequence[str], before: Callable[[], object] | None = None) -> Ended:
        """A command, from beginning to end."""
        return self.start(arguments, before).wait()

    def reference(self, command: str) -> tuple[State, float]:
        """What an undisturbed command leaves, and its seconds."""
        if command not in self._references:
            self.place(command)
            start = time.monotonic()
            ended = self.run(COMMANDS[command])
            if ended.code:
                raise RuntimeError(f"{command} ends with {ended.code}: {ended.said}")
            self._references[command] = state(self.out), time.monotonic() - start
        return self._references[command]

    def moment(self, command: str) -> float:
        """Seconds into a command, evenly from its beginning to its end."""
        return self.rng.uniform(0, self.reference(command)[1])

    @cached_property
    def _made(self) -> Path:
        """A finished run."""
        self.place("run")
        self.run(COMMANDS["run"])
        shutil.move(self.out, self.root / "made")
        return self.root / "made"

    @cached_property
    def _shares(self) -> Path:
        """The same run in two shares."""
        shares = fresh(self.root / "shares")
        for index, name in enumerate(("one", "two")):
            self.place("run")
            arguments = (*COMMANDS["run"][:-1], "share", "--shard", f"{index}/2")
            if (ended := self.run(arguments)).code:
                raise RuntimeError(ended.said)
            shutil.move(self.root / "work" / "share" / "shards" / f"{index}-of-2", shares / name)
        return shares

    def finished(self) -> dict[str, bytes]:
        """Records that are stored now."""
        return finished(self.out)


def register(bench: Path) -> None:
    """The miniature as the embedded profile, in this process and those forked from it."""
    from piva_bench import profiles

    changes = {
        "model": str(bench / "model"), "resolution": 32, "protocol": "pixels-v1", "method_defaults": {"steps": 2},
    }  # fmt: skip
    profiles.PROFILES["embedded"] = profiles.PROFILES["embedded"].model_copy(update=changes)
    sys.path.insert(0, str(bench / "plugins"))
    os.environ["PIVA_BENCH_DATA_ROOT"] = str(bench / "data")


def _leave_the_report_out() -> None:
    """Tables and figures take longer than the miniature's edits."""
    from piva_bench.cli import report, sweep

    def nothing(*_: object) -> None:
        typer.echo("no report")

    report.write_and_print = nothing  # type: ignore[assignment]
    sweep._report = nothing  # type: ignore[assignment]
