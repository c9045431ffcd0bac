"""What a grid of edits costs, and what holds it up first: a simulation of the scheduler with measured costs.

Workers take batches from one driver, which stores each batch before it hands out the next to that worker, as
`piva_bench.runs.crew` does. How long an edit takes is its FLOPs at a GPU's speed; what the driver does for it
(storing it, finding it when a run is resumed) is measured here, on pictures of the grid's size.

    python -m benchmarks.grid --write docs/grid.md
"""

from __future__ import annotations

import heapq
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

BEGIN, END = "<!-- the table -->\n", "<!-- the end of the table -->"
PETAFLOP = {"sds": 0.321, "dds": 0.643, "piva": 1.675}
"""Of an edit of 200 steps at Stable Diffusion 1.5's shape, 512 pixels: results/reference/profile-sd-1.5-shape."""


@dataclass(frozen=True)
class Costs:
    """Seconds of what the driver does for an edit, and a worker at its start.

    Attributes:
        commit: storing it.
        find: reading its record, checking its picture, reading its scores, when a run is resumed.
        load: loading the model.
    """

    commit: float
    find: float
    load: float


@dataclass(frozen=True)
class Grid:
    """What came of a simulation.

    Attributes:
        hours: from the first command to the last stored edit.
        driver: share of that time in which the driver was busy.
        waiting: share of the workers' time in which they waited for it.
    """

    hours: float
    driver: float
    waiting: float


def simulate(
    edits: int, workers: int, batch: int, seconds: float, costs: Costs, spread: float = 0.1, seed: int = 0
) -> Grid:
    """Runs a grid through one driver.

    Args:
        edits: how many.
        workers: GPUs.
        batch: edits computed together.
        seconds: of an edit on one worker.
        costs: of what else is done.
        spread: of a batch's time, its standard deviation over its mean (normal, cut off at a tenth of the mean).
        seed: of that.
    """
    rng = random.Random(seed)
    left = edits
    driver = busy = waited = 0.0
    free = [(costs.load, index) for index in range(workers)]
    done: list[tuple[float, int, int]] = []
    while free or done:
        while free and left:
            start, index = heapq.heappop(free)
            size = min(batch, left)
            left -= size
            took = seconds * size * max(rng.gauss(1, spread), 0.1)
            heapq.heappush(done, (start + took, index, size))
        if not done:
            break
        came, index, size = heapq.heappop(done)
        # The driver stores one batch after another, and answers the worker when it has.
        begin = max(driver, came)
        driver = begin + size * costs.commit
        busy += size * costs.commit
        waited += driver - came
        heapq.heappush(free, (driver, index))
    end = max(driver, costs.load)
    return Grid(end / 3600, busy / end, waited / (end * workers))


def measure(side: int = 512, edits: int = 60) -> Costs:
    """The driver's costs on this machine and disk, by storing and finding made-up edits."""
    from piva_bench.runs.edit import Edit, encode_png
    from piva_bench.runs.record import Record, ScoreFile, Setup, unit_key
    from piva_bench.runs.store import Store

    rng = np.random.default_rng(0)
    # As rough as a photograph, for a picture file of its size.
    field = np.kron(rng.integers(0, 200, (side // 8, side // 8, 3)), np.ones((8, 8, 1)))
    setup = Setup(
        profile="paper", dataset="pie", dataset_revision="0" * 16, model="sd-1.5", model_fingerprint="0" * 16,
        resolution=side, dtype="float16",
    )  # fmt: skip
    made = []
    for index in range(edits):
        pixels = (field + rng.integers(0, 40, field.shape)).astype(np.uint8)
        png, sha = encode_png(pixels)
        own = {
            "method": "dds", "method_version": "1", "method_source": None, "params": {"steps": 200},
            "sample_id": f"s{index}", "seed": 0,
        }  # fmt: skip
        key = unit_key(setup, **own)
        record = Record(
            **setup.model_dump(), **own, key=key, status="ok", edit_type="0", device="cuda", image_sha=sha,
            batch_size=16, created="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        scores = ScoreFile(protocol="pnp-v1", fingerprint="0", values=dict.fromkeys("abcdefgh", 1.25))
        made.append(Edit(record, png, {"loss": [0.5] * 200}, scores=scores))
    with tempfile.TemporaryDirectory(prefix="piva-grid-") as folder:
        with Store(Path(folder)) as store:
            start = time.perf_counter()
            for index in range(0, edits, 10):
                store.commit(made[index : index + 10])
            commit = (time.perf_counter() - start) / edits
        start = time.process_time()
        store = Store(Path(folder))
        for record in store.records().values():
            store.is_whole(record)
            store.load_scores("pnp-v1", record.key)
        find = (time.process_time() - start) / edits
    return Costs(commit, find, 30.0)


def bottleneck(grid: Grid, find_hours: float) -> str:
    """What holds a grid up first."""
    if find_hours > 0.1 * grid.hours:
        return "finding what is stored"
    return "storing" if grid.driver > 0.8 else "the GPUs"


def table(costs: Costs, seconds: float, sizes: Sequence[int], workers: Sequence[int], shards: int) -> str:
    """The page's table: each grid through one driver, and in shares of so many GPUs."""
    lines = [
        f"Measured on {datetime.now(UTC).date()}: storing an edit takes {1e3 * costs.commit:.0f} ms, finding it again "
        f"{1e3 * costs.find:.2f} ms; an edit is {seconds:.1f} s of a GPU.",
        "",
        f"| Edits | GPUs | One driver: hours | driver busy | GPUs waiting | finding all again | held up by | "
        f"Shares of {shards} GPUs: hours | GPUs waiting |",
        "|---:|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for edits in sizes:
        for count in workers:
            one = simulate(edits, count, 16, seconds, costs)
            parts = max(count // shards, 1)
            share = simulate(-(-edits // parts), count // parts, 16, seconds, costs)
            find = edits * costs.find / 3600
            lines.append(
                f"| {edits:,} | {count} | {one.hours:,.1f} | {one.driver:.1%} | {one.waiting:.1%} "
                f"| {60 * find:.1f} min | {bottleneck(one, find)} | {share.hours:,.1f} | {share.waiting:.1%} |"
            )
    return "\n".join(lines) + "\n"


def main(
    teraflops: Annotated[float, typer.Option(help="What a GPU does of half-precision convolutions.")] = 100,
    sizes: Annotated[str, typer.Option(help="Edits.")] = "100000,262500,1000000,10000000",
    workers: Annotated[str, typer.Option(help="GPUs.")] = "1,8,64,512",
    shards: Annotated[int, typer.Option(help="GPUs of a share.")] = 8,
    write: Annotated[Path | None, typer.Option(help="Page whose table is filled.")] = None,
) -> None:
    """Print hours and what holds a grid up, for so many edits on so many GPUs."""
    seconds = 1e3 * sum(PETAFLOP.values()) / len(PETAFLOP) / teraflops
    filled = table(
        measure(), seconds, [int(one) for one in sizes.split(",")], [int(one) for one in workers.split(",")], shards
    )  # fmt: skip
    print(filled)
    if write is not None:
        page = write.read_text()
        write.write_text(f"{page.partition(BEGIN)[0]}{BEGIN}{filled}{END}{page.partition(END)[2]}")


if __name__ == "__main__":
    typer.run(main)
