"""Curves: edit strength against identity, with 95 % intervals, to be read in print and by the colour-blind."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.formats import heading
from piva_bench.report.statistics import Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the common kinds of colour blindness tell apart; shapes differ as well."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SPOTS = (
    (5, 4),
    (5, -10),
    (-5, 4),
    (-5, -10),
    (0, 8),
    (0, -14),
    (8, 14),
    (-8, 14),
    (8, -20),
    (-8, -20),
    (0, 20),
    (0, -26),
)
"""Where a note may stand beside its place, in points: the first that is free."""
GREY, INK = "#7a7a7a", "#1a1a1a"
STYLE: Any = {
    "font.size": 9,
    "svg.hashsalt": "piva-bench",
    "svg.fonttype": "none",
    "axes.unicode_minus": True,
}


Kind = Literal["sweep", "method", "reference"]


@dataclass(frozen=True)
class Place:
    """A setting on the plane of two metrics.

    Attributes:
        note: written beside it; may be empty.
        strength: its mean edit strength, in the metric's stored unit.
        identity: its mean identity.
    """

    note: str
    strength: Interval
    identity: Interval


@dataclass(frozen=True)
class Curve:
    """Settings in the order of a parameter, or a single one.

    Attributes:
        label: for the legend.
        kind: "sweep" gets a line and a band, "reference" is drawn in grey.
        places: those with no mean on either axis are left out.
    """

    label: str
    kind: Kind
    places: tuple[Place, ...]


def tradeoff(
    curves: Sequence[Curve], strength: MetricInfo, identity: MetricInfo, head: Sequence[str] = ()
) -> Figure:
    """Edit strength to the right, identity upwards, each axis turned so that better is right and up.

    Args:
        curves: what to draw.
        strength: metric of the horizontal axis.
        identity: metric of the vertical axis.
        head: lines below the plot; what the numbers stand on.
    """
    with matplotlib.rc_context(STYLE):
        size = (6.6, 4.8 + 0.14 * len(head) + 0.18 * -(-len(curves) // 2))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        coloured = grey = 0
        notes: list[Annotation] = []
        for curve in curves:
            if curve.kind == "reference":
                colour, marker, grey = GREY, MARKERS[::-1][grey % len(MARKERS)], grey + 1
            else:
                colour, marker = look(coloured)
                coloured += 1
            notes += _draw(axes, curve, strength, identity, colour, marker)
        axes.set_xlabel(f"edit strength: {_axis(strength)}")
        axes.set_ylabel(f"identity: {_axis(identity)}")
        if strength.direction == "lower":
            axes.invert_xaxis()
        if identity.direction == "lower":
            axes.invert_yaxis()
        axes.grid(visible=True, linewidth=0.4, color="#dddddd")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.annotate("better", (1, 1), xycoords="axes fraction", ha="right", va="top", color=GREY, style="italic",
                      xytext=(0, 12), textcoords="offset points", annotation_clip=False)  # fmt: skip
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            # Above the plot: within it, it would hide what it explains.
            figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
        if head:
            figure.supxlabel(
                plain("\n".join([*head, "means over samples; bands and bars: 95 % intervals"])),
                x=0.01, ha="left", fontsize=5.5, color=GREY,
            )  # fmt: skip
        _keep_apart(figure, axes, notes)
    return figure


def look(place: int) -> tuple[str, str]:
    """Colour and marker of the method at a place; 49 differ."""
    return COLOURS[place % len(COLOURS)], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]


def plain(text: str) -> str:
    """Text that a figure shows as it is: a dollar would begin a formula, a leading underscore hide a legend's entry."""
    return ("\u200c" if text.startswith("_") else "") + text.replace("$", r"\$")


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file, 200 dots an inch."""
    return _save(figure, "png", dpi=200, metadata={"Software": None})


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file with text as text; equal figures give equal files."""
    return _save(figure, "svg", metadata={"Date": None})


def _save(figure: Figure, form: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")  # shown as a box
        figure.savefig(buffer, format=form, **more)
    return buffer.getvalue()


def _axis(metric: MetricInfo) -> str:
    return f"{heading(metric)} ({metric.unit})" if metric.unit else heading(metric)


def _draw(
    axes: Axes, curve: Curve, strength: MetricInfo, identity: MetricInfo, colour: str, marker: str
) -> list[Annotation]:
    """Draws a curve; the notes beside its places."""
    places = [
        place
        for place in curve.places
        if not math.isnan(place.strength.mean) and not math.isnan(place.identity.mean)
    ]
    if not places:
        return []
    x, x_margin = _scaled([place.strength for place in places], strength.scale)
    y, y_margin = _scaled([place.identity for place in places], identity.scale)
    line = "-" if curve.kind == "sweep" else "none"
    hollow: Any = {"markerfacecolor": "white"} if curve.kind == "reference" else {}
    axes.plot(x, y, marker=marker, linestyle=line, color=colour, label=plain(curve.label), zorder=3, markersize=5,
              linewidth=1.4, **hollow)  # fmt: skip
    if curve.kind == "sweep" and len(places) > 1:
        axes.fill_between(x, y - y_margin, y + y_margin, color=colour, alpha=0.18, linewidth=0)
        y_margin = np.zeros_like(y_margin)
    axes.errorbar(x, y, xerr=x_margin, yerr=y_margin, fmt="none", ecolor=colour, elinewidth=0.7, alpha=0.7)
    return [
        axes.annotate(
            plain(place.note), (px, py), xytext=SPOTS[0], textcoords="offset points", fontsize=7, color=INK
        )
        for place, px, py in zip(places, x, y, strict=True)
        if place.note
    ]


def _keep_apart(figure: Figure, axes: Axes, notes: Sequence[Annotation]) -> None:
    """Moves each note to the first spot around its place where it covers no marker and no note before it."""
    for note in notes:
        note.set_in_layout(False)
    figure.draw_without_rendering()
    markers = np.vstack([axes.transData.transform(note.xy) for note in notes]) if notes else np.empty((0, 2))
    half = 4 * figure.dpi / 72
    taken: list[Bbox] = [Bbox([at - half, at + half]) for at in markers]
    for note in notes:
        for spot in SPOTS:
            note.set_position(spot)
            note.set_horizontalalignment("right" if spot[0] < 0 else "left" if spot[0] > 0 else "center")
            box = note.get_window_extent()
            if not box.count_overlaps(taken):
                break
        taken.append(box)


def _scaled(intervals: Sequence[Interval], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Means and margins at the table's scale; a margin that is not known is drawn as none."""
    means = np.array([interval.mean for interval in intervals]) * scale
    margins = np.array([0.0 if math.isnan(one.margin) else one.margin for one in intervals]) * scale
    return means, margins
