"""A run's records and scores as one data frame."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from piva_bench.errors import DataError, UserError
from piva_bench.metrics.protocol import MetricInfo
from piva_bench.registry import METHODS, PROTOCOLS
from piva_bench.runs.record import NOT_KNOWN, Record, ScoreFile
from piva_bench.runs.store import Store

SETUP = ("profile", "protocol", "fingerprint", "model", "model_fingerprint", "dataset", "dataset_revision",
         "resolution", "dtype")  # fmt: skip
"""Columns that are the same in every row: what a table must say about its numbers."""

SECTIONS = {"method": "Methods", "mask": "Methods that read the edit mask", "reference": "Reference rows",
            "unknown": "Methods that are not installed (mask use unknown)"}  # fmt: skip
"""Sections of a table, in order. Only rows of one section compete."""


def load_results(output_dir: Path, protocol: str | None = None) -> pd.DataFrame:
    """One row per record: its fields, and one column per metric (NaN where undefined or not scored).

    Added columns: ``protocol`` and ``fingerprint`` of the scores, ``variant`` (the method, with its
    parameters where the run holds several settings of it), ``section`` (a key of `SECTIONS`), ``machine``.

    Args:
        output_dir: a run's directory.
        protocol: whose scores; by default that of the run's profile, as its manifest has it.

    Raises:
        DataError: no records, or scores by different versions of the protocol.
        UserError: the run was scored with several protocols and none was named.
    """
    store = Store(output_dir, lambda line: warnings.warn(line, stacklevel=3))
    records = list(store.records().values())
    if not records:
        raise DataError(f"{output_dir} holds no results: give the output directory of a finished run")
    manifest = _manifest(output_dir)
    name = protocol or manifest.get("profile", {}).get("protocol") or _only_protocol(output_dir)
    scores = {record.key: store.load_scores(name, record.key) for record in records}
    versions = sorted({score.fingerprint for score in scores.values() if score})
    if len(versions) > 1:
        raise DataError(
            f"{output_dir} is scored by {len(versions)} versions of {name}: run `piva-bench score` on it"
        )
    named = _variant_names(records)
    machine = _machine(manifest)
    requested = {v["method"]: v["requested"] for run in manifest.get("runs", ()) for v in run["variants"]}
    sections = {m: _section(m, requested.get(m, m)) for m in {record.method for record in records}}
    rows = [
        {
            **record.model_dump(exclude={"params", "tags"}),
            "params": _params_text(record.params),
            **({"seconds": math.nan, "unet_evaluations": math.nan} if record.device == NOT_KNOWN else {}),
            **{f"tag_{key}": value for key, value in record.tags.items()},
            "protocol": name,
            "fingerprint": versions[0] if versions else "not scored",
            "variant": named[record.key],
            "section": sections[record.method],
            "machine": machine,
            **_values(scores[record.key]),
        }
        for record in records
    ]
    return pd.DataFrame(rows).sort_values(["variant", "sample_id", "seed"], ignore_index=True)


def metrics_of(results: pd.DataFrame) -> Sequence[MetricInfo]:
    """The metrics of the frame's protocol, in its order, as far as the frame has them."""
    described: Mapping[str, MetricInfo] = PROTOCOLS.load(results["protocol"].iloc[0]).descriptors
    return [metric for name, metric in described.items() if name in results.columns]


def head(results: pd.DataFrame) -> list[str]:
    """What the numbers of a frame stand on, in a few lines for above a table.

    Raises:
        DataError: the frame mixes set-ups.
    """
    mixed = [column for column in SETUP if results[column].nunique() > 1]
    if mixed:
        raise DataError(f"these results differ in {', '.join(mixed)} and cannot share a table")
    first = results.iloc[0]
    devices = ", ".join(sorted(set(results["device"])))
    seeds = ", ".join(map(str, sorted(set(results["seed"]))))
    return [
        f"profile {first['profile']} · protocol {first['protocol']} ({first['fingerprint']}) · "
        f"model {first['model']} ({first['model_fingerprint']})",
        f"dataset {first['dataset']} ({first['dataset_revision']}) · {results['sample_id'].nunique()} samples · "
        f"seed {seeds} · {first['resolution']} px, {first['dtype']} · {devices}, {first['machine']}",
    ]


def _values(score: ScoreFile | None) -> dict[str, float]:
    values = score.values if score else {}
    return {name: math.nan if value is None else value for name, value in values.items()}


def _manifest(output_dir: Path) -> dict[str, Any]:
    try:
        return json.loads((output_dir / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return {}


def _only_protocol(output_dir: Path) -> str:
    found = sorted(path.name for path in (output_dir / "scores").glob("*") if path.is_dir())
    if len(found) != 1:
        raise UserError(f"{output_dir} has scores by {', '.join(found) or 'no protocol'}: give --protocol")
    return found[0]


def _machine(manifest: Mapping[str, Any]) -> str:
    places = [run.get("environment", {}) for run in manifest.get("runs", ())]
    named = {e.get("gpu") or f"{e.get('processor')} ({e.get('cores')} cores)" for e in places if e}
    return ", ".join(sorted(named)) or "machine not recorded"


def _section(method: str, requested: str) -> str:
    try:
        card = METHODS.load(method if method in METHODS.names() else requested).card
    except UserError:
        return "unknown"
    return "reference" if card.kind == "reference" else "mask" if card.uses_mask else "method"


def _params_text(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(params.items()))


def _variant_names(records: Sequence[Record]) -> dict[str, str]:
    """Key to the method's name, followed by what sets the setting apart where there are several."""
    settings: dict[str, set[str]] = {}
    for record in records:
        settings.setdefault(record.method, set()).add(_setting(record))
    named = {method: _details(several) for method, several in settings.items()}
    names = {}
    for record in records:
        detail = named[record.method][_setting(record)]
        names[record.key] = f"{record.method} ({detail})" if detail else record.method
    return names


def _details(settings: set[str]) -> dict[str, str]:
    """What sets each setting of a method apart: the parameters that differ.

    Those that only some settings have follow from another one's value, and are left out if they can be.
    """
    read = {setting: dict(json.loads(setting)) for setting in settings}
    shared = set.intersection(*(set(values.items()) for values in read.values()))
    common = set.intersection(*(set(values) for values in read.values()))

    def details(names: Callable[[str], bool]) -> dict[str, str]:
        return {
            setting: ", ".join(
                f"{name}={_plain(value)}"
                for name, value in values.items()
                if (name, value) not in shared and names(name)
            )
            for setting, values in read.items()
        }

    short = details(lambda name: name in common)
    return short if len(set(short.values())) == len(settings) else details(lambda name: True)


def _plain(value: str) -> str:
    """A value as on the command line: text without quotes."""
    return value[1:-1] if value.startswith('"') else value


def _setting(record: Record) -> str:
    """Everything that tells two settings of a method apart, as JSON with text values."""
    texts = {name: json.dumps(value) for name, value in record.params.items()}
    source = {"file": record.method_source} if record.method_source else {}
    return json.dumps({**texts, "version": record.method_version, **source}, sort_keys=True)
