"""Which differences of a run are more than chance, at what edit strength, and what its size can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.formats import MISSING, heading, markdown_escape
from piva_bench.report.results import head, metrics_of
from piva_bench.report.statistics_paired import cluster_of, compare_all
from piva_bench.report.statistics_power import detectable_difference
from piva_bench.report.statistics_strength import (
    Measured,
    compare_at_equal_strength,
    compare_dominated,
    hypervolume,
    pareto_front,
)
from piva_bench.report.tables import headline_metrics

METHOD = (
    "first minus second on the same samples and seeds; 95 % symmetric bootstrap-t interval and sign-flip test, both by "
    "cluster (object where the dataset names it, else sample); p corrected over the pairs of a metric (Holm)"
)
POWER = 0.8


def compared_metrics(results: pd.DataFrame) -> list[MetricInfo]:
    """The headline metrics for which more or less is better; all such where none is a headline."""
    directed = [metric for metric in metrics_of(results) if metric.direction != "none"]
    return list(headline_metrics(directed))


def comparisons(results: pd.DataFrame) -> pd.DataFrame:
    """Every pair of competing methods on the headline metrics.

    Columns are those of `compare_all`, and ``detectable``: the true difference that a benchmark of this size
    and spread shows in 80 of 100 cases.
    """
    frame = compare_all(results, [metric.name for metric in compared_metrics(results)])
    frame["detectable"] = [
        detectable_difference(spread, clusters, POWER)
        for spread, clusters in zip(frame["spread"], frame["clusters"], strict=True)
    ]
    return frame


def comparisons_markdown(results: pd.DataFrame, frame: pd.DataFrame) -> str:
    """The comparisons as a Markdown table a metric, with the line that says what could have been seen."""
    lines = ["### Paired comparisons", "", *(markdown_escape(line) + "  " for line in head(results)), METHOD]
    if frame.empty:
        return "\n".join([*lines, "", "There are no two methods to compare.", ""])
    for metric in compared_metrics(results):
        part = frame[frame["metric"] == metric.name]
        lines += ["", f"#### {markdown_escape(heading(metric))}", ""]
        lines += ["| First | Second | Difference | 95 % interval | p (Holm) | N | better |"]
        lines += ["|---|---|---:|---:|---:|---:|---|"]
        for row in part.to_dict("records"):
            cells = [
                row["first"],
                row["second"],
                signed(row["difference"], metric),
                f"{signed(row['low'], metric)} … {signed(row['high'], metric)}",
                p_text(row["p_holm"]),
                str(row["samples"]),
                verdict(row, metric),
            ]
            lines.append("| " + " | ".join(map(markdown_escape, cells)) + " |")
        lines += ["", power_line(part, metric)]
    return "\n".join(lines) + "\n"


def power_line(part: pd.DataFrame, metric: MetricInfo) -> str:
    """What difference a run of this size would show, from the median spread of its pairs."""
    spread, clusters = part["spread"].median(), part["clusters"].median()
    if math.isnan(spread) or clusters < 2:
        return "There are too few samples to say what difference would show."
    found = detectable_difference(float(spread), int(clusters), POWER)
    if math.isnan(found):
        return "The differences did not vary here, so what difference would show cannot be told."
    return (
        f"With {int(clusters)} independent samples a difference of {found * metric.scale:.2g} would show "
        f"in {POWER:.0%} of such runs (two-sided, 5 %, not corrected for the number of pairs)."
    )


def signed(value: float, metric: MetricInfo) -> str:
    """A difference at the metric's table scale."""
    return MISSING if math.isnan(value) else f"{value * metric.scale:+.2f}"


def p_text(p: float) -> str:
    """A p value in two digits."""
    return MISSING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def verdict(row: dict, metric: MetricInfo) -> str:
    """The better method where the corrected test says there is one, else nothing."""
    if not row["p_holm"] <= 0.05 or row["difference"] == 0:
        return ""
    first = (row["difference"] > 0) == (metric.direction == "higher")
    return str(row["first"] if first else row["second"])


# Edit strength and identity ---------------------------------------------------------------------------------


def strength_comparisons(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> pd.DataFrame:
    """Identity of swept methods against other methods where their edits are equally strong, and what they dominate.

    A method is swept if the run holds at least two settings of it. Against a method of one setting it is
    compared at that method's strength, against another sweep in the middle of what both reach in 95 of 100 resamples.
    The hypervolumes are in units of both axes' stored values, above the worst mean of any variant on each axis.

    Returns:
        columns first, second, strength, first_identity, second_identity, difference (first minus second), low,
        high, reached, first_volume, second_volume, volume_difference, volume_low, volume_high. Empty where nothing is
        swept.
    """
    competing = results[(results["section"] != "reference") & (results["status"] == "ok")]
    settings = {str(method): sorted(part["variant"].unique()) for method, part in competing.groupby("method")}
    clusters = cluster_of(competing)
    measured = {
        method: Measured(*(_matrix(competing, metric, variants, clusters) for metric in (strength, identity)))
        for method, variants in settings.items()
    }
    signs = [-1.0 if metric.direction == "lower" else 1.0 for metric in (strength, identity)]
    turned = {
        method: Measured(signs[0] * each.strength, signs[1] * each.identity)
        for method, each in measured.items()
    }
    corner = worst_corner(results, strength, identity)
    rows = []
    for first, second in permutations(sorted(settings), 2):
        if len(settings[first]) < 2 or (len(settings[second]) > 1 and first > second):
            continue
        found = compare_at_equal_strength(measured[first], measured[second], list(clusters))
        volumes = compare_dominated(turned[first], turned[second], corner, list(clusters))
        rows.append(
            {
                "first": first,
                "second": second,
                "strength": found.strength,
                "first_identity": found.first,
                "second_identity": found.second,
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
                "reached": found.reached,
                "first_volume": volumes.first,
                "second_volume": volumes.second,
                "volume_difference": volumes.difference,
                "volume_low": volumes.low,
                "volume_high": volumes.high,
            }
        )
    return pd.DataFrame(rows, columns=["first", "second", "strength", "first_identity", "second_identity", "difference",
                                       "low", "high", "reached", "first_volume", "second_volume", "volume_difference",
                                       "volume_low", "volume_high"])  # fmt: skip


def worst_corner(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> list[float]:
    """The worst mean of any variant on each axis, reference rows included, turned so that more is better."""
    done = results[results["status"] == "ok"]
    axes = [metric.name for metric in (strength, identity)]
    means = done.groupby(["section", "method", "variant", "sample_id"])[axes].mean()
    means = means.groupby(["section", "method", "variant"]).mean().dropna()
    signs = np.array([-1.0 if metric.direction == "lower" else 1.0 for metric in (strength, identity)])
    return (means.to_numpy() * signs).min(axis=0).tolist() if len(means) else [0.0, 0.0]


def pareto_table(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> pd.DataFrame:
    """Every competing variant's place on the plane of edit strength and identity, and who is on the front.

    ``hypervolume`` is of all settings of the row's method, ``share`` that over the hypervolume of all methods
    together. Its reference point is the worst mean of any variant of the run on each axis, reference rows included.
    """
    done = results[results["status"] == "ok"]
    axes = [metric.name for metric in (strength, identity)]
    means = done.groupby(["section", "method", "variant", "sample_id"])[axes].mean()
    means = means.groupby(["section", "method", "variant"]).mean().dropna().reset_index()
    signs = np.array([-1.0 if metric.direction == "lower" else 1.0 for metric in (strength, identity)])
    worst = worst_corner(results, strength, identity)
    rivals = means[means["section"] != "reference"].reset_index(drop=True)
    points = rivals[axes].to_numpy() * signs
    rivals["on_front"] = pareto_front(points)
    whole = hypervolume(points, worst)
    volumes = {
        method: hypervolume(points[list(where)], worst)
        for method, where in rivals.groupby("method").indices.items()
    }
    rivals["hypervolume"] = rivals["method"].map(volumes).astype(float)
    rivals["share"] = rivals["hypervolume"] / whole if whole > 0 else math.nan
    return rivals.drop(columns="section")


def strength_markdown(
    frame: pd.DataFrame, front: pd.DataFrame, strength: MetricInfo, identity: MetricInfo
) -> str:
    """Both tables as Markdown."""
    lines = [
        "### Identity at equal edit strength",
        "",
        f"Edit strength: {heading(strength)}. Identity: {heading(identity)}. A sweep is read as a polyline through its "
        "settings, nothing is extrapolated; difference: first minus second, 95 % bootstrap interval. Two sweeps are "
        "compared in the middle of the strengths that both reach in 95 of 100 resamples. Hypervolume: what a method's "
        "settings reach on both axes together, over the worst mean of any row; its difference is always defined.",
        "",
        "| Sweep | Against | At strength | Sweep | Against | Difference | 95 % interval | Hypervolume | Against | "
        "Difference | 95 % interval |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in frame.to_dict("records"):
        numbers = [_number(row["strength"], strength)]
        numbers += [_number(row[name], identity) for name in ("first_identity", "second_identity")]
        ends = f"{signed(row['low'], identity)} … {signed(row['high'], identity)}"
        unit = strength.scale * identity.scale
        volumes = [f"{row[name] * unit:.1f}" for name in ("first_volume", "second_volume")]
        volumes += [_plus(row["volume_difference"] * unit)]
        volumes += [f"{_plus(row['volume_low'] * unit)} … {_plus(row['volume_high'] * unit)}"]
        cells = [row["first"], row["second"], *numbers, signed(row["difference"], identity), ends, *volumes]
        lines.append("| " + " | ".join(map(markdown_escape, cells)) + " |")
    lines += [
        "",
        "### Pareto front",
        "",
        "| Method | Strength | Identity | On the front | Hypervolume share |",
    ]
    lines += ["|---|---:|---:|---|---:|"]
    for row in front.to_dict("records"):
        share = MISSING if math.isnan(row["share"]) else f"{row['share']:.0%}"
        cells = [row["variant"], _number(row[strength.name], strength), _number(row[identity.name], identity)]
        cells += ["yes" if row["on_front"] else "", share]
        lines.append("| " + " | ".join(map(markdown_escape, cells)) + " |")
    return "\n".join(lines) + "\n"


def _plus(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:+.1f}"


def _number(value: float, metric: MetricInfo) -> str:
    return MISSING if math.isnan(value) else f"{value * metric.scale:.2f}"


def _matrix(
    results: pd.DataFrame, metric: MetricInfo, variants: Sequence[str], clusters: pd.Series
) -> np.ndarray:
    means = results.groupby(["sample_id", "variant"])[metric.name].mean().unstack("variant")
    return means.reindex(index=clusters.index, columns=list(variants)).to_numpy(dtype=np.float64)
