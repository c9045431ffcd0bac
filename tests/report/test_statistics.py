import math

import numpy as np
import pytest
from scipy import stats

from piva_bench.report.statistics import mean_interval


def test_equals_scipy_s_t_interval():
    values = np.random.default_rng(0).normal(3, 2, 17)
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, 16, loc=values.mean(), scale=stats.sem(values))
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize("draw", ["normal", "gamma", "share"])
@pytest.mark.parametrize("n", [8, 140])
def test_covers_the_true_mean_95_times_in_a_hundred(draw, n):
    # Metrics are roughly normal, or skewed like distances, or shares like attribute scores.
    rng = np.random.default_rng(n)
    draws = {
        "normal": (rng.normal(1, 1, (2000, n)), 1.0),
        "gamma": (rng.gamma(4, 1, (2000, n)), 4.0),
        "share": (rng.binomial(10, 0.8, (2000, n)) / 10, 0.8),
    }
    values, truth = draws[draw]
    intervals = [mean_interval(row) for row in values]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97


def test_undefined_values_are_left_out_and_counted():
    interval = mean_interval([1.0, math.nan, 3.0])
    assert (interval.mean, interval.n) == (2.0, 2)
    alone = mean_interval([5.0, math.nan])
    assert (alone.mean, alone.n) == (5.0, 1)
    assert math.isnan(alone.margin)
    nothing = mean_interval([math.nan])
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_clusters_of_equal_size_are_as_good_as_their_means():
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (9, 3)) + rng.normal(0, 2, (9, 1))
    labels = np.repeat([f"object {i}" for i in range(9)], 3)
    clustered, means = mean_interval(values.ravel(), clusters=labels), mean_interval(values.mean(axis=1))
    assert (clustered.mean, clustered.margin) == pytest.approx((means.mean, means.margin))
    assert clustered.n == 27
    assert clustered.margin > mean_interval(values.ravel()).margin


def test_a_cluster_of_its_own_for_each_value_changes_nothing_and_one_for_all_says_nothing():
    values = [1.0, math.nan, 4.0, 2.0]
    assert mean_interval(values, clusters=list("abcd")) == mean_interval(values)
    assert math.isnan(mean_interval(values, clusters=list("aaaa")).margin)


def test_clustered_intervals_cover_the_truth():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(16), 2)
    objects = rng.normal(0, 1, (2000, 16))
    draws = objects[:, labels] + rng.normal(0, 0.5, (2000, 32))
    intervals = [mean_interval(row, clusters=labels) for row in draws]
    assert 0.93 <= np.mean([i.low <= 0 <= i.high for i in intervals]) <= 0.97
