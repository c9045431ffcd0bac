"""The command line as a process that can be disturbed, and what lies in a folder of results.

Processes are forked from this one, which has the libraries loaded: a command starts in a fraction of a second.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COSTS = ("seconds", "peak_memory_mb", "created", "batch_size", "content_hash")
"""What runs of the same edits need not share; an edit that is mended is made alone."""
PATIENCE = 240
"""Seconds after which a command is said to be stuck."""

State = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code (of a signal the negative number) and what it said."""

    code: int
    said: str

    @property
    def errors(self) -> list[str]:
        """Its lines that are errors."""
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    @property
    def is_one_line(self) -> bool:
        """Whether it said what is wrong in one line, and showed no code."""
        return len(self.errors) == 1 and "Traceback" not in self.said


class Command:
    """The command line in a process of its own.

    Args:
        arguments: of ``piva-bench``.
        folder: to run it in.
        before: called in the process first; injects what is wrong there.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, before: Callable[[], object] | None = None
    ) -> None:
        self._log = folder / f"log-{time.monotonic_ns()}"
        self._log.touch()  # there also if it is killed before it writes
        self._alive, theirs = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._alive)
            _be_the_command(arguments, folder, self._log, before)
        os.close(theirs)

    def signal(self, number: int) -> None:
        """Sends a signal, if there still is somebody."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Waits for it and for all that it has started.

        Raises:
            TimeoutError: it is stuck.
        """
        deadline = time.monotonic() + PATIENCE
        while (found := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            time.sleep(0.01)
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(self._log.read_text(errors="replace")[-500:])
        # Workers hold the other end of this pipe; it is at its end when the last of them is gone.
        os.read(self._alive, 1)
        os.close(self._alive)
        return Ended(os.waitstatus_to_exitcode(found[1]), self._log.read_text(errors="replace"))


def _be_the_command(
    arguments: Sequence[str], folder: Path, log: Path, before: Callable[[], object] | None
) -> None:
    """What the forked process does; never returns."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.argv = ["piva-bench", *arguments]
        from piva_bench.cli.app import main
        from piva_bench.runs import processes

        processes._METHOD = "fork"  # workers start from this process, which has the libraries
        os.fork = _undisturbed(os.fork)
        if before is not None:
            before()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def state(folder: Path) -> State:
    """What is stored: records without what no two runs share, pictures and scores, by path."""
    found: State = {}
    for path in sorted((folder / "records").glob("*")):
        try:
            row = json.loads(path.read_bytes())
            found[f"records/{path.name}"] = {name: row[name] for name in row if name not in COSTS}
        except ValueError:
            found[f"records/{path.name}"] = "torn"
    for name in ("images", "scores"):
        for path in sorted((folder / name).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def finished(folder: Path) -> dict[str, bytes]:
    """The records that are stored now, as they lie there."""
    return {path.name: path.read_bytes() for path in (folder / "records").glob("*.json")}


def compare(folder: Path, reference: State, before: dict[str, bytes] | None = None) -> list[str]:
    """What is wrong with a folder, beside what an undisturbed run makes.

    Args:
        folder: of results.
        reference: ``state`` of the undisturbed run.
        before: records that were finished before the last command, which it must leave alone.
    """
    here, wrong = state(folder), []
    missing, more = reference.keys() - here.keys(), here.keys() - reference.keys()
    if missing:
        wrong.append(f"lost: {len(missing)} files, such as {min(missing)}")
    if more:
        wrong.append(f"doubled: {len(more)} files too many, such as {min(more)}")
    other = sorted(name for name in reference.keys() & here.keys() if reference[name] != here[name])
    if other:
        wrong.append(f"lost: {len(other)} files are not the undisturbed run's, such as {other[0]}")
    now = finished(folder)
    again = [name for name, content in (before or {}).items() if now.get(name) != content]
    if again:
        wrong.append(f"doubled: {len(again)} finished edits were made again, such as {again[0]}")
    rubbish = [str(path.relative_to(folder)) for path in folder.rglob("*.part")]
    rubbish += [name for name in ("journal.json",) if (folder / name).exists()]
    if rubbish:
        wrong.append(f"lost: half-written files are left, such as {rubbish[0]}")
    return wrong


def fresh(folder: Path, of: Path | None = None) -> Path:
    """An empty folder, or a copy of another one."""
    shutil.rmtree(folder, ignore_errors=True)
    if of is None:
        folder.mkdir(parents=True)
    else:
        shutil.copytree(of, folder)
    return folder


def _undisturbed(fork: Callable[[], int]) -> Callable[[], int]:
    """A fork that signals wait for: Python loses what they raise while handlers of a fork run.

    Programs start their workers by a fork server, whose start runs no such handlers.
    """
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}

    def waited_for() -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            return fork()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    return waited_for
