"""Figures of a run beside its trade-off curve: per edit type, cost against quality, colours, convergence.

Colours are Okabe and Ito's; shapes, hatches and dashes tell methods apart where a printer leaves no colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.curves import COLOURS, GREY, INK, STYLE, look, plain
from piva_bench.report.formats import heading
from piva_bench.report.results import table_order, variants_in_order
from piva_bench.report.tables import Table
from piva_bench.runs.inside import Warn, ignore
from piva_bench.runs.store import Store
from piva_bench.text import printable

HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
Traces = Mapping[str, Mapping[str, np.ndarray]]
"""Variant to scalar to [edits, steps]; NaN where not measured, and after an edit has ended."""
LEGEND_COLUMNS = 3
LABEL = 26
"""Characters of a method's name that a figure shows."""


def type_bars(table: Table, metrics: Sequence[MetricInfo]) -> Figure:
    """A group of bars per edit type, a panel per metric, with 95 % intervals. Reference rows are left out.

    Args:
        table: by edit type.
        metrics: one panel each.
    """
    rows = [row for row in table.rows if row.section != "reference"]
    labels = list(
        dict.fromkeys(row.label for row in sorted(rows, key=lambda r: table_order(r.section, r.label)))
    )
    groups = sorted({row.group or "" for row in rows})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 0.9 + len(metrics) * 2.3), layout="constrained")
        panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
        width = 0.84 / max(1, len(labels))
        for axes, metric in zip(panels, metrics, strict=True):
            for place, label in enumerate(labels):
                of_label = {row.group: row.cells[metric.name] for row in rows if row.label == label}
                found = [(i, of_label[group]) for i, group in enumerate(groups) if group in of_label]
                x = [i + (place - (len(labels) - 1) / 2) * width for i, _ in found]
                means = np.array([cell.mean for _, cell in found]) * metric.scale
                margins = np.nan_to_num([cell.margin for _, cell in found]) * metric.scale
                axes.bar(
                    x, means, width, yerr=margins, color=COLOURS[place % len(COLOURS)], edgecolor="white",
                    hatch=HATCHES[place % len(HATCHES)], linewidth=0.4, label=_cut(label),
                    error_kw={"elinewidth": 0.7, "ecolor": INK},
                )  # fmt: skip
            axes.set_ylabel(_axis(metric), fontsize=8)
            axes.set_xticks(range(len(groups)), [""] * len(groups))
            _calm(axes, "y")
        panels[-1].set_xticks(range(len(groups)), [_type_name(group) for group in groups], fontsize=7)
        _legend(figure, panels[0])
        _foot(figure, table.head)
    return figure


def cost_quality(table: Table, metrics: Sequence[MetricInfo]) -> Figure:
    """Seconds per edit to the right, logarithmic if they differ much, against each metric.

    Reference rows are lines: what they score is to be seen, what they cost says nothing.

    Args:
        table: by method.
        metrics: one panel each.
    """
    rows = [row for row in table.rows if row.section != "reference" and row.seconds > 0]
    lines = [row for row in table.rows if row.section == "reference"]
    with matplotlib.rc_context(STYLE):
        entries = len(rows) + len(lines)
        figure = Figure(figsize=(6.6, 3.5 + 0.18 * -(-entries // LEGEND_COLUMNS)), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for place, row in enumerate(rows):
                cell = row.cells[metric.name]
                colour, marker = look(place)
                margin = 0.0 if math.isnan(cell.margin) else cell.margin * metric.scale
                axes.errorbar(
                    row.seconds, cell.mean * metric.scale, yerr=margin, fmt=marker, color=colour,
                    label=_cut(row.label), markersize=6, elinewidth=0.8,
                )  # fmt: skip
            for place, row in enumerate(lines):
                level = row.cells[metric.name].mean * metric.scale
                axes.axhline(
                    level, color=GREY, linestyle=DASHES[1:][place % (len(DASHES) - 1)], linewidth=1,
                    label=_cut(row.label),
                )  # fmt: skip
            seconds = [row.seconds for row in rows]
            if max(seconds) > 5 * min(seconds):
                axes.set_xscale("log")
                steps = (1, 2, 5) if max(seconds) < 50 * min(seconds) else (1,)
                axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
                axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
                axes.xaxis.set_minor_formatter(ticker.NullFormatter())
            else:
                axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
            axes.set_xlabel("seconds per edit")
            axes.set_ylabel(_axis(metric), fontsize=8)
            if metric.direction == "lower":
                axes.invert_yaxis()
            _calm(axes, "both")
        _legend(figure, panels[0])
        _foot(figure, table.head)
    return figure


def colour_drift(results: pd.DataFrame, metrics: Sequence[MetricInfo], head: Sequence[str]) -> Figure:
    """What became of the colours: a box of all samples per method (line: median, diamond: mean), 0 marked.

    Args:
        results: from `load_results`.
        metrics: those of colour, one panel each.
        head: what the numbers stand on.
    """
    done = results[results["status"] == "ok"]
    variants = [variant for _, variant in variants_in_order(done)][::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 0.9 + 0.32 * len(variants)), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            values = [done.loc[done["variant"] == v, metric.name].dropna() * metric.scale for v in variants]
            axes.boxplot(
                values, orientation="horizontal", widths=0.6, showmeans=True, whis=(5, 95), showfliers=False,
                medianprops={"color": COLOURS[1], "linewidth": 1.4}, boxprops={"linewidth": 0.8},
                meanprops={"marker": "D", "markersize": 3.5, "markerfacecolor": INK, "markeredgecolor": INK},
            )  # fmt: skip
            axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
            axes.set_xlabel(_axis(metric), fontsize=8)
            _calm(axes, "x")
        panels[0].set_yticks(range(1, len(variants) + 1), [_cut(v) for v in variants], fontsize=8)
        _foot(figure, [*head, "boxes: quartiles of the samples; whiskers: 5 to 95 %"])
    return figure


def convergence(traces: Traces, head: Sequence[str]) -> Figure:
    """Every scalar of the optimisation over its steps: mean over edits, and the middle half of them as a band.

    Args:
        traces: for each variant, for each scalar, [edits, steps]; NaN where not measured, and after an edit has ended.
        head: what the numbers stand on.
    """
    names = list(dict.fromkeys(name for of_variant in traces.values() for name in of_variant))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 0.9 + 2.0 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
        drawn: dict[str, Line2D] = {}
        for axes, name in zip(panels, names, strict=True):
            for place, (variant, scalars) in enumerate(traces.items()):
                if name not in scalars:
                    continue
                values, colour = scalars[name], COLOURS[place % len(COLOURS)]
                measured = ~np.isnan(values).all(axis=0)
                steps, values = np.flatnonzero(measured) + 1, values[:, measured]
                low, high = np.nanquantile(values, [0.25, 0.75], axis=0)
                (line,) = axes.plot(
                    steps, np.nanmean(values, axis=0), color=colour, linestyle=DASHES[place % len(DASHES)],
                    linewidth=1.3, label=_cut(variant), marker="" if measured.all() else ".",
                )  # fmt: skip
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
                drawn.setdefault(_cut(variant), line)
            axes.set_ylabel(plain(name.replace("_", " ")))
            _calm(axes, "both")
        panels[-1].set_xlabel("step")
        figure.legend(
            list(drawn.values()),
            list(drawn),
            loc="outside upper left",
            ncols=LEGEND_COLUMNS,
            frameon=False,
            fontsize=8,
        )
        _foot(figure, [*head, "lines: means over edits; bands: the middle half of them"])
    return figure


def load_traces(
    output_dir: Path, results: pd.DataFrame, warn: Warn = ignore
) -> dict[str, dict[str, np.ndarray]]:
    """The stored traces of a run's finished edits: variant to scalar to [edits, steps], padded with NaN.

    Variants without traces and files that are torn are left out; ``warn`` is told about the latter.
    """
    store = Store(output_dir, warn)
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    done = results[results["status"] == "ok"]
    for key, variant in done.sort_values("variant")[["key", "variant"]].itertuples(index=False):
        for name, values in store.load_trace(key).items():
            found.setdefault(variant, {}).setdefault(printable(name), []).append(
                np.array(values, dtype=np.float64)
            )
    return {
        variant: {name: _padded(rows) for name, rows in scalars.items() if any(map(len, rows))}
        for variant, scalars in found.items()
    }


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows))), np.nan)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return padded


def _axis(metric: MetricInfo) -> str:
    return f"{heading(metric)} ({metric.unit})" if metric.unit else heading(metric)


def _cut(label: str) -> str:
    """Both ends of a name: at the second is what sets a setting apart."""
    return plain(label if len(label) <= LABEL else f"{label[: LABEL // 2 - 1]}…{label[-LABEL // 2 :]}")


def _type_name(group: str) -> str:
    number, _, words = group.partition("_")
    text = words if number.isdecimal() else group
    return plain(text.replace("change_attribute_", "").replace("change_", "").replace("_", "\n"))


def _calm(axes: Axes, grid: str) -> None:
    axes.grid(visible=True, axis=grid, linewidth=0.4, color="#dddddd")  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)


def _foot(figure: Figure, lines: Sequence[str]) -> None:
    figure.supxlabel(plain("\n".join(lines)), x=0.01, ha="left", fontsize=5.5, color=GREY)
