"""Which figures a run's report has, drawn and written as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from piva_bench.report.curves import to_png, to_svg
from piva_bench.report.drift import Course, drift, drift_metrics
from piva_bench.report.plots import Traces, colour_drift, convergence, cost_quality, type_bars
from piva_bench.report.results import head, metrics_of
from piva_bench.report.strength import Headline
from piva_bench.report.tables import Table
from piva_bench.runs.inside import write_own

TITLES = {
    "strength": "Identity against edit strength",
    "by_type": "Scores by edit type",
    "cost": "Cost against quality",
    "colour": "What became of the colours",
    "convergence": "Convergence",
    "drift": "Drift over steps",
}


def write_figures(
    directory: Path,
    results: pd.DataFrame,
    by_method: Table,
    by_type: Table,
    traces: Traces,
    drifting: Sequence[Course],
    front: Headline | None,
) -> list[str]:
    """Write the figures that the run has the numbers for; returns their names, without suffix."""
    names = []
    for name, figure in _figures(results, by_method, by_type, traces, drifting, front):
        write_own(directory / f"{name}.png", to_png(figure))
        write_own(directory / f"{name}.svg", to_svg(figure))
        names.append(name)
    return names


def _figures(
    results: pd.DataFrame,
    by_method: Table,
    by_type: Table,
    traces: Traces,
    drifting: Sequence[Course],
    front: Headline | None,
) -> Iterator[tuple[str, Figure]]:
    if front:
        axes = (front.strength, front.identity)
        yield "strength", front.figure()
        yield "by_type", type_bars(by_type, axes)
        if (results.loc[results["section"] != "reference", "seconds"] > 0).any():
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
