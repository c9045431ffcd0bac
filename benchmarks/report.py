"""How long a report takes at the size of the official PIE-Bench: 700 samples by 8 methods.

The edits are made up, of real ones: the reference run's DDS edits and scores again and again under other names, so
every table, comparison, figure and thumbnail has real content. Nothing of it is a result.

    python -m benchmarks.report
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from piva_bench.data.pie import read_pie
from piva_bench.data.sample import Sample
from piva_bench.report.write import write_report
from piva_bench.runs.edit import Edit
from piva_bench.runs.record import Record, Setup, unit_key
from piva_bench.runs.store import Store

ROOT = Path(__file__).parents[1]
PROTOCOL = "studio-v1"


def main(
    samples: Annotated[int, typer.Option(help="Samples of the made-up run.")] = 700,
    methods: Annotated[int, typer.Option(help="Its methods.")] = 8,
) -> None:
    """Make a run up, report it, and print the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        known = _make_up(Path(folder), samples, methods)
        cpu, wall = time.process_time(), time.perf_counter()
        report = write_report(Path(folder), known)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        size = sum(path.stat().st_size for path in report.directory.rglob("*") if path.is_file()) / 1e6
    typer.echo(
        f"{samples} samples x {methods} methods: {wall:.1f} s, {cpu:.1f} s of processor, {size:.0f} MB"
    )


def _make_up(folder: Path, samples: int, methods: int) -> dict[str, Sample]:
    """Fill a run's folder; returns its samples by id."""
    rng = np.random.default_rng(0)
    originals = {sample.id: sample for sample in read_pie(ROOT / "datasets" / "pie").samples}
    known: dict[str, Sample] = {}
    with Store(ROOT / "results" / "reference" / "embedded-pie") as source, Store(folder) as store:
        records = [record for record in source.records().values() if record.method == "dds"]
        for method in range(methods):
            edits, scores = [], []
            for i in range(samples):
                record = records[i % len(records)]
                name = f"{i:012d}"
                known[name] = dataclasses.replace(originals[record.sample_id], id=name)
                again = _renamed(record, name, f"method{method}")
                edits.append(Edit(again, source.image_path(record.key).read_bytes()))
                found = source.load_scores(PROTOCOL, record.key)
                assert found is not None, "the reference run is scored"
                values = {
                    key: value + rng.normal(0, 0.01)
                    for key, value in found.values.items()
                    if value is not None
                }
                scores.append((again.key, found.model_copy(update={"values": {**found.values, **values}})))
            store.commit(edits)
            for key, score in scores:
                store.save_scores(key, score)
    return known


def _renamed(record: Record, sample: str, method: str) -> Record:
    """The same edit as another sample's by another method, with the key that this has."""
    setup = Setup(**{name: getattr(record, name) for name in Setup.model_fields})
    key = unit_key(
        setup, method=method, method_version=record.method_version, method_source=None, params=record.params,
        sample_id=sample, seed=record.seed,
    )  # fmt: skip
    return record.model_copy(update={"key": key, "sample_id": sample, "method": method})


if __name__ == "__main__":
    typer.run(main)
