"""Identity at equal edit strength, Pareto fronts and their hypervolume.

A method that changes less keeps more; comparing identity alone rewards doing nothing. So a method's sweep is
read as a curve from edit strength to identity, and methods are compared where their edits are equally strong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from piva_bench.report.statistics import LEVEL
from piva_bench.report.statistics_paired import RESAMPLES, draw_weights

Floats = NDArray[np.float64]
OUT_OF_REACH = 0.05
"""Share of resamples that may miss the strength before an interval is withheld."""


@dataclass(frozen=True)
class Measured:
    """Per-sample values of a method at each of its settings.

    Attributes:
        strength: [n, settings]; NaN where undefined.
        identity: [n, settings].
    """

    strength: Floats
    identity: Floats


@dataclass(frozen=True)
class AtStrength:
    """Two methods' identity at one edit strength.

    Attributes:
        strength: where they are compared.
        first: identity of the first there; NaN if its settings do not reach that far.
        second: identity of the second there.
        difference: first minus second.
        low: lower end of the difference's interval; NaN where too many resamples miss the strength.
        high: upper end.
        reached: share of resamples in which both methods reach the strength.
    """

    strength: float
    first: float
    second: float
    difference: float
    low: float
    high: float
    reached: float


def interpolate(strength: Floats, identity: Floats, at: Floats) -> Floats:
    """Identity at a strength on the polyline through each row's settings, in the order of their strength.

    Nothing is extrapolated: outside of a row's settings the value is NaN.

    Args:
        strength: [rows, settings].
        identity: [rows, settings].
        at: [rows].
    """
    order = np.argsort(strength, axis=1)
    x, y = np.take_along_axis(strength, order, axis=1), np.take_along_axis(identity, order, axis=1)
    tolerance = 1e-9 * np.maximum(np.abs(at), 1e-300)
    inside = (at >= x[:, 0] - tolerance) & (at <= x[:, -1] + tolerance)
    if x.shape[1] == 1:
        return np.where(inside, y[:, 0], np.nan)
    right = np.clip((x < at[:, None]).sum(axis=1), 1, x.shape[1] - 1)[:, None]
    x0, x1 = np.take_along_axis(x, right - 1, axis=1)[:, 0], np.take_along_axis(x, right, axis=1)[:, 0]
    y0, y1 = np.take_along_axis(y, right - 1, axis=1)[:, 0], np.take_along_axis(y, right, axis=1)[:, 0]
    width = np.where(x1 > x0, x1 - x0, 1.0)
    share = np.clip(np.where(x1 > x0, (at - x0) / width, 1.0), 0.0, 1.0)
    return np.where(inside, y0 + share * (y1 - y0), np.nan)


@dataclass(frozen=True)
class Dominated:
    """The hypervolumes that two methods' settings dominate together, on the plane of strength and identity.

    Attributes:
        first: of the first.
        second: of the second.
        difference: first minus second.
        low: lower end of the difference's interval.
        high: upper end.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float


class Resamples:
    """The settings of several methods in resamples of the same samples.

    Whole clusters of samples are drawn, each with all that was measured of it at every setting, and the means of every
    setting are taken anew: what is read off the curves of one resample is read off the same samples. An interval
    is Student's t times the spread of what the resamples give, which covers better at some dozen samples than their
    percentiles do (``python -m benchmarks.coverage``).

    Args:
        measured: by method; of the same samples, in the same order.
        clusters: for each sample the group it belongs to.
        seed: of the resampling.
        count: how many resamples.
    """

    def __init__(
        self,
        measured: Mapping[str, Measured],
        clusters: Sequence[object] | None = None,
        seed: int = 0,
        count: int = RESAMPLES,
    ) -> None:
        samples = len(next(iter(measured.values())).strength)
        weights, self._size = _weights(samples, clusters, seed, count)
        self._curves = {
            name: (_means(weights, one.strength), _means(weights, one.identity))
            for name, one in measured.items()
        }

    def at_equal_strength(
        self, first: str, second: str, at: float | None = None, level: float = LEVEL
    ) -> AtStrength:
        """Compare two methods' identity where their edits are equally strong.

        Args:
            first: usually a sweep.
            second: what it is compared with.
            at: the strength; by default the middle of what both curves reach, taken anew in each resample, as
                samples that are easy to edit move all curves together. Of a single setting it is its own strength.
            level: of the interval.
        """
        curves = [self._curves[name] for name in (first, second)]
        strengths = [strength for strength, _ in curves]
        target = _middles(strengths) if at is None else np.full(len(strengths[0]), at)
        a, b = (interpolate(x, y, target) for x, y in curves)
        difference = a - b
        resampled = difference[1:][~np.isnan(difference[1:])]
        reached = len(resampled) / (len(difference) - 1)
        low = high = math.nan
        if 1 - reached <= OUT_OF_REACH and not math.isnan(difference[0]):
            margin = self._margin(resampled, level)
            low, high = float(difference[0]) - margin, float(difference[0]) + margin
        return AtStrength(
            float(target[0]), float(a[0]), float(b[0]), float(difference[0]), low, high, reached
        )

    def dominated(
        self,
        first: str,
        second: str,
        reference: Sequence[float],
        signs: Sequence[float] = (1, 1),
        level: float = LEVEL,
    ) -> Dominated:
        """Compare what two methods reach together on both axes, wherever their settings lie: always defined.

        It is Zitzler's hypervolume of each method's mean places.

        Args:
            first: a method.
            second: another one.
            reference: the corner that is worst on both axes, more being better; the same in all resamples.
            signs: -1 for an axis on which less is better.
            level: of the interval.
        """
        volumes = [
            hypervolumes(np.stack([signs[0] * x, signs[1] * y], axis=2), reference)
            for x, y in (self._curves[first], self._curves[second])
        ]
        difference = volumes[0] - volumes[1]
        margin = self._margin(difference[1:], level) if self._size > 1 else math.nan
        middle = float(difference[0])
        return Dominated(float(volumes[0][0]), float(volumes[1][0]), middle, middle - margin, middle + margin)

    def _margin(self, resampled: Floats, level: float) -> float:
        """Half the width of an interval from its resamples: Student's t times their spread."""
        # The weights' variance is smaller than the sample's by (size - 1) / size.
        error = float(resampled.std(ddof=1)) * math.sqrt(self._size / max(self._size - 1, 1))
        return float(stats.t.ppf((1 + level) / 2, max(self._size - 1, 1))) * error


def pareto_front(points: Floats) -> NDArray[np.bool_]:
    """Which points no other one beats: as high on every axis, and higher on one.

    Args:
        points: [n, axes], more is better.
    """
    as_good = np.all(points[None] >= points[:, None], axis=2)
    better = np.any(points[None] > points[:, None], axis=2)
    return np.logical_not(np.any(as_good & better, axis=1))


def hypervolumes(places: Floats, reference: Sequence[float]) -> Floats:
    """The areas between a reference point and what the places of each row reach together; more is better on both axes.

    Args:
        places: [rows, n, 2]; one that is NaN on an axis reaches nothing.
        reference: the corner that is worst on both axes; places beyond it count up to it.

    Returns:
        [rows].
    """
    above = np.maximum(np.asarray(places, dtype=np.float64) - np.asarray(reference), 0.0)
    above = np.where(np.isnan(above).any(axis=2, keepdims=True), 0.0, above)
    order = np.argsort(-above[..., 0], axis=1, kind="stable")
    x, y = (np.take_along_axis(above[..., axis], order, axis=1) for axis in (0, 1))
    # From the strongest on: each place adds a slab as wide as it reaches, as high as it rises over those before it.
    height = np.maximum.accumulate(y, axis=1)
    return (x * np.diff(height, axis=1, prepend=0.0)).sum(axis=1)


def _weights(n: int, clusters: Sequence[object] | None, seed: int, count: int) -> tuple[Floats, int]:
    """Weights [1 + count, n] of the samples, the first all 1, and the number of clusters drawn."""
    labels = np.arange(n) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    size = int(labels.max()) + 1
    drawn = draw_weights(np.random.default_rng(seed), size, count)[:, labels]
    return np.vstack([np.ones((1, n)), drawn]), size


def _middles(strengths: Sequence[Floats]) -> Floats:
    """The middle of the strengths that all curves [rows, settings] reach, by row; NaN where there is none."""
    weakest = np.max([each.min(axis=1) for each in strengths], axis=0)
    strongest = np.min([each.max(axis=1) for each in strengths], axis=0)
    return np.where(weakest <= strongest, (weakest + strongest) / 2, np.nan)


def _means(weights: Floats, values: Floats) -> Floats:
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ np.where(defined, values, 0.0)) / (weights @ defined.astype(np.float64))
