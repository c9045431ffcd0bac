"""The faults: each is injected once, and says what was wrong with what became of it.

What is said begins with what is counted: "lost", "doubled", "reason" or "exit".
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

import psutil

from benchmarks.faults.bench import COMMANDS, Bench
from benchmarks.faults.trial import Ended, compare, finished, state

Fault = Callable[[Bench], list[str]]

EXIT_MISTAKE, EXIT_FAILED, EXIT_INTERRUPTED = 2, 3, 130


class NotHere(Exception):
    """A fault that cannot be injected on this machine; says why."""


def again(bench: Bench, command: str, before: dict[str, bytes] | None = None) -> list[str]:
    """The same command, undisturbed: it ends well, and all is there."""
    before = bench.finished() if before is None else before
    ended = bench.run(COMMANDS[command])
    wrong = [] if ended.code == 0 else [f"exit: {ended.code} when run again: {ended.said[-300:]}"]
    return wrong + compare(bench.out, bench.reference(command)[0], before)


# Killed and interrupted --------------------------------------------------------------------------------------


def signalled(command: str, number: signal.Signals) -> Fault:
    """A signal to the driver at a random moment."""

    def fault(bench: Bench) -> list[str]:
        moment = bench.moment(command)
        bench.place(command)
        driver = bench.start(COMMANDS[command])
        time.sleep(moment)
        driver.signal(number)
        ended = driver.wait()
        # Before it catches a signal, and after it is done, a command ends as any program does.
        right = {0, -number} | ({EXIT_INTERRUPTED} if number != signal.SIGKILL else set())
        wrong = [] if ended.code in right else [f"exit: {ended.code} of {number.name}: {ended.said[-300:]}"]
        if "Traceback" in ended.said:
            wrong.append(f"reason: a traceback: {ended.said[-300:]}")
        begun = ended.said.strip() not in ("", "interrupted")
        again_said = "run the same command again to finish" in ended.said
        if ended.code == EXIT_INTERRUPTED and begun and not again_said:
            wrong.append(f"reason: not said: {ended.said[-300:]}")
        return wrong + again(bench, command)

    return fault


def worker_killed(command: str) -> Fault:
    """Signal 9 to a worker at a random moment: the run itself mends that."""

    def fault(bench: Bench) -> list[str]:
        moment = bench.moment(command)
        bench.place(command)
        driver = bench.start(COMMANDS[command])
        time.sleep(moment)
        try:
            workers = psutil.Process(driver.pid).children(recursive=True)
            if workers:
                bench.rng.choice(workers).kill()
        except psutil.NoSuchProcess:
            pass
        ended = driver.wait()
        wrong = [] if ended.code == 0 else [f"exit: {ended.code}: {ended.said[-300:]}"]
        wrong += compare(bench.out, bench.reference(command)[0])
        return wrong + again(bench, command)

    return fault


def two_runs(bench: Bench) -> list[str]:
    """A second run on the folder, at a random moment of the first."""
    moment = bench.moment("run")
    bench.place("run")
    first = bench.start(COMMANDS["run"])
    time.sleep(moment)
    second = bench.run(COMMANDS["run"])
    ends = [first.wait(), second]
    wrong = []
    for ended in ends:
        refused = ended.code == EXIT_MISTAKE and ended.is_one_line and "Another run is writing" in ended.said
        if ended.code and not refused:
            wrong.append(f"exit: {ended.code}: {ended.said[-300:]}")
    if all(ended.code for ended in ends):
        wrong.append("exit: both were refused")
    wrong += compare(bench.out, bench.reference("run")[0])
    return wrong + again(bench, "run")


# The disk ----------------------------------------------------------------------------------------------------


def failing_writes(number: int) -> Fault:
    """From a random write on, the system refuses every one."""

    def fault(bench: Bench) -> list[str]:
        # Records, pictures, scores and journals of a run are some 70 files.
        good = bench.rng.randrange(70)

        def inject() -> None:
            original, left = os.fsync, good

            def fsync(descriptor: int) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise OSError(number, os.strerror(number))
                original(descriptor)

            os.fsync = fsync

        return _cannot_store(bench, inject)

    return fault


def file_size_limit(bench: Bench) -> list[str]:
    """The kernel cuts off every file at a random length."""
    limit = bench.rng.randrange(200, 6000)

    def inject() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # What the process says goes into a file as well, and would be cut off.
    def quiet_inject() -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        inject()

    bench.reference("run")
    bench.place("run")
    ended = bench.run(COMMANDS["run"], quiet_inject)
    wrong = [] if ended.code in (0, EXIT_MISTAKE) else [f"exit: {ended.code}"]
    return wrong + again(bench, "run")


def full_disk(bench: Bench) -> list[str]:
    """A disk of its own, a few hundred kilobytes large, that fills up."""
    bench.reference("run")
    bench.place("run")
    bench.out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={bench.rng.randrange(16, 200)}k", "tmpfs", str(bench.out)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        raise NotHere("mounting a small disk needs root")
    try:
        ended = bench.run(COMMANDS["run"])
        wrong = _said_so(ended)
        larger = ["mount", "-o", "remount,size=64m", str(bench.out)]
        subprocess.run(larger, check=True, capture_output=True)
        return wrong + again(bench, "run")
    finally:
        subprocess.run(["umount", "-l", str(bench.out)], check=True)


def folder_removed(bench: Bench) -> list[str]:
    """Somebody removes the folder while a run is writing to it."""
    moment = bench.moment("run")
    bench.place("run")
    driver = bench.start(COMMANDS["run"])
    time.sleep(moment)
    shutil.rmtree(bench.out, ignore_errors=True)
    ended = driver.wait()
    whole = not compare(bench.out, bench.reference("run")[0])
    wrong = [] if whole and ended.code == 0 else _said_so(ended)
    if ended.code == 0 and not whole and not finished(bench.out):
        wrong = []  # it was over before the folder was removed
    # A record whose picture was taken from it is made again, and rightly.
    pictures = bench.out / "images"
    whole_ones = {
        name: content
        for name, content in bench.finished().items()
        if (pictures / name).with_suffix(".png").exists()
    }
    return wrong + again(bench, "run", whole_ones)


def _cannot_store(bench: Bench, inject: Callable[[], None]) -> list[str]:
    bench.reference("run")
    bench.place("run")
    ended = bench.run(COMMANDS["run"], inject)
    return _said_so(ended) + again(bench, "run")


def _said_so(ended: Ended) -> list[str]:
    """Whether a command that could not store its results said so, in a line, with its exit code."""
    if ended.code == 0:
        return []
    wrong = [] if ended.code == EXIT_MISTAKE else [f"exit: {ended.code}: {ended.said[-300:]}"]
    return wrong + ([] if ended.is_one_line else [f"reason: not in a line: {ended.said[-500:]}"])


# Damaged files -----------------------------------------------------------------------------------------------


def damaged(kind: str) -> Fault:
    """A file of the store is cut off, emptied, or has a bit turned over."""

    def fault(bench: Bench) -> list[str]:
        bench.reference("run")
        bench.place("report")  # with a finished run
        files = [bench.out / kind] if "." in kind else sorted((bench.out / kind).rglob("*.*"))
        path = bench.rng.choice(files)
        data = bytearray(path.read_bytes())
        where = bench.rng.randrange(len(data))
        how = bench.rng.choice(("cut", "emptied", "flipped"))
        if how == "flipped":
            data[where] ^= 1 << bench.rng.randrange(8)
        else:
            del data[where if how == "cut" else 0 :]
        path.write_bytes(data)
        untouched = {name: row for name, row in finished(bench.out).items() if path.stem not in name}
        ended = bench.run(COMMANDS["run"])
        wrong = [] if ended.code == 0 else [f"exit: {ended.code}: {ended.said[-300:]}"]
        # Scores that are computed again are not worth a word, unless they were found to be torn.
        if path.name not in ended.said and kind != "manifest.json":
            wrong.append(f"reason: {path.name}, {how} at {where}, is not named: {ended.said[-300:]}")
        wrong += compare(bench.out, bench.reference("run")[0], untouched)
        return wrong + again(bench, "run", untouched)

    return fault


# Methods -----------------------------------------------------------------------------------------------------


def odd_method(
    name: str, reasons: dict[str, str], said: str = "", code: int = EXIT_FAILED, options: tuple[str, ...] = ()
) -> Fault:
    """A method that misbehaves on some samples, beside one that does not.

    Args:
        name: of its class in `tests.harness`.
        reasons: what the record says, by sample; the other edits are made.
        said: what the run says.
        code: exit code.
        options: of the run.
    """

    def fault(bench: Bench) -> list[str]:
        reference, _ = bench.reference("run")
        bench.place("run")
        methods = ",".join((bench.odd(name), "dds", "identity"))
        ended = bench.run(("run", "-m", methods, *COMMANDS["run"][3:], *options))
        wrong = [] if ended.code == code else [f"exit: {ended.code}: {ended.said[-300:]}"]
        if said not in ended.said or "Traceback" in ended.said:
            wrong.append(f"reason: '{said}' is not said: {ended.said[-500:]}")
        if (
            code == EXIT_MISTAKE
        ):  # nothing more is tried; what was asked for beside it comes when it is left out
            bench.run(COMMANDS["run"])
        here = state(bench.out)
        mine = reference.keys()
        if lost := [key for key in mine if here.get(key) != reference[key]]:
            wrong.append(f"lost: {len(lost)} files of the methods beside it, such as {lost[0]}")
        theirs = [row for key, row in here.items() if key.startswith("records/") and key not in mine]
        samples = {row["sample_id"]: row["reason"] for row in theirs}
        expected = {f"s{i}": reasons.get(f"s{i}") for i in range(6)}
        if code == EXIT_MISTAKE:
            expected = dict.fromkeys(samples, said)
        if len(theirs) != len(samples) or samples.keys() != expected.keys():
            wrong.append(f"lost: records of {sorted(samples)}")
        for sample, reason in samples.items():
            wanted = expected.get(sample)
            if (reason is None) != (wanted is None) or (wanted or "") not in (reason or ""):
                wrong.append(f"reason: {sample}: {reason}")
        return wrong

    return fault


# The clock and the libraries ---------------------------------------------------------------------------------


def clock_set_back(bench: Bench) -> list[str]:
    """The clock jumps back by up to ten years, several times; the run is killed and resumed on the way."""
    rng = bench.rng
    seed = rng.random()

    def inject() -> None:
        import random

        from piva_bench.runs import manifest, worker

        own = random.Random(seed)

        class Jumping(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return datetime.now(tz) - timedelta(days=own.uniform(0, 3650))

        worker.datetime = manifest.datetime = Jumping  # type: ignore[attr-defined,misc]
        wall = time.time
        time.time = lambda: wall() - own.uniform(0, 3e8)

    moment = bench.moment("run")
    bench.place("run")
    driver = bench.start(COMMANDS["run"], inject)
    time.sleep(moment)
    driver.signal(signal.SIGKILL)
    driver.wait()
    before = bench.finished()
    ended = bench.run(COMMANDS["run"], inject)
    wrong = [] if ended.code == 0 else [f"exit: {ended.code}: {ended.said[-300:]}"]
    return wrong + compare(bench.out, bench.reference("run")[0], before) + again(bench, "run")


def other_worker(bench: Bench) -> list[str]:
    """A worker has another version of a library than the driver."""

    def inject() -> None:
        from piva_bench.runs import crew

        packages = crew.packages
        crew.packages = lambda: packages() | {"torch": "1.13"}

    bench.reference("run")
    bench.place("run")
    ended = bench.run(COMMANDS["run"], inject)
    wrong = [] if ended.code == EXIT_MISTAKE else [f"exit: {ended.code}: {ended.said[-300:]}"]
    if not (ended.is_one_line and "A worker has other versions (torch" in ended.said):
        wrong.append(f"reason: {ended.said[-300:]}")
    return wrong + again(bench, "run")


def other_versions(bench: Bench) -> list[str]:
    """A run is interrupted, and finished after a library was changed."""

    def inject() -> None:
        from piva_bench.runs import manifest

        version = manifest.version
        manifest.version = lambda name: "1.13" if name == "torch" else version(name)

    moment = bench.moment("run")
    bench.place("run")
    driver = bench.start(COMMANDS["run"])
    time.sleep(moment)
    driver.signal(signal.SIGKILL)
    driver.wait()
    before = bench.finished()
    begun = (bench.out / "manifest.json").exists()
    ended = bench.run(COMMANDS["run"], inject)
    wrong = [] if ended.code == 0 else [f"exit: {ended.code}: {ended.said[-300:]}"]
    mixed = begun and " 0 computed" not in ended.said
    if mixed and "holds edits made with torch 1.13 and" not in ended.said:
        wrong.append(f"reason: {ended.said[-300:]}")
    return wrong + compare(bench.out, bench.reference("run")[0], before) + again(bench, "run")


def _twice(how: str) -> dict[str, str]:
    return dict.fromkeys(("s0", "s1"), f"the worker process died of it twice ({how}")


_KILL = signal.SIGKILL

FAULTS: dict[str, Fault] = {
    "`kill -9` of the driver, in `run`": signalled("run", _KILL),
    "`kill -9` of the driver, in `sweep`": signalled("sweep", _KILL),
    "`kill -9` of the driver, in `score`": signalled("score", _KILL),
    "`kill -9` of the driver, in `merge`": signalled("merge", _KILL),
    "`kill -9` of the driver, in `report`": signalled("report", _KILL),
    "SIGTERM in `run`": signalled("run", signal.SIGTERM),
    "USR2 in `sweep`": signalled("sweep", signal.SIGUSR2),
    "Ctrl-C in `run`": signalled("run", signal.SIGINT),
    "`kill -9` of a worker, in `run`": worker_killed("run"),
    "`kill -9` of a worker, in `sweep`": worker_killed("sweep"),
    "two runs on one folder": two_runs,
    "disk full (a small disk)": full_disk,
    "disk full (ENOSPC from a random write on)": failing_writes(errno.ENOSPC),
    "quota used up (EDQUOT)": failing_writes(errno.EDQUOT),
    "permission lost (EACCES)": failing_writes(errno.EACCES),
    "disk broken (EIO)": failing_writes(errno.EIO),
    "files cut off by the kernel (RLIMIT_FSIZE)": file_size_limit,
    "folder removed": folder_removed,
    "a record damaged": damaged("records"),
    "a picture damaged": damaged("images"),
    "scores damaged": damaged("scores"),
    "the manifest damaged": damaged("manifest.json"),
    "out of memory in a batch": odd_method("Large", {}, "2 edits (OutOfMemoryError", 0),
    "NaN, and a picture of another size": odd_method(
        "NotFinite", {"s1": "values that are not finite", "s2": "has the shape (3, 8, 8)"}
    ),
    "a method that raises": odd_method("Breaks", {"s1": "RuntimeError: cannot do s1"}),
    "a method that always raises": odd_method("Useless", {}, "KeyError: 'x'", EXIT_MISTAKE),
    "a method that hangs": odd_method(
        "Hangs", dict.fromkeys(("s0", "s1"), "it took longer than --timeout 4 s"), options=("--timeout", "4")
    ),
    "a method that exits": odd_method("Exits", {"s1": "SystemExit: 7"}),
    "a method that exits past Python": odd_method("ExitsAtOnce", _twice("exit code 7")),
    "a method that kills its process": odd_method("Kills", _twice("SIGKILL")),
    "a method that leaves global state changed": odd_method(
        "Messy", {}, "the default device, the default type of numbers", 0, ("--workers", "1")
    ),
    "the clock set back": clock_set_back,
    "a worker with other library versions": other_worker,
    "other library versions after an interruption": other_versions,
}
"""By what the table calls them."""
