"""The soak's command line: injects the faults, counts what became of them, fills the table."""

from __future__ import annotations

import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive the forks
os.environ["HF_HUB_OFFLINE"] = "1"
for variable in [name for name in os.environ if name.startswith("PIVA_BENCH_")]:
    del os.environ[variable]  # somebody's own defaults

import typer  # noqa: E402

import piva_bench.cli.app  # noqa: E402 (for the processes that are forked from this one, as the next)
import piva_bench.runs.preload  # noqa: E402, F401
from benchmarks.faults.bench import Bench  # noqa: E402
from benchmarks.faults.kinds import FAULTS, NotHere  # noqa: E402
from piva_bench.runs.manifest import packages  # noqa: E402

KINDS = ("exit", "lost", "doubled", "reason")
BEGIN, END = "<!-- the table -->\n", "<!-- the end of the table -->"
SLOW = ("`kill -9` of the driver, in `report`", "a method that hangs")
"""Of these, a tenth of the times: what they wait for takes seconds."""


@dataclass
class Row:
    """What became of a fault.

    Attributes:
        times: it was injected.
        wrong: how often something was, by kind.
        why_not: why it could not be injected.
    """

    times: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    why_not: str = ""

    def cells(self, name: str) -> str:
        """The row of the table."""
        if self.why_not:
            return f"| {name} | 0 | {self.why_not} | | | |"
        counts = [f"{self.times - self.wrong[kind]}" for kind in KINDS]
        return f"| {name} | {self.times} | {' | '.join(counts)} |"


def soak(bench: Bench, names: Sequence[str], times: int) -> dict[str, Row]:
    """Injects faults so many times each, by turns."""
    rows = {name: Row() for name in names}
    for index in range(times):
        for name, row in rows.items():
            if row.why_not or (name in SLOW and index % 10):
                continue
            start = time.monotonic()
            try:
                wrong = FAULTS[name](bench)
            except NotHere as why:
                row.why_not = str(why)
                continue
            except TimeoutError as stuck:
                wrong = [f"exit: stuck: {stuck}"]
            row.times += 1
            row.wrong.update({line.partition(":")[0] for line in wrong})
            for line in wrong:
                print(f"{name}, {index}: {line}", file=sys.stderr, flush=True)
            print(f"{index} {name}: {time.monotonic() - start:.1f} s", flush=True)
    return rows


def table(rows: dict[str, Row], seconds: float) -> str:
    """The table, with what it was made on."""
    versions = packages()
    made = (
        f"{sum(row.times for row in rows.values())} faults in {seconds / 60:.0f} min on "
        f"{datetime.now(UTC).date()}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, torch {versions['torch']}."
    )
    head = "| Fault | Times | Exit code right | Nothing lost or torn | Nothing doubled | Reason told |"
    lines = [
        made,
        "",
        head,
        "|---|---:|---:|---:|---:|---:|",
        *(row.cells(name) for name, row in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def main(
    times: Annotated[int, typer.Option(min=1, help="How often each fault is injected.")] = 5,
    only: Annotated[str, typer.Option(help="Faults whose name holds one of these, comma-separated.")] = "",
    seed: Annotated[int, typer.Option(help="Of the moments and places.")] = 0,
    write: Annotated[Path | None, typer.Option(help="Page whose table is filled.")] = None,
) -> None:
    """Inject every fault so many times; ends with 1 if anything was lost, doubled, untold or ended wrongly."""
    names = [name for name in FAULTS if not only or any(part in name for part in only.split(","))]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="piva-faults-") as folder:
        rows = soak(Bench(Path(folder), random.Random(seed)), names, times)
    filled = table(rows, time.monotonic() - start)
    print(filled)
    if write is not None:
        page = write.read_text()
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        write.write_text(f"{before}{BEGIN}{filled}{END}{after}")
    if any(row.wrong for row in rows.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
