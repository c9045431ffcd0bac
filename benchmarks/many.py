"""What a command costs in a folder of many edits: `run` with nothing to do, `report`, `merge`, `score`.

The edits are fabricated: the miniature's setup, records, pictures and scores of so many settings, seeds and samples, as
`run` would have stored them. What is measured is the command as a process, with its peak memory.

    python -m benchmarks.many --edits 100000
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from benchmarks.faults.bench import register

if TYPE_CHECKING:
    from piva_bench.runs.request import Prepared

SAMPLES, SEEDS = 250, 4
SETTING = "guidance_scale"


@dataclass(frozen=True)
class Measured:
    """What a command took: seconds by the clock and of the processor, and MB of memory at most."""

    seconds: float
    processor: float
    megabytes: float
    said: str


def prepare_many(bench: Path, edits: int) -> tuple[Prepared, list[str]]:
    """The plan of so many edits, and the command line that asks for it."""
    from piva_bench.runs.request import RunRequest, prepare
    from piva_bench.runs.variants import resolve_variants

    values = [round(1 + 0.25 * i, 2) for i in range(max(edits // (SAMPLES * SEEDS), 1))]
    request = RunRequest(
        methods=("dds",), dataset="pie", data_root=bench / "data", seeds=tuple(range(SEEDS)), device="cpu"
    )
    from piva_bench.runs.request import open_both

    profile, dataset = open_both(request)
    variants = [resolve_variants(["dds"], {SETTING: value}, profile)[0] for value in values]
    arguments = [
        *("sweep", "-m", "dds", "--param", f"{SETTING}={','.join(map(str, values))}", "--beside", "dds"),
        *("--seed", ",".join(map(str, range(SEEDS))), "--device", "cpu", "--strength", "masked"),
    ]
    return prepare(request, variants, (profile, dataset)), arguments


def fabricate(prepared: Prepared, folder: Path, keep: slice) -> None:
    """Stores the plan's edits, or some of them, without making them."""
    from piva_bench.runs.edit import encode_png
    from piva_bench.runs.manifest import Manifest
    from piva_bench.runs.record import Record, ScoreFile
    from piva_bench.runs.sealed import sealed
    from piva_bench.runs.store import Store

    rng = np.random.default_rng(0)
    pictures = [encode_png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(64)]
    for name in ("records", "images", "traces", "scores/pixels-v1"):
        (folder / name).mkdir(parents=True)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    for index, unit in enumerate(prepared.units[keep]):
        png, sha = pictures[index % len(pictures)]
        record = Record(
            **prepared.setup.model_dump(), key=unit.key, status="ok", sample_id=unit.sample.id,
            edit_type=unit.sample.edit_type, tags=dict(unit.sample.tags), method=unit.variant.name,
            method_version=unit.variant.version, params=unit.variant.params_dict(), seed=unit.seed, device="cpu",
            image_sha=sha, unet_evaluations=8, seconds=1.0, batch_size=8, created=created,
        )  # fmt: skip
        values = {"brightness": float(rng.uniform(100, 150)), "masked": float(rng.uniform(100, 150))}
        scores = ScoreFile(protocol="pixels-v1", fingerprint="0123456789abcdef", values=values)
        (folder / "records" / f"{unit.key}.json").write_bytes(sealed(record.model_dump()))
        (folder / "images" / f"{unit.key}.png").write_bytes(png)
        trace = {"loss": list(map(float, rng.uniform(0, 1, 50).round(4)))}
        (folder / "traces" / f"{unit.key}.json").write_bytes(sealed(trace, lines=False))
        (folder / "scores" / "pixels-v1" / f"{unit.key}.json").write_bytes(sealed(scores.model_dump()))
    with Store(folder) as store:
        manifest = Manifest(folder)
        manifest.begin(prepared, ["fabricated"])
        manifest.end(computed=0)
        manifest.save(store)


def measure(bench: Path, arguments: list[str]) -> Measured:
    """A command as a process."""
    from tests.harness import command, environment

    start = time.monotonic()
    code = (
        "import resource, runpy, subprocess, sys;"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True);"
        "sys.stdout.write(done.stdout[-300:] + done.stderr[-600:]);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print('\\n', used.ru_maxrss, used.ru_utime + used.ru_stime, done.returncode)"
    )
    line = [sys.executable, "-c", code, *command(bench, *arguments)]
    done = subprocess.run(line, env=environment(bench), capture_output=True, text=True)
    *said, last = done.stdout.strip().splitlines()
    memory, processor, ended = map(float, last.split())
    if ended:
        raise RuntimeError(f"{arguments[0]} ends with {ended}: {said}")
    return Measured(time.monotonic() - start, processor, memory / 1e3, said[-1] if said else "")


def main(
    edits: Annotated[int, typer.Option(min=1000, help="How many.")] = 100_000,
    folder: Annotated[Path | None, typer.Option(help="Where to put them.", show_default="temporary")] = None,
    only: Annotated[str, typer.Option(help="Commands.")] = "sweep,report,merge,score",
) -> None:
    """Print seconds and memory of each command."""
    from tests.harness import make_bench, make_dataset

    with tempfile.TemporaryDirectory(prefix="piva-many-", dir=folder) as temporary:
        root = Path(temporary)
        bench = make_bench(root / "bench")
        make_dataset(bench / "data", SAMPLES)
        register(bench)
        prepared, sweep = prepare_many(bench, edits)
        start = time.monotonic()
        half = len(prepared.units) // 2
        for name, keep in (("all", slice(None)), ("one", slice(half)), ("two", slice(half, None))):
            if name == "all" or "merge" in only:
                fabricate(prepared, root / name, keep)
        print(f"{len(prepared.units)} edits fabricated in {time.monotonic() - start:.0f} s", flush=True)
        lines = {
            "sweep": [*sweep, "-o", str(root / "all")],
            "report": ["report", str(root / "all")],
            "merge": ["merge", str(root / "one"), str(root / "two"), "-o", str(root / "merged")],
            "score": ["score", str(root / "all")],
        }
        load = os.getloadavg()[0]
        for name in only.split(","):
            found = measure(bench, lines[name])
            print(
                f"{name:8} {found.seconds:7.1f} s by the clock, {found.processor:7.1f} s of processors, "
                f"{found.megabytes:6.0f} MB  {found.said[:100]}",
                flush=True,
            )
        print(f"load before: {load:.1f}")


if __name__ == "__main__":
    typer.run(main)
