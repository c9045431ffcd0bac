"""Identity at equal edit strength, Pareto fronts and their hypervolume.

A method that changes less keeps more; comparing identity alone rewards doing nothing. So a method's sweep is
read as a curve from edit strength to identity, and methods are compared where their edits are equally strong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    setting are taken anew: what is read off the curves of one resample is read off the same samples. An interval is
    the symmetric bootstrap-t one (Hall 1988, "On symmetric bootstrap confidence intervals"), as for paired
    differences: losses of identity are skewed, and intervals from the spread of the resamples alone hold too seldom
    (``python -m benchmarks.coverage``).

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
        labels = (
            np.arange(samples)
            if clusters is None
            else np.unique(np.asarray(clusters), return_inverse=True)[1]
        )
        self._size = int(labels.max()) + 1
        drawn = draw_weights(np.random.default_rng(seed), self._size, count)
        self._weights = np.vstack([np.ones((1, self._size)), drawn])
        self._means = {name: _Means.of(one, labels, self._weights) for name, one in measured.items()}

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

        def read(places: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
            strengths = [each[:, 0] for each in places]
            target = _middles(strengths) if at is None else np.full(len(strengths[0]), at)
            a, b = (interpolate(each[:, 0], each[:, 1], target) for each in places)
            return target, a, b

        def difference(places: Sequence[Floats]) -> Floats:
            _, a, b = read(places)
            return a - b

        target, a, b = (
            float(values[0]) for values in read([self._means[name].places for name in (first, second)])
        )
        margin, reached = self._margin((first, second), difference, level)
        low, high = a - b - margin, a - b + margin
        return AtStrength(target, a, b, a - b, low, high, reached)

    def dominated(
        self, first: str, second: str, signs: Sequence[float] = (1, 1), level: float = LEVEL
    ) -> Dominated:
        """Compare what two methods reach together on both axes, wherever their settings lie: always defined.

        It is Zitzler's hypervolume of each method's mean places. Its corner is, on each axis, the setting that is worst
        of all that were measured, taken anew in each resample, too.

        Args:
            first: a method.
            second: another one.
            signs: -1 for an axis on which less is better.
            level: of the interval.
        """
        turn = np.asarray(signs, dtype=np.float64)[:, None]
        worst = [self._worst(axis, sign) for axis, sign in enumerate(signs)]
        names = list(dict.fromkeys([first, second, *(name for name, _ in worst)]))

        def volumes(places: Sequence[Floats]) -> list[Floats]:
            by_name = dict(zip(names, places, strict=True))
            corner = [
                sign * by_name[name][:, a, at]
                for a, (sign, (name, at)) in enumerate(zip(signs, worst, strict=True))
            ]
            over = np.stack(corner, axis=1)[:, None]
            return [
                hypervolumes((turn * by_name[name]).transpose(0, 2, 1) - over) for name in (first, second)
            ]

        def difference(places: Sequence[Floats]) -> Floats:
            a, b = volumes(places)
            return a - b

        a, b = (float(values[0]) for values in volumes([self._means[name].places for name in names]))
        margin, _ = self._margin(names, difference, level)
        return Dominated(a, b, a - b, a - b - margin, a - b + margin)

    def _worst(self, axis: int, sign: float) -> tuple[str, int]:
        """The method and the number of the setting whose mean is worst on an axis."""
        found = {
            (name, at): sign * float(value)
            for name, each in self._means.items()
            for at, value in enumerate(each.places[0, axis])
            if not math.isnan(value)
        }
        return min(found, key=found.__getitem__, default=(next(iter(self._means)), 0))

    def _margin(
        self, names: Sequence[str], statistic: Callable[[Sequence[Floats]], Floats], level: float
    ) -> tuple[float, float]:
        """Half the width of a statistic's interval, and in which share of the resamples it is defined.

        NaN where it is undefined as a whole, in too many resamples, or where there is one cluster alone. The standard
        errors are those of the statistic's linearisation, whose gradient is a difference quotient.

        Args:
            names: the methods that it is of.
            statistic: from places [rows, 2, settings] of each of them to [rows].
            level: of the interval.
        """
        own = [self._means[name] for name in names]
        places = [each.places for each in own]
        values = statistic(places)
        reached = float(np.mean(~np.isnan(values[1:])))
        if math.isnan(values[0]) or 1 - reached > OUT_OF_REACH or self._size < 2:
            return math.nan, reached
        moves = [(which, *at) for which, each in enumerate(places) for at in np.ndindex(each.shape[1:])]
        around = [
            np.tile(each, (2 * len(moves), 1, 1)).reshape(2, len(moves), *each.shape) for each in places
        ]
        steps = [1e-4 * float(np.nanstd(places[which][:, axis, at])) or 1e-9 for which, axis, at in moves]
        for number, (which, axis, at) in enumerate(moves):
            around[which][0, number, :, axis, at] += steps[number]
            around[which][1, number, :, axis, at] -= steps[number]
        found = statistic([each.reshape(-1, *each.shape[3:]) for each in around]).reshape(2, len(moves), -1)
        slopes = (found[0] - found[1]) / (2 * np.array(steps)[:, None])
        moved = np.zeros_like(self._weights)
        for slope, (which, axis, at) in zip(slopes, moves, strict=True):
            each = own[which]
            share = np.nan_to_num(slope / each.counts[:, axis, at], posinf=0.0, neginf=0.0)
            moved += share[:, None] * each.sums[None, :, axis, at]
            moved -= (share * np.nan_to_num(each.places[:, axis, at]))[:, None] * each.defined[
                None, :, axis, at
            ]
        errors = np.sqrt((self._weights * moved**2).sum(axis=1))
        off = np.abs(values[1:] - values[0])
        # A resample without any spread says nothing unless it hits the value.
        still = off <= 1e-12 * max(abs(float(values[0])), 1e-300)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where(still, 0.0, off / errors[1:])
        t = t[~np.isnan(values[1:])]
        margin = float(np.quantile(np.where(np.isnan(t), np.inf, t), level, method="higher")) * float(
            errors[0]
        )
        return (margin if math.isfinite(margin) else math.nan), reached


@dataclass(frozen=True)
class _Means:
    """A method's settings in every resample, by axis (strength, identity).

    Attributes:
        places: [rows, 2, settings] means; the first row is of the samples themselves.
        counts: [rows, 2, settings] values that were averaged.
        sums: [clusters, 2, settings] of the defined values.
        defined: [clusters, 2, settings] number of them.
    """

    places: Floats
    counts: Floats
    sums: Floats
    defined: Floats

    @classmethod
    def of(cls, measured: Measured, labels: NDArray[np.intp], weights: Floats) -> _Means:
        """The means under weights [rows, clusters] of the clusters that samples belong to."""
        values = np.stack([measured.strength, measured.identity], axis=1)
        known = ~np.isnan(values)
        sums, defined = (np.zeros((weights.shape[1], *values.shape[1:])) for _ in range(2))
        np.add.at(sums, labels, np.where(known, values, 0.0))
        np.add.at(defined, labels, known.astype(np.float64))
        counts = np.tensordot(weights, defined, axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            places = np.tensordot(weights, sums, axes=1) / counts
        return cls(places, counts, sums, defined)


def pareto_front(points: Floats) -> NDArray[np.bool_]:
    """Which points no other one beats: as high on every axis, and higher on one.

    Args:
        points: [n, axes], more is better.
    """
    as_good = np.all(points[None] >= points[:, None], axis=2)
    better = np.any(points[None] > points[:, None], axis=2)
    return np.logical_not(np.any(as_good & better, axis=1))


def hypervolumes(places: Floats) -> Floats:
    """The areas between 0 and what the places of each row reach together; more is better on both axes.

    Args:
        places: [rows, n, 2]; one that is NaN on an axis reaches nothing, one below 0 counts up to it.

    Returns:
        [rows].
    """
    above = np.where(np.isnan(places).any(axis=2, keepdims=True), 0.0, np.maximum(places, 0.0))
    order = np.argsort(-above[..., 0], axis=1, kind="stable")
    x, y = (np.take_along_axis(above[..., axis], order, axis=1) for axis in (0, 1))
    # From the strongest on: each place adds a slab as wide as it reaches, as high as it rises over those before it.
    height = np.maximum.accumulate(y, axis=1)
    return (x * np.diff(height, axis=1, prepend=0.0)).sum(axis=1)


def _middles(strengths: Sequence[Floats]) -> Floats:
    """The middle of the strengths that all curves [rows, settings] reach, by row; NaN where there is none."""
    weakest = np.max([each.min(axis=1) for each in strengths], axis=0)
    strongest = np.min([each.max(axis=1) for each in strengths], axis=0)
    return np.where(weakest <= strongest, (weakest + strongest) / 2, np.nan)
