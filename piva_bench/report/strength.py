"""The headline of a run: every method a curve from edit strength to identity, and each pair's difference.

A method that changes less keeps more; comparing identity alone rewards doing nothing. One function makes what stands
at the front of the report and of the gallery: a figure, and a table in which every number has its interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.curves import Curve, Kind, Place, tradeoff
from piva_bench.report.formats import MISSING, heading, markdown_escape
from piva_bench.report.plane import plane
from piva_bench.report.results import head, table_order
from piva_bench.report.statistics import mean_interval
from piva_bench.report.statistics_paired import cluster_of
from piva_bench.report.statistics_strength import Measured, Resamples, hypervolumes, pareto_front

BLENDED = {"end": ", blended at the end", "steps": ", blended in every step"}
COLUMNS = ["section", "first", "second", "strength", "first_identity", "second_identity", "difference", "low", "high",
           "reached", "first_volume", "second_volume", "volume_difference", "volume_low", "volume_high",
           "whole_volume"]  # fmt: skip
SHOWN = 15
"""Pairs that the pages show; the files have all."""


@dataclass(frozen=True)
class Headline:
    """The strength figure and its table.

    Attributes:
        strength: metric of the horizontal axis.
        identity: metric of the vertical axis.
        head: what the numbers stand on.
        curves: a curve for each method, a point where the run holds one setting of it, and the reference rows.
        pairs: a row for each pair of methods that compete, the one that dominates more first; see ``strength_pairs``.
        front: every setting's place; see ``pareto_table``.
        corner: the worst mean of any row on both axes, in the metrics' stored units.
    """

    strength: MetricInfo
    identity: MetricInfo
    head: tuple[str, ...]
    curves: tuple[Curve, ...]
    pairs: pd.DataFrame
    front: pd.DataFrame
    corner: tuple[float, float]

    @property
    def heads(self) -> tuple[str, ...]:
        """Column heads of the table."""
        return (
            "First", "Second", "Hypervolume, first − second (% of all)", f"At {heading(self.strength)}",
            f"{heading(self.identity)} there, first − second",
        )  # fmt: skip

    @property
    def how(self) -> str:
        """How to read the table, in a line."""
        corner = f"{_number(self.corner[0], self.strength)}, {_number(self.corner[1], self.identity)}"
        return (
            f"Edit strength: {heading(self.strength)}. Identity: {heading(self.identity)}. A method's settings are "
            "read as a polyline, nothing is extrapolated. Hypervolume: what a method's settings reach on both axes "
            f"together over the worst mean of any row ({corner}), in percent of what all methods reach. Identity is "
            "compared in the middle of the strengths that both curves reach; a dash where their curves share one in "
            "fewer than 95 of 100 resamples. [95 % intervals]: bootstrap over samples with all their settings "
            "(over objects where the dataset names them), not corrected for the number of pairs; bold where 0 is "
            "outside" + self._points
        )

    @property
    def _points(self) -> str:
        """A warning about methods of which the run holds a point alone."""
        names = [curve.label for curve in self.curves if curve.kind == "method"]
        if not names:
            return ""
        return (
            f". Of {', '.join(names)} there is one setting: its hypervolume is one rectangle, which a weaker edit may "
            "make larger by itself. Sweep its strength (piva-bench sweep) before you call it better"
        )

    def figure(self) -> Figure:
        """Every method's curve."""
        return tradeoff(self.curves, self.strength, self.identity, self.head)

    def rows(self) -> list[list[tuple[str, bool]]]:
        """The table's cells, and whether each is an interval that leaves 0 out."""
        found = []
        for row in self.pairs.to_dict("records"):
            unit = 100 / row["whole_volume"] if row["whole_volume"] > 0 else math.nan
            volumes = [unit * row[f"volume_{name}"] for name in ("difference", "low", "high")]
            identity = [self.identity.scale * row[name] for name in ("difference", "low", "high")]
            texts = [(row["first"], False), (row["second"], False), _interval(*volumes)]
            reached = not math.isnan(row["low"])
            texts += [
                (_number(row["strength"], self.strength) if reached else MISSING, False),
                _interval(*identity),
            ]
            found.append(texts)
        return found


def headline(results: pd.DataFrame) -> Headline | None:
    """What a run says of edit strength and identity; None where it was not scored by both, or holds no method.

    Args:
        results: from `load_results`.
    """
    axes = plane(results)
    if axes is None or not (results["section"] != "reference").any():
        return None
    strength, identity = axes
    corner = worst_corner(results, strength, identity)
    signs = _signs(strength, identity)
    return Headline(
        strength,
        identity,
        tuple(head(results)),
        tuple(method_curves(results, strength, identity)),
        strength_pairs(results, strength, identity),
        pareto_table(results, strength, identity),
        (float(signs[0] * corner[0]), float(signs[1] * corner[1])),
    )


def strength_markdown(found: Headline) -> str:
    """The table and the Pareto front as Markdown."""
    lines = ["### Identity at equal edit strength", "", markdown_escape(found.how), ""]
    lines += ["| " + " | ".join(map(markdown_escape, found.heads)) + " |", "|---|---|---:|---:|---:|"]
    for row in found.rows():
        cells = [f"**{markdown_escape(text)}**" if bold else markdown_escape(text) for text, bold in row]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "### Pareto front",
        "",
        "| Method | Strength | Identity | On the front | Hypervolume share |",
    ]
    lines += ["|---|---:|---:|---|---:|"]
    for place in found.front.to_dict("records"):
        share = MISSING if math.isnan(place["share"]) else f"{place['share']:.0%}"
        places = [_number(place[axis.name], axis) for axis in (found.strength, found.identity)]
        cells = [place["variant"], *places, "yes" if place["on_front"] else "", share]
        lines.append("| " + " | ".join(map(markdown_escape, cells)) + " |")
    return "\n".join(lines) + "\n"


def method_curves(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> list[Curve]:
    """Each competing method's settings in the order of their strength, then the reference rows."""
    done = _named(results)
    clusters = cluster_of(done)
    curves = []
    for (reference, name), part in done.groupby([done["section"] == "reference", "curve"], sort=True):
        places = []
        for _, setting in part.groupby("variant"):
            means = setting.groupby("sample_id")[[strength.name, identity.name]].mean()
            objects = list(clusters.reindex(means.index))
            intervals = [mean_interval(means[axis.name], clusters=objects) for axis in (strength, identity)]
            places.append(Place("", *intervals))
        places.sort(key=lambda place: place.strength.mean)
        varied = dict.fromkeys(
            found for v in part["variant"] for found in re.findall(r"(\w+)=", v.partition(" (")[2])
        )
        what = f" ({len(places)} settings of {', '.join(varied)})" if len(places) > 1 else ""
        kind: Kind = "reference" if reference else "sweep" if len(places) > 1 else "method"
        curves.append(Curve(f"{name}{what}", kind, tuple(places)))
    return curves


def strength_pairs(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> pd.DataFrame:
    """Each pair of methods of a section: what they dominate, and their identity where their edits are equally strong.

    Strength and identity are measured of each sample at each setting, and a resample draws samples with all of it,
    whole clusters of them. The hypervolumes are in units of both axes' stored values over `worst_corner`.

    Returns:
        section, first, second (the one of the larger hypervolume first), strength, first_identity, second_identity,
        difference (first minus second), low, high, reached (share of resamples in which both reach the strength),
        first_volume, second_volume, volume_difference, volume_low, volume_high, whole_volume (of all methods together).
    """
    done = _named(results)
    clusters, signs = cluster_of(done), _signs(strength, identity).tolist()
    settings = {str(name): sorted(part["variant"].unique()) for name, part in done.groupby("curve")}
    measured = {
        name: Measured(*(_matrix(done, axis, variants, clusters) for axis in (strength, identity)))
        for name, variants in settings.items()
    }
    resamples = Resamples(measured, list(clusters))
    whole = _whole(results, strength, identity)
    rows = []
    for section, part in done[done["section"] != "reference"].groupby("section"):
        for pair in combinations(sorted(part["curve"].unique()), 2):
            volumes = resamples.dominated(*pair, signs)
            if volumes.difference < 0:
                pair = pair[::-1]
                volumes = resamples.dominated(*pair, signs)
            found = resamples.at_equal_strength(*pair)
            rows.append([
                section, *pair, found.strength, found.first, found.second, found.difference, found.low, found.high,
                found.reached, volumes.first, volumes.second, volumes.difference, volumes.low, volumes.high, whole,
            ])  # fmt: skip
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values(
        ["first_volume", "second_volume"], ascending=False, kind="stable", ignore_index=True
    )


def worst_corner(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> list[float]:
    """The worst mean of any variant on each axis, reference rows included, turned so that more is better."""
    means = _means(results, strength, identity)
    axes = [strength.name, identity.name]
    return (
        (means[axes].to_numpy() * _signs(strength, identity)).min(axis=0).tolist()
        if len(means)
        else [0.0, 0.0]
    )


def pareto_table(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> pd.DataFrame:
    """Every competing variant's place on the plane of edit strength and identity, and who is on the front.

    ``hypervolume`` is of all settings of the row's method, ``share`` that over the hypervolume of all methods
    together. Its reference point is the worst mean of any variant of the run on each axis, reference rows included.
    """
    worst = worst_corner(results, strength, identity)
    means = _means(results, strength, identity)
    rivals = means[means["section"] != "reference"].reset_index(drop=True)
    points = rivals[[strength.name, identity.name]].to_numpy() * _signs(strength, identity)
    rivals["on_front"] = pareto_front(points)
    whole = _whole(results, strength, identity)
    volumes = {
        curve: hypervolumes(points[None, list(where)] - np.array(worst))[0]
        for curve, where in rivals.groupby("curve").indices.items()
    }
    rivals["hypervolume"] = rivals["curve"].map(volumes).astype(float)
    rivals["share"] = rivals["hypervolume"] / whole if whole > 0 else math.nan
    return rivals.drop(columns=["section", "curve"])


def _whole(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> float:
    """The hypervolume of all methods together."""
    means = _means(results, strength, identity)
    points = means.loc[means["section"] != "reference", [strength.name, identity.name]].to_numpy()
    corner = np.array(worst_corner(results, strength, identity))
    return (
        float(hypervolumes((points * _signs(strength, identity) - corner)[None])[0]) if len(points) else 0.0
    )


def _named(results: pd.DataFrame) -> pd.DataFrame:
    """The finished edits, with the name of the curve that each is of."""
    done = results[results["status"] == "ok"]
    return done.assign(curve=done["method"] + done["section"].map(BLENDED).fillna(""))


def _means(results: pd.DataFrame, strength: MetricInfo, identity: MetricInfo) -> pd.DataFrame:
    """The place of each variant: section, curve, method, variant and a column for each axis."""
    axes = [strength.name, identity.name]
    keys = ["section", "curve", "method", "variant"]
    per_sample = _named(results).groupby([*keys, "sample_id"])[axes].mean()
    means = per_sample.groupby(keys).mean().dropna().reset_index()
    order = sorted(range(len(means)), key=lambda i: table_order(means["section"][i], means["variant"][i]))
    return means.iloc[order].reset_index(drop=True)


def _matrix(
    results: pd.DataFrame, metric: MetricInfo, variants: Sequence[str], clusters: pd.Series
) -> np.ndarray:
    means = results.groupby(["sample_id", "variant"])[metric.name].mean().unstack("variant")
    return means.reindex(index=clusters.index, columns=list(variants)).to_numpy(dtype=np.float64)


def _signs(*axes: MetricInfo) -> np.ndarray:
    return np.array([-1.0 if axis.direction == "lower" else 1.0 for axis in axes])


def _interval(difference: float, low: float, high: float) -> tuple[str, bool]:
    """A difference with its interval, and whether that leaves 0 out."""
    if math.isnan(difference) or math.isnan(low):
        return MISSING, False
    digits = 1 if max(map(abs, (difference, low, high))) >= 10 else 2
    text = f"{difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return text, low > 0 or high < 0


def _number(value: float, metric: MetricInfo) -> str:
    return MISSING if math.isnan(value) else f"{value * metric.scale:.2f}"
