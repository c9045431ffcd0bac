"""The report of a sweep: a table with a row a value, and the trade-off curve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from piva_bench.report.curves import Curve, Kind, Place, to_png, to_svg, tradeoff
from piva_bench.report.formats import to_csv, to_latex, to_markdown
from piva_bench.report.plane import Axes
from piva_bench.report.results import load_results
from piva_bench.report.tables import Row, Table, method_table
from piva_bench.runs.inside import make_way, write_own

if TYPE_CHECKING:
    from piva_bench.runs.sweep import Point, Sweep

COSTS = (
    "UNet evaluations are what an edit costs by itself; seconds are as incurred: what settings share was computed in "
    "the first that needed it"
)


def write_sweep(sweep: Sweep, axes: Axes) -> tuple[Table, Path]:
    """Writes the table (CSV, Markdown, LaTeX; with all metrics as ``sweep-full``) and the curve (PNG, SVG) into
    ``<output>/report/<sweep's name>/``; returns the table of the headline metrics, and the folder.

    Args:
        sweep: one that has been run.
        axes: edit strength and identity.

    Raises:
        DataError: no records, or scores that cannot share a table.
    """
    prepared = sweep.prepared
    results = load_results(prepared.output_dir, prepared.profile.protocol)
    table = sweep_table(results, sweep)
    directory = make_way(prepared.output_dir, f"report/{sweep.name}/sweep.csv").parent
    figure = tradeoff(sweep_curves(table, sweep, axes), *axes, head=table.head)
    short = table.compact("sweep-full")
    files = {
        f"{name}.{suffix}": convert(which).encode()
        for name, which in (("sweep", short), ("sweep-full", table))
        for suffix, convert in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex))
    }
    files |= {
        "tradeoff.png": to_png(figure),
        "tradeoff.svg": to_svg(figure),
    }
    for name, content in files.items():
        write_own(directory / name, content)
    return short, directory


def sweep_table(results: pd.DataFrame, sweep: Sweep) -> Table:
    """A row for each point, in the sweep's order. A record that serves two points is in both rows.

    Args:
        results: of the sweep's directory, from `load_results`.
        sweep: its points.

    Raises:
        DataError: the records cannot share a table.
    """
    parts = [results[results["key"].isin(point.keys)].assign(variant=point.label) for point in sweep.points]
    table = method_table(pd.concat(parts, ignore_index=True))
    order = [point.label for point in sweep.points]
    rows = sorted(table.rows, key=lambda row: (row.section == "reference", order.index(row.label)))
    swept = " and ".join(sweep.swept)
    title = f"Sweep over {swept}" if swept else "Sweep"
    return replace(table, title=title, head=(*table.head, COSTS), rows=tuple(rows))


def sweep_curves(table: Table, sweep: Sweep, axes: Axes) -> list[Curve]:
    """A curve along the first swept parameter for each method and setting of the others, then what is beside it."""
    rows = {row.label: row for row in table.rows}
    curves: dict[str, list[tuple[Point, Row]]] = {}
    for point in sweep.points:
        if point.label in rows:
            curves.setdefault(_curve_label(point, sweep), []).append((point, rows[point.label]))
    drawn = []
    for label, members in curves.items():
        point, row = members[0]
        kind: Kind = "reference" if row.section == "reference" else "sweep" if point.values else "method"
        places = [
            Place(_note(point, sweep), *(row.cells[metric.name] for metric in axes)) for point, row in members
        ]
        drawn.append(Curve(label, kind, tuple(places)))
    return drawn


def _curve_label(point: Point, sweep: Sweep) -> str:
    """The method, what the curve runs over, and what sets it apart from other curves."""
    method = point.label.partition(" (")[0]
    if not point.values:
        return method
    apart = ", ".join(f"{name}={point.values[name]}" for name in sweep.swept[1:])
    return f"{method} over {sweep.swept[0]}" + (f", {apart}" if apart else "")


def _note(point: Point, sweep: Sweep) -> str:
    return str(point.values[sweep.swept[0]]) if point.values else ""
