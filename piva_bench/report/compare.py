"""Two runs, or two methods, side by side: what differs in set-up, in scores, and in which samples."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from piva_bench.data.sample import Sample
from piva_bench.errors import DataError, UnknownName
from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.comparisons import p_text
from piva_bench.report.contact_sheet import SheetRow, contact_sheet
from piva_bench.report.formats import heading, markdown_escape, signed
from piva_bench.report.look import edit_look, reference_look, source_look
from piva_bench.report.results import SETUP, load_results, metrics_of
from piva_bench.report.statistics_paired import cluster_of, compare, holm, paired_differences
from piva_bench.runs.inside import Warn, ignore
from piva_bench.runs.store import Store
from piva_bench.text import printable

COMPARABLE = ("protocol", "fingerprint", "dataset", "dataset_revision", "resolution")
"""Where these differ, a difference of scores would mean nothing."""
ABSENT = "(none)"
TOLD = 2
"""Metrics that a sample's line on the sheet has room for."""


@dataclass(frozen=True)
class Side:
    """One method of one run.

    Attributes:
        label: the run's folder and the method's name.
        directory: the run.
        results: its rows of `load_results`.
    """

    label: str
    directory: Path
    results: pd.DataFrame


@dataclass(frozen=True)
class Change:
    """What the second side changes against the first.

    Attributes:
        first: what is compared.
        second: what it is compared with.
        setup: (name, first's value, second's value) wherever they differ.
        scores: a row per metric: difference (second minus first), low, high, p, p_holm, samples; empty if the
            sides cannot be compared or share no sample.
        moved: sample id to how far its scores moved, largest first.
        obstacle: why scores are not compared; empty where they are.
    """

    first: Side
    second: Side
    setup: tuple[tuple[str, str, str], ...]
    scores: pd.DataFrame
    moved: pd.Series
    obstacle: str = ""


def load_side(directory: Path, variant: str, protocol: str | None = None, warn: Warn = ignore) -> Side:
    """One method of a run.

    Raises:
        UnknownName: the run has no such method.
        DataError: no records.
    """
    results = load_results(directory, protocol, warn)
    if variant not in set(results["variant"]):
        raise UnknownName(f"method of {directory}", variant, sorted(results["variant"].unique()))
    return Side(f"{directory.name}: {variant}", directory, results[results["variant"] == variant])


def common_variants(first: Path, second: Path, protocol: str | None = None, warn: Warn = ignore) -> list[str]:
    """Methods that both runs have, in order.

    Raises:
        DataError: there is none.
    """
    names = [set(load_results(each, protocol, warn)["variant"]) for each in (first, second)]
    common = sorted(names[0] & names[1])
    if not common:
        raise DataError(
            f"{first} and {second} share no method: name one of each, as {first}:{min(names[0])} "
            f"{second}:{min(names[1])}"
        )
    return common


def find_change(first: Side, second: Side, metric: str | None = None) -> Change:
    """Compare two sides.

    Args:
        first: the one to start from.
        second: the one that is asked about.
        metric: what ranks the samples; by default the mean over the headline metrics of the change over its
            standard deviation.

    Raises:
        UnknownName: no such metric.
    """
    setup = _setup_changes(first, second)
    unlike = [name for name in COMPARABLE if _value(first, name) != _value(second, name)]
    nothing = pd.DataFrame(columns=["metric", "difference", "low", "high", "p", "p_holm", "samples"])
    if unlike:
        why = f"they differ in {', '.join(unlike)}, so a difference of scores would mean nothing"
        return Change(first, second, setup, nothing, pd.Series(dtype=float), why)
    metrics = [info for info in metrics_of(first.results) if info.name in second.results]
    if metric is not None and metric not in {info.name for info in metrics}:
        raise UnknownName("metric of these runs", metric, [info.name for info in metrics])
    differences = _differences(first, second, metrics)
    if differences.empty:
        return Change(
            first, second, setup, nothing, pd.Series(dtype=float), "no sample and seed is scored in both"
        )
    found = compare(
        differences.to_numpy(), list(cluster_of(first.results).reindex(differences.index, fill_value=""))
    )
    scores = pd.DataFrame(
        {
            "metric": [info.name for info in metrics],
            "difference": [one.mean for one in found],
            "low": [one.low for one in found],
            "high": [one.high for one in found],
            "p": [one.p for one in found],
            "p_holm": holm([one.p for one in found]),
            "samples": [one.n for one in found],
        }
    )
    ranking = (
        [metric] if metric else [info.name for info in metrics if info.headline] or [*map(str, differences)]
    )
    spread = differences[ranking].std(ddof=1).replace(0.0, np.nan)
    moved = (differences[ranking].abs() / (1.0 if metric else spread)).mean(axis=1).dropna()
    moved = moved[moved > 0].sort_values(ascending=False, kind="stable")
    return Change(first, second, setup, scores, moved)


def change_markdown(change: Change) -> str:
    """A comparison as Markdown."""
    lines = [f"### {markdown_escape(change.second.label)} against {markdown_escape(change.first.label)}", ""]
    if change.setup:
        lines += ["| Set-up | First | Second |", "|---|---|---|"]
        lines += ["| " + " | ".join(map(markdown_escape, row)) + " |" for row in change.setup]
    else:
        lines.append("The set-up is the same.")
    if change.obstacle:
        return "\n".join([*lines, "", f"Scores are not compared: {change.obstacle}.", ""])
    lines += ["", "Second minus first on the same samples and seeds; 95 % bootstrap-t interval, sign-flip test, p "
              "corrected over the metrics (Holm).", ""]  # fmt: skip
    lines += ["| Metric | Difference | 95 % interval | p (Holm) | N | |", "|---|---:|---:|---:|---:|---|"]
    for cells in score_cells(change):
        lines.append("| " + " | ".join(map(markdown_escape, cells)) + " |")
    return "\n".join(lines) + "\n"


def score_cells(change: Change) -> list[list[str]]:
    """A row per metric: name, difference, interval, p, pairs, verdict."""
    described = {info.name: info for info in metrics_of(change.first.results)}
    rows = []
    for row in change.scores.to_dict("records"):
        info = described[row["metric"]]
        ends = f"{signed(row['low'], info)} … {signed(row['high'], info)}"
        verdict = ""
        if row["p_holm"] <= 0.05 and info.direction != "none":
            verdict = "better" if (row["difference"] > 0) == (info.direction == "higher") else "worse"
        p, count = p_text(row["p_holm"]), str(row["samples"])
        rows.append([heading(info), signed(row["difference"], info), ends, p, count, verdict])
    return rows


def moved_sheet(
    change: Change, samples: Mapping[str, Sample], limit: int, warn: Warn = ignore
) -> Image.Image:
    """The samples that moved most: source, both edits, counterfactual.

    Args:
        change: from `find_change`.
        samples: the dataset's samples by id, as far as they are at hand.
        limit: at most this many samples.
        warn: told about pictures that are torn.
    """
    metrics = {info.name: info for info in metrics_of(change.first.results)}
    differences = _differences(change.first, change.second, list(metrics.values()))
    rows = []
    for sample_id in change.moved.index[:limit]:
        sample = samples.get(sample_id)
        source, reference = (_of_dataset(sample, kind) for kind in ("source", "reference"))
        cells = [
            source,
            _edit(change.first, sample_id, sample, warn),
            _edit(change.second, sample_id, sample, warn),
            reference,
        ]
        known = differences.loc[sample_id].dropna()
        headlines = [name for name in metrics if metrics[name].headline and name in known]
        told = ", ".join(
            f"{metrics[name].title} {signed(float(known[name]), metrics[name])}" for name in headlines[:TOLD]
        )
        prompts = (sample.source_prompt, sample.target_prompt) if sample else ("", "")
        rows.append(SheetRow(f"{sample_id} · {told}", *prompts, cells))
    title = [
        f"{change.second.label} against {change.first.label}: the {len(rows)} samples that moved most",
        "numbers: second minus first",
    ]
    return contact_sheet(title, ["source", "first", "second", "counterfactual"], rows)


def _setup_changes(first: Side, second: Side) -> tuple[tuple[str, str, str], ...]:
    pairs = [(name, _value(first, name), _value(second, name)) for name in (*SETUP, *_HOW)]
    params = [_record(side).get("params", {}) for side in (first, second)]
    names = sorted(params[0].keys() | params[1].keys())
    pairs += [
        (f"parameter {printable(name)}", _json(params[0], name), _json(params[1], name)) for name in names
    ]
    return tuple(pair for pair in pairs if pair[1] != pair[2])


_HOW = ("method", "method_version", "device", "machine", "batch_size")


def _value(side: Side, name: str) -> str:
    return ", ".join(sorted(map(str, side.results[name].unique())))


def _record(side: Side) -> dict[str, Any]:
    record = Store(side.directory).record(side.results["key"].iloc[0])
    return record.model_dump() if record else {}


def _json(params: Mapping[str, Any], name: str) -> str:
    return printable(json.dumps(params[name], ensure_ascii=False)) if name in params else ABSENT


def _differences(first: Side, second: Side, metrics: Sequence[MetricInfo]) -> pd.DataFrame:
    both = pd.concat([first.results.assign(variant="first"), second.results.assign(variant="second")])
    columns = {info.name: paired_differences(both, info.name, "second", "first") for info in metrics}
    return pd.DataFrame(columns).dropna(how="all")


def _of_dataset(sample: Sample | None, kind: str) -> np.ndarray | str:
    if sample is None:
        return "the dataset is not at hand"
    try:
        picture = source_look(sample) if kind == "source" else reference_look(sample)
    except DataError as error:
        return str(error)
    return np.asarray(picture) if picture is not None else "no counterfactual"


def _edit(side: Side, sample_id: str, sample: Sample | None, warn: Warn) -> np.ndarray | str:
    rows = side.results[(side.results["sample_id"] == sample_id) & (side.results["status"] == "ok")]
    if rows.empty:
        return "no edit"
    first, store = rows.sort_values("seed").iloc[0], Store(side.directory)
    try:
        store.read_picture(first["key"], first["image_sha"])
        return np.asarray(edit_look(sample, store.image_path(first["key"])))
    except DataError as error:
        if os.path.lexists(store.image_path(first["key"])):
            warn(f"{error}: left out")
        return "picture missing or torn"
