"""The default run against one process on all cores: ``python -m benchmarks.workers`` (minutes; on idle cores).

Both commands make the same edits into fresh folders, in turn; what counts is the ratio of their wall times.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer


def seconds(folder: Path, limit: int, extra: list[str]) -> float:
    """Wall time of one run of Piva on the embedded PIE-Bench."""
    line = [sys.executable, "-m", "piva_bench", "run", "--method", "piva", "--dataset", "pie"]
    start = time.perf_counter()
    subprocess.run(
        [*line, "--limit", str(limit), "--output-dir", str(folder), *extra], check=True, capture_output=True
    )
    return time.perf_counter() - start


def main(
    limit: Annotated[int, typer.Option(help="Edits.")] = 32,
    repeats: Annotated[int, typer.Option(help="Runs of each.")] = 3,
    param: Annotated[list[str] | None, typer.Option(help="As of `piva-bench run`.")] = None,
) -> None:
    """Times the two in turn and prints every pair, and the median of their ratios."""
    extra = [word for item in param or [] for word in ("--param", item)]
    print(f"{limit} edits by Piva, {os.cpu_count()} processors; default against --workers 1")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(repeats):
            one = seconds(Path(name) / f"one-{number}", limit, [*extra, "--workers", "1"])
            default = seconds(Path(name) / f"default-{number}", limit, extra)
            ratios.append(default / one)
            print(f"--workers 1: {one:.1f} s   default: {default:.1f} s   ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    typer.run(main)
