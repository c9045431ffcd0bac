"""Which differences of a run are more than chance, and what its size can show."""

from __future__ import annotations

import math

import pandas as pd

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.formats import MISSING, heading, markdown_escape, signed
from piva_bench.report.results import head, metrics_of
from piva_bench.report.statistics_paired import compare_all
from piva_bench.report.statistics_power import detectable_difference
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


def p_text(p: float) -> str:
    """A p value in two digits."""
    return MISSING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def verdict(row: dict, metric: MetricInfo) -> str:
    """The better method where the corrected test says there is one, else nothing."""
    if not row["p_holm"] <= 0.05 or row["difference"] == 0:
        return ""
    first = (row["difference"] > 0) == (metric.direction == "higher")
    return str(row["first"] if first else row["second"])
