import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import coverage
from piva_bench.report.statistics_power import detectable_difference, paired_power
from piva_bench.report.statistics_strength import (
    Measured,
    Resamples,
    hypervolumes,
    interpolate,
    pareto_front,
)


def compare_at_equal_strength(first, second, clusters=None, at=None):
    return Resamples({"first": first, "second": second}, clusters, count=99).at_equal_strength(
        "first", "second", at
    )


def compare_dominated(first, second, corner):
    """Over a corner that does not vary: a third method of one setting that is worse than all."""
    flat = np.full((len(first.strength), 1), 1.0)
    measured = {"first": first, "second": second, "worst": Measured(corner[0] * flat, corner[1] * flat)}
    return Resamples(measured, count=99).dominated("first", "second")


def hypervolume(points, corner):
    return hypervolumes(points[None] - np.array(corner))[0]


POINTS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=8).map(np.array)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6, unique=True),
    st.floats(0, 1),
    st.integers(0, 100),
)
def test_interpolation_is_numpy_s_and_ends_where_the_settings_end(strengths, at, seed):
    x = np.array(strengths)
    y = np.random.default_rng(seed).normal(size=len(x))
    found = interpolate(x[None], y[None], np.array([at]))[0]
    order = np.argsort(x)
    if x.min() <= at <= x.max():
        assert found == pytest.approx(np.interp(at, x[order], y[order]), abs=1e-6)
    elif at < x.min() - 1e-6 or at > x.max() + 1e-6:
        assert math.isnan(found)


def curve(rng, n, settings, cost, offset=0.0):
    """Settings of rising strength s whose identity is -cost s, with noise that a sample keeps over settings."""
    own = rng.normal(0, 0.1, (n, 1))
    strength = np.array(settings)[None] + own + rng.normal(0, 0.05, (n, len(settings)))
    identity = offset - cost * np.array(settings)[None] + rng.normal(0, 0.1, (n, 1))
    return Measured(strength, identity + rng.normal(0, 0.05, (n, len(settings))))


def test_a_method_that_only_does_less_is_no_better():
    rng = np.random.default_rng(0)
    sweep, timid = curve(rng, 200, [0.2, 0.5, 0.8], 1.0), curve(rng, 200, [0.3], 1.0)
    assert timid.identity.mean() > sweep.identity[:, 1].mean() + 0.1
    found = compare_at_equal_strength(sweep, timid)
    assert found.strength == pytest.approx(timid.strength.mean())
    assert found.low < 0 < found.high
    better = compare_at_equal_strength(curve(rng, 200, [0.2, 0.5, 0.8], 1.0, offset=0.1), timid)
    assert better.low > 0


def test_the_interval_covers_95_in_100_simulated_benchmarks():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(500):
        # At strength 0.5 the first has lost 0.5, the second 0.35.
        found = compare_at_equal_strength(
            curve(rng, 60, [0.2, 0.7], 1.0), curve(rng, 60, [0.1, 0.9], 0.7), at=0.5
        )
        held += found.low <= -0.15 <= found.high
    assert 465 <= held <= 485  # 93 to 97 of 100


def test_what_a_method_does_not_reach_is_not_made_up():
    rng = np.random.default_rng(0)
    weak, strong = curve(rng, 50, [0.1, 0.2], 1.0), curve(rng, 50, [0.8, 0.9], 1.0)
    found = compare_at_equal_strength(weak, strong)
    assert math.isnan(found.difference)
    assert math.isnan(found.low)
    on_the_edge = compare_at_equal_strength(weak, strong, at=float(weak.strength.mean(axis=0).max()))
    assert math.isnan(on_the_edge.low)


def test_clusters_widen_the_interval():
    rng = np.random.default_rng(0)
    one = curve(rng, 30, [0.2, 0.7], 1.0)
    two = curve(rng, 30, [0.4], 1.0)
    copies = [
        Measured(np.repeat(m.strength, 4, axis=0), np.repeat(m.identity, 4, axis=0)) for m in (one, two)
    ]
    known = compare_at_equal_strength(*copies, clusters=np.repeat(np.arange(30), 4))
    unknown = compare_at_equal_strength(*copies)
    assert known.high - known.low == pytest.approx(2 * (unknown.high - unknown.low), rel=0.15)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    front = pareto_front(points)
    for i, point in enumerate(points):
        beaten = any((other >= point).all() and (other > point).any() for other in points)
        assert front[i] == (not beaten)


@given(POINTS, st.tuples(st.floats(0, 10), st.floats(0, 10)))
def test_hypervolume_grows_with_points_and_rests_on_the_front_alone(points, more):
    whole = hypervolume(points, (0, 0))
    assert hypervolume(points[pareto_front(points)], (0, 0)) == pytest.approx(whole)
    assert hypervolume(np.vstack([points, more]), (0, 0)) >= whole - 1e-9


def test_hypervolume_of_known_shapes():
    assert hypervolume(np.array([[2.0, 3.0]]), (0, 0)) == 6
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), (0, 0)) == 6
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), (1, 1)) == 1
    assert hypervolume(np.array([[-1.0, 5.0]]), (0, 0)) == 0
    rng = np.random.default_rng(0)
    points, draws = rng.random((6, 2)), rng.random((200_000, 2))
    inside = (draws[:, None] <= points[None]).all(axis=2).any(axis=1).mean()
    assert hypervolume(points, (0, 0)) == pytest.approx(inside, abs=0.005)


def test_power_of_textbook_cases():
    # Cohen (1988), G*Power and R's power.t.test: a paired t test of 34 pairs finds d = 0.5 with power 0.8078.
    assert paired_power(0.5, 1.0, 34) == pytest.approx(0.8078, abs=2e-4)
    assert paired_power(0.0, 1.0, 20) == pytest.approx(0.05)
    large = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / math.sqrt(100_000)
    assert detectable_difference(1.0, 100_000) == pytest.approx(large, rel=1e-4)


def test_power_is_what_simulated_benchmarks_show():
    difference = detectable_difference(2.0, 25)
    draws = np.random.default_rng(0).normal(difference, 2.0, (25, 20_000))
    assert np.mean(stats.ttest_1samp(draws, 0).pvalue <= 0.05) == pytest.approx(0.8, abs=0.01)


def test_no_spread_and_no_samples_show_nothing():
    assert math.isnan(detectable_difference(0.0, 100))
    assert math.isnan(detectable_difference(1.0, 1))


def test_hypervolumes_are_the_unions_of_rectangles_over_the_corner():
    """Two settings each: the union of two rectangles over the corner."""
    first = Measured(np.array([[1.0, 3.0]] * 4), np.array([[2.0, 1.0]] * 4))
    second = Measured(np.array([[2.0]] * 4), np.array([[1.0]] * 4))
    found = compare_dominated(first, second, [0.0, 0.0])
    assert (found.first, found.second, found.difference) == (1 * 2 + 2 * 1, 2.0, 2.0)
    assert (found.low, found.high) == (2.0, 2.0)


def test_the_hypervolume_s_interval_covers_95_in_100_simulated_benchmarks():
    rng = np.random.default_rng(2)
    # True places (0.2, -0.2), (0.7, -0.7) over (0, -1): 0.2 * 0.8 + 0.5 * 0.3; and (0.1, -0.07), (0.9, -0.63).
    truth = (0.2 * 0.8 + 0.5 * 0.3) - (0.1 * 0.93 + 0.8 * 0.37)
    held = 0
    for _ in range(500):
        found = compare_dominated(
            curve(rng, 60, [0.2, 0.7], 1.0), curve(rng, 60, [0.1, 0.9], 0.7), [0.0, -1.0]
        )
        held += found.low <= truth <= found.high
    assert 465 <= held <= 485  # 93 to 97 of 100


@given(st.integers(0, 1000), st.integers(1, 7))
def test_hypervolumes_of_many_rows_are_those_of_each(seed, n):
    """Against a plain loop over the points from the strongest on, with places below the corner and NaN among them."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(5, n, 2))
    places[rng.random((5, n)) < 0.2, 0] = np.nan
    for row, found in zip(places, hypervolumes(places), strict=True):
        area = height = 0.0
        for x, y in sorted((p for p in row if not np.isnan(p).any()), key=lambda p: -p[0]):
            wide, high = max(x, 0), max(y, 0)
            area += wide * max(0.0, high - height) if wide else 0
            height = max(height, high) if wide else height
        assert found == pytest.approx(area)


def test_an_axis_on_which_less_is_better_is_turned():
    rng = np.random.default_rng(0)
    one, other = curve(rng, 20, [0.2, 0.7], 1.0), curve(rng, 20, [0.1, 0.9], 0.7)
    turned = [Measured(each.strength, -each.identity) for each in (one, other)]
    higher, lower = (Resamples({"a": a, "b": b}, count=99) for a, b in ((one, other), turned))
    assert lower.dominated("a", "b", [1, -1]) == higher.dominated("a", "b")


def test_the_headline_s_intervals_hold_as_often_as_they_say():
    """A small version of ``python -m benchmarks.coverage``: skewed losses, samples in objects, a corner of the data."""
    found = coverage.simulate(80, each=2, runs=400, resamples=99)
    assert 0.93 <= found.volume <= 0.97
    assert 0.93 <= found.strength <= 0.97
    assert found.compared == 1


def test_sweeps_are_compared_where_both_are_in_nearly_every_resample():
    rng = np.random.default_rng(3)
    one, other = curve(rng, 40, [0.1, 0.52], 1.0), curve(rng, 40, [0.48, 0.9], 1.0)
    found = compare_at_equal_strength(one, other)
    assert found.reached < 0.95
    assert math.isnan(found.low)
    wide = compare_at_equal_strength(curve(rng, 40, [0.1, 0.8], 1.0), curve(rng, 40, [0.3, 0.9], 1.0))
    assert wide.reached >= 0.95
    assert wide.low <= wide.difference <= wide.high
