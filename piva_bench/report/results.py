"""A run's records and scores as one data frame."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from piva_bench.errors import DataError, UserError
from piva_bench.metrics.protocol import MetricInfo
from piva_bench.registry import METHODS, PROTOCOLS
from piva_bench.runs.inside import Warn
from piva_bench.runs.manifest import read_manifest, section_of
from piva_bench.runs.record import NOT_KNOWN, Record, ScoreFile
from piva_bench.runs.store import Store
from piva_bench.text import printable

SETUP = ("profile", "protocol", "fingerprint", "model", "model_fingerprint", "dataset", "dataset_revision",
         "resolution", "dtype")  # fmt: skip
"""Columns that are the same in every row: what a table must say about its numbers."""

SECTIONS = {"method": "Methods", "mask": "Methods that read the edit mask",
            "end": "Edits pasted into the source by the edit mask",
            "steps": "Edits blended with the source by the edit mask in every step",
            "supervised": "Supervised methods (trained on pairs of a picture and its edit)",
            "reference": "Reference rows",
            "unknown": "Methods that are not installed (mask use unknown)"}  # fmt: skip
"""Sections of a table, in order. Only rows of one section compete."""


def _warning(line: str) -> None:
    warnings.warn(line, stacklevel=4)


def load_results(output_dir: Path, protocol: str | None = None, warn: Warn = _warning) -> pd.DataFrame:
    """One row per record: its fields, and one column per metric (NaN where undefined or not scored).

    The directory is data: what it names is looked up among what is installed, and never imported as a file; its
    texts have their control characters shown.

    Added columns: ``protocol`` and ``fingerprint`` of the scores, ``variant`` (the method, with its
    parameters where the run holds several settings of it), ``section`` (a key of `SECTIONS`), ``machine``,
    ``undefined`` (why, for each metric that has no value; None where the edit is not scored).

    Args:
        output_dir: a run's directory.
        protocol: whose scores; by default that of the run's profile, as its manifest has it.
        warn: told, in one line each, about what is torn or of another version of the protocol and so left out.

    Raises:
        DataError: no records.
        UserError: the run was scored with several protocols and none was named, or one that is not installed.
    """
    store = Store(output_dir, warn)
    records = list(store.records().values())
    if not records:
        raise DataError(f"{output_dir} holds no results: give the output directory of a finished run")
    manifest = _manifest(output_dir)
    name = protocol or stated_protocol(output_dir) or _only_protocol(store)
    known = (PROTOCOLS.load if protocol else PROTOCOLS.load_installed)(name).descriptors
    scores = _scores_of_one_version(store, name, records, warn)
    versions = {score.fingerprint for score in scores.values()}
    names = _variant_names(records)
    machine = _machine(manifest)
    stated = _stated_sections(manifest)
    sections = {method: _section(method, stated) for method in {record.method for record in records}}
    # Column by column: a row's dictionary a record would take several times the time and memory.
    columns: dict[str, list[Any]] = {
        field: [_shown(getattr(record, field)) for record in records]
        for field in Record.model_fields
        if field not in ("params", "tags", "files")
    }
    columns["params"] = [printable(_params_text(json.dumps(record.params))) for record in records]
    elsewhere = [record.device == NOT_KNOWN for record in records]
    for field in ("seconds", "unet_evaluations"):
        columns[field] = [
            math.nan if unknown else v for v, unknown in zip(columns[field], elsewhere, strict=True)
        ]
    for tag in dict.fromkeys(tag for record in records for tag in record.tags):
        columns[f"tag_{tag}"] = [_shown(record.tags.get(tag, math.nan)) for record in records]
    columns["variant"] = [printable(name) for name in names]
    columns["section"] = [
        _BY_MASK[record.mask] if record.mask else sections[record.method] for record in records
    ]
    per_record = [scores[record.key].values if record.key in scores else {} for record in records]
    for metric in dict.fromkeys(metric for values in per_record for metric in values if metric in known):
        columns[metric] = [_number(values.get(metric)) for values in per_record]
    columns["undefined"] = [_undefined(scores.get(record.key), known) for record in records]
    frame = pd.DataFrame(columns).assign(
        protocol=name, fingerprint=printable(min(versions, default="not scored")), machine=printable(machine)
    )
    return frame.sort_values(["variant", "sample_id", "seed"], ignore_index=True)


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


def table_order(section: str, label: str) -> tuple[int, list[str | float]]:
    """Where a row stands among others: by section, then by name, numbers in it by their size."""
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return list(SECTIONS).index(section), [float(part) if i % 2 else part for i, part in enumerate(parts)]


def variants_in_order(results: pd.DataFrame) -> list[tuple[str, str]]:
    """Section and name of every variant, as tables, sheets and galleries show them."""
    pairs = results[["section", "variant"]].drop_duplicates().itertuples(index=False)
    return sorted(
        ((str(section), str(variant)) for section, variant in pairs), key=lambda pair: table_order(*pair)
    )


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _scores_of_one_version(
    store: Store, protocol: str, records: Sequence[Record], warn: Warn
) -> dict[str, ScoreFile]:
    """The scores by key. Of several versions of the protocol the one that most edits are scored by."""
    scores = {record.key: score for record in records if (score := store.load_scores(protocol, record.key))}
    counts = Counter(score.fingerprint for score in scores.values())
    if len(counts) < 2:
        return scores
    chosen, most = min(counts.items(), key=lambda item: (-item[1], item[0]))
    warn(
        f"{store.root} is scored by {len(counts)} versions of {protocol}: {len(scores) - most} of {len(scores)} scores "
        f"are not {printable(chosen)}'s and are left out, `piva-bench score` makes them again"
    )
    return {key: score for key, score in scores.items() if score.fingerprint == chosen}


def _undefined(score: ScoreFile | None, known: Mapping[str, MetricInfo]) -> dict[str, str] | None:
    if score is None:
        return None
    return {name: printable(why) for name, why in score.undefined.items() if name in known}


def undefined_samples(results: pd.DataFrame) -> dict[tuple[str, str], frozenset[str]]:
    """For each metric and reason the samples of which no edit has a value, for that reason."""
    found: dict[tuple[str, str], set[str]] = {}
    scored = results[results["undefined"].notna()]
    for sample_id, reasons in scored.groupby("sample_id")["undefined"]:
        for item in set.intersection(*(set(each.items()) for each in reasons)):
            found.setdefault(item, set()).add(str(sample_id))
    return {item: frozenset(samples) for item, samples in sorted(found.items())}


def _manifest(output_dir: Path) -> dict[str, Any]:
    try:
        return read_manifest(output_dir)
    except DataError:  # told where the run is opened
        return {}


def stated_protocol(output_dir: Path) -> str | None:
    """The protocol of a run's profile, as its manifest has it."""
    name = _manifest(output_dir).get("profile", {}).get("protocol")
    return name if isinstance(name, str) else None


def _only_protocol(store: Store) -> str:
    found = store.protocols()
    if len(found) != 1:
        raise UserError(f"{store.root} has scores by {', '.join(found) or 'no protocol'}: give --protocol")
    return found[0]


def _machine(manifest: Mapping[str, Any]) -> str:
    places = [run.get("environment") for run in manifest.get("runs", ())]
    named = {
        str(e.get("gpu") or f"{e.get('processor')} ({e.get('cores')} cores)")
        for e in places
        if isinstance(e, dict) and e
    }
    return ", ".join(sorted(named)) or "machine not recorded"


def _stated_sections(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the manifest says of methods that were given as files, and so are not installed."""
    variants = [one for run in manifest.get("runs", ()) for one in _list(run.get("variants"))]
    stated = [(one.get("method"), one.get("section")) for one in variants if isinstance(one, dict)]
    return {m: s for m, s in stated if isinstance(m, str) and isinstance(s, str) and s in SECTIONS}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _section(method: str, stated: Mapping[str, str]) -> str:
    """Of an installed method its own; else what the manifest states. Nothing is imported that is not installed."""
    if method not in METHODS.names():
        return stated.get(method, "unknown")
    try:
        return section_of(METHODS.load(method).card)
    except UserError:
        return "unknown"


@lru_cache(1 << 12)
def _params_text(params: str) -> str:
    """Parameters, given as JSON, as a reader wants them."""
    return ", ".join(f"{name}={value}" for name, value in sorted(json.loads(params).items()))


def _variant_names(records: Sequence[Record]) -> list[str]:
    """The method's name of each record, followed by what sets the setting apart where there are several."""
    settings = [_setting(record) for record in records]
    several: dict[str, set[str]] = {}
    for record, setting in zip(records, settings, strict=True):
        several.setdefault(record.method, set()).add(setting)
    named = {method: _details(found) for method, found in several.items()}
    names = []
    for record, setting in zip(records, settings, strict=True):
        detail = named[record.method][setting]
        names.append(f"{record.method} ({detail})" if detail else record.method)
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


_BY_MASK = {"none": "method", "own": "mask", "end": "end", "steps": "steps"}
"""The section by the mask condition of a record, where it has one."""


def _setting(record: Record) -> str:
    """Everything that tells two settings of a method apart, as JSON with text values."""
    return _setting_text(json.dumps(record.params), record.method_version, record.method_source, record.mask)


@lru_cache(1 << 12)
def _setting_text(params: str, version: str, source: str | None, mask: str | None) -> str:
    texts = {name: json.dumps(value) for name, value in json.loads(params).items()}
    given = {"file": source} if source else {}
    condition = {"mask": json.dumps(mask)} if mask else {}
    return json.dumps({**texts, "version": version, **given, **condition}, sort_keys=True)
