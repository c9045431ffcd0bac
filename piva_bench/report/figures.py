"""Which figures a run's report has, drawn and written as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from piva_bench.errors import UserError
from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.curves import to_png, to_svg
from piva_bench.report.drift import Course, drift, drift_metrics
from piva_bench.report.plots import Traces, colour_drift, convergence, cost_quality, type_bars
from piva_bench.report.results import head, metrics_of
from piva_bench.report.sweep import choose_axes
from piva_bench.report.tables import Table
from piva_bench.runs.inside import write_own

TITLES = {
    "by_type": "Scores by edit type",
    "cost": "Cost against quality",
    "colour": "What became of the colours",
    "convergence": "Convergence",
    "drift": "Drift over steps",
}


def plane(results: pd.DataFrame) -> tuple[MetricInfo, MetricInfo] | None:
    """Edit strength and identity of the frame's protocol; None where it was not scored by both."""
    try:
        axes = choose_axes(results["protocol"].iloc[0], None, None)
    except UserError:
        return None
    return axes if all(axis.name in results and results[axis.name].notna().any() for axis in axes) else None


def write_figures(
    directory: Path,
    results: pd.DataFrame,
    by_method: Table,
    by_type: Table,
    traces: Traces,
    drifting: Sequence[Course],
) -> list[str]:
    """Write the figures that the run has the numbers for; returns their names, without suffix."""
    names = []
    for name, figure in _figures(results, by_method, by_type, traces, drifting):
        write_own(directory / f"{name}.png", to_png(figure))
        write_own(directory / f"{name}.svg", to_svg(figure))
        names.append(name)
    return names


def _figures(
    results: pd.DataFrame, by_method: Table, by_type: Table, traces: Traces, drifting: Sequence[Course]
) -> Iterator[tuple[str, Figure]]:
    axes = plane(results)
    if axes and (results["section"] != "reference").any():
        yield "by_type", type_bars(by_type, axes)
    if axes and (results["seconds"] > 0).any():
        yield "cost", cost_quality(by_method, axes)
    colours = [
        metric
        for metric in metrics_of(results)
        if metric.group == "colour" and results[metric.name].notna().any()
    ]
    if colours:
        yield "colour", colour_drift(results, colours, head(results))
    if traces:
        yield "convergence", convergence(traces, head(results))
    if drifting:
        yield "drift", drift(drifting, drift_metrics(results), head(results))
