"""Drift: what becomes of an edit when a method goes on, from settings that differ in their number of steps alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.curves import COLOURS, GREY, MARKERS, STYLE, plain
from piva_bench.report.formats import cell, heading, markdown_escape
from piva_bench.report.results import metrics_of
from piva_bench.report.statistics import Interval, mean_interval
from piva_bench.report.statistics_paired import cluster_of

FEWEST = 3
"""Numbers of steps that make a curve."""
MOST_METRICS = 8


@dataclass(frozen=True)
class Course:
    """A setting at several numbers of steps.

    Attributes:
        label: the setting, without its number of steps.
        steps: ascending.
        values: by metric, an interval for each number of steps.
    """

    label: str
    steps: tuple[int, ...]
    values: dict[str, tuple[Interval, ...]]


def drift_metrics(results: pd.DataFrame) -> list[MetricInfo]:
    """What drift shows in: the protocol's headline metrics and those of colour, as far as they are defined."""
    found = [metric for metric in metrics_of(results) if results[metric.name].notna().any()]
    return [metric for metric in found if metric.headline or metric.group == "colour"][:MOST_METRICS]


def courses(results: pd.DataFrame) -> list[Course]:
    """Settings that the run holds at ``FEWEST`` numbers of steps or more. Empty where it holds none.

    A number of steps counts samples that are there at all of them, so that a curve is of the same samples everywhere.
    """
    done = results[(results["status"] == "ok") & (results["section"] != "reference")].copy()
    if done.empty:
        return []
    done["steps"] = [_steps(params) for params in done["params"]]
    done["label"] = [_label(variant) for variant in done["variant"]]
    done["setting"] = [_without_steps(params) for params in done["params"]]
    metrics, clusters = drift_metrics(results), cluster_of(results)
    found = []
    for (_, label, _), part in done.dropna(subset=["steps"]).groupby(
        ["method", "label", "setting"], sort=True
    ):
        numbers = sorted({int(number) for number in part["steps"]})
        if len(numbers) < FEWEST:
            continue
        means = part.groupby(["sample_id", "steps"])[[metric.name for metric in metrics]].mean()
        counts = means.groupby("sample_id").size()
        everywhere = counts.index[counts == len(numbers)]
        values = {
            metric.name: tuple(
                mean_interval(
                    means[metric.name].xs(number, level="steps").reindex(everywhere),
                    clusters=list(clusters.reindex(everywhere)),
                )
                for number in numbers
            )
            for metric in metrics
        }
        found.append(Course(str(label), tuple(numbers), values))
    return found


def drift(courses: Sequence[Course], metrics: Sequence[MetricInfo], head: Sequence[str]) -> Figure:
    """A panel for each metric: its mean over the number of steps, with 95 % intervals as bands.

    Args:
        courses: what to draw.
        metrics: which; better is up.
        head: what the numbers stand on.
    """
    columns = 2
    rows = -(-len(metrics) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 0.9 + 0.2 * len(courses) + 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for axes, metric in zip(panels, metrics, strict=False):
            for place, course in enumerate(courses):
                colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
                mean = np.array([one.mean for one in course.values[metric.name]]) * metric.scale
                margin = np.nan_to_num([one.margin for one in course.values[metric.name]]) * metric.scale
                axes.plot(course.steps, mean, color=colour, marker=marker, markersize=3.5, linewidth=1.2,
                          label=plain(course.label))  # fmt: skip
                axes.fill_between(
                    course.steps, mean - margin, mean + margin, color=colour, alpha=0.13, linewidth=0
                )
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(ticker.NullFormatter())
            axes.set_ylabel(f"{heading(metric)}", fontsize=8)
            if metric.direction == "lower":
                axes.invert_yaxis()
            axes.grid(visible=True, linewidth=0.4, color="#dddddd")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
        for axes in panels[len(metrics) :]:
            axes.set_visible(False)
        for axes in panels[max(0, len(metrics) - columns) : len(metrics)]:
            axes.set_xlabel("steps")
            axes.tick_params(labelbottom=True)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
        foot = [*head, "means over samples; bands: 95 % intervals; better is up"]
        figure.supxlabel(plain("\n".join(foot)), x=0.01, ha="left", fontsize=5.5, color=GREY)
    return figure


def drift_frame(courses: Sequence[Course]) -> pd.DataFrame:
    """The curves as numbers: setting, steps, metric, mean, low, high, samples."""
    rows = [
        {"setting": course.label, "steps": steps, "metric": name, "mean": one.mean, "low": one.low, "high": one.high,
         "samples": one.n}
        for course in courses
        for name, intervals in course.values.items()
        for steps, one in zip(course.steps, intervals, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["setting", "steps", "metric", "mean", "low", "high", "samples"])


def drift_markdown(courses: Sequence[Course], metrics: Sequence[MetricInfo]) -> str:
    """The curves as a Markdown table."""
    lines = ["### Drift", "", "The same samples at every number of steps; mean ± 95 % interval.", ""]
    lines += [
        "| Setting | Steps | " + " | ".join(markdown_escape(heading(metric)) for metric in metrics) + " |"
    ]
    lines += ["|---|---:|" + "---:|" * len(metrics)]
    for course in courses:
        for place, steps in enumerate(course.steps):
            intervals = [(course.values[metric.name][place], metric) for metric in metrics]
            most = max(interval.n for interval, _ in intervals)
            cells = [cell(interval, metric, most) for interval, metric in intervals]
            lines.append(f"| {markdown_escape(course.label)} | {steps} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _steps(params: str) -> float:
    found = re.search(r"(?:^|, )steps=(\d+)(?:,|$)", params)
    return float(found[1]) if found else np.nan


def _without_steps(params: str) -> str:
    return re.sub(r"(^|, )steps=\d+(?=,|$)", "", params)


def _label(variant: str) -> str:
    """A variant's name without its number of steps."""
    name, bracket, details = variant.partition(" (")
    kept = [each for each in details.removesuffix(")").split(", ") if not each.startswith("steps=")]
    return f"{name} ({', '.join(kept)})" if bracket and any(kept) else name
