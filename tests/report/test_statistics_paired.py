import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from piva_bench.report import statistics_paired
from piva_bench.report.results import load_results
from piva_bench.report.statistics_paired import cluster_of, compare, compare_all, holm, paired_differences
from tests.report.runs import make_run


def coverage(draw, truth, clusters=None, runs=1000):
    """Share of intervals that hold the truth; each column is one simulated benchmark.

    All share the resampling's draws, which is neither here nor there for the coverage.
    """
    found = compare(draw(runs), clusters)
    return np.mean([one.low <= truth <= one.high for one in found])


SHAPES = {
    "normal": (lambda rng, size: rng.normal(0.3, 1, size), 0.3),
    "skewed": (lambda rng, size: rng.gamma(2, 1, size) - 1, 1.0),
    "tied": (lambda rng, size: rng.choice([-0.5, 0.0, 0.0, 0.5], size, p=[0.1, 0.3, 0.3, 0.3]), 0.1),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [24, 140])
def test_intervals_of_1000_simulated_benchmarks_cover_95_in_100(shape, n):
    draw, truth = SHAPES[shape]
    rng = np.random.default_rng(n)
    assert 0.93 <= coverage(lambda runs: draw(rng, (n, runs)), truth) <= 0.97


@pytest.mark.parametrize("objects", [16, 40])
def test_intervals_of_clustered_benchmarks_cover_only_if_the_clusters_are_known(objects):
    rng = np.random.default_rng(objects)
    clusters = np.repeat(np.arange(objects), rng.integers(2, 7, objects))

    def draw(runs):
        return rng.normal(0.5, 1, (objects, runs))[clusters] + rng.normal(0, 0.5, (len(clusters), runs))

    assert 0.93 <= coverage(draw, 0.5, clusters) <= 0.97
    assert coverage(draw, 0.5) < 0.85


def test_equals_scipy_s_bootstrap_where_both_are_good():
    values = np.random.default_rng(0).normal(1, 2, 400)
    (found,) = compare(values[:, None])
    reference = stats.bootstrap((values,), np.mean, n_resamples=4999, rng=np.random.default_rng(1))
    low, high = reference.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)
    assert found.spread == pytest.approx(values.std(ddof=1))


@pytest.mark.parametrize("n", [5, 9, 13])
def test_the_exact_test_equals_scipy_s(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.4, 1, n), rng.normal(0, 1, n)
    (found,) = compare((a - b)[:, None])
    reference = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples", vectorized=False
    )
    assert found.p == pytest.approx(reference.pvalue)


def test_the_random_test_is_near_scipy_s():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 60), rng.normal(0, 1, 60)
    (found,) = compare((a - b)[:, None])
    reference = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x, axis) - np.mean(y, axis), permutation_type="samples",
        vectorized=True, n_resamples=9999, rng=rng,
    )  # fmt: skip
    assert found.p == pytest.approx(reference.pvalue, abs=0.01)


def test_the_test_finds_nothing_where_there_is_nothing_five_times_in_a_hundred():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(30), 4)
    noise = rng.normal(0, 1, (30, 2000))[clusters] + rng.normal(0, 1, (120, 2000))
    share = np.mean([one.p <= 0.05 for one in compare(noise, clusters)])
    assert 0.035 <= share <= 0.065


def test_undefined_pairs_are_left_out():
    values = np.array([[1.0, math.nan], [2.0, 5.0], [3.0, math.nan], [math.nan, math.nan]])
    first, second = compare(values)
    assert (first.mean, first.n) == (2.0, 3)
    assert (second.mean, second.n) == (5.0, 1)
    assert math.isnan(second.margin)
    assert math.isnan(second.p)
    assert compare(np.zeros((0, 2)))[0].n == 0


def test_differences_that_all_agree_have_no_width():
    (found,) = compare(np.full((20, 1), 0.25))
    assert (found.mean, found.margin) == (0.25, 0.0)
    assert found.p < 0.001


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12))
def test_holm_s_correction(p):
    corrected = holm(p)
    known = [value for value in p if not math.isnan(value)]
    for raw, new in zip(p, corrected, strict=True):
        assert math.isnan(new) if math.isnan(raw) else raw <= new <= 1
    # The definition, written out: rejected at alpha if all smaller ones are, each at alpha / (m - rank).
    for alpha in (0.01, 0.05, 0.2):
        rejected, count = set(), len(known)
        for rank, value in enumerate(sorted(known)):
            if value * (count - rank) > alpha:
                break
            rejected.add(value)
        assert {raw for raw, new in zip(p, corrected, strict=True) if new <= alpha} == rejected


def test_holm_s_own_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_pairs_are_of_the_same_sample_and_seed(samples, tmp_path):
    methods = {"piva": 20.0, "dds": 18.0}
    results = pd.concat(
        load_results(make_run(tmp_path / str(seed), samples, methods, seed=seed)) for seed in (0, 1)
    )
    results.loc[(results["seed"] == 1) & (results["method"] == "piva"), "psnr"] += 2
    lost = (results["seed"] == 1) & (results["sample_id"] == "000000000000") & (results["method"] == "dds")
    results.loc[lost, "status"] = "failed"
    differences = paired_differences(results, "psnr", "piva", "dds")
    assert differences.pop("000000000000") == 2.0
    assert set(differences) == {3.0}


def test_a_run_s_comparisons(run, monkeypatch):
    monkeypatch.setattr(statistics_paired, "RESAMPLES", 199)
    results = load_results(run)
    frame = compare_all(results, ["psnr", "psnr_outside"])
    # identity is a reference row: one pair is left.
    assert list(zip(frame["first"], frame["second"], strict=True)) == [("dds", "piva")] * 2
    assert list(frame["difference"]) == [-2.0, -2.0]
    assert list(frame["samples"]) == [8, 6]
    assert (frame["p_holm"] == frame["p"]).all()
    assert compare_all(results[results["method"] == "piva"], ["psnr"]).empty


def test_all_pairs_are_compared_as_each_would_be_alone(monkeypatch):
    monkeypatch.setattr(statistics_paired, "RESAMPLES", 199)
    rng = np.random.default_rng(5)
    rows = [
        {"variant": v, "sample_id": f"s{i}", "seed": seed, "section": "method", "tag_object": f"o{i // 2}",
         "status": "failed" if rng.random() < 0.1 else "ok",
         "psnr": math.nan if rng.random() < 0.1 else rng.normal(), "lpips": rng.normal()}
        for v in "abcd" for i in range(20) for seed in (0, 1)
    ]  # fmt: skip
    results = pd.DataFrame(rows)
    clusters = cluster_of(results)
    frame = compare_all(results, ["psnr", "lpips"])
    assert len(frame) == 2 * 6
    for row in frame.to_dict("records"):
        alone = paired_differences(results, row["metric"], row["first"], row["second"])
        (one,) = compare(alone.reindex(clusters.index).to_numpy()[:, None], list(clusters))
        assert (row["samples"], row["clusters"]) == (one.n, one.clusters)
        found = [row[name] for name in ("difference", "low", "high", "p", "spread")]
        assert found == pytest.approx([one.mean, one.low, one.high, one.p, one.spread])
    monkeypatch.setattr(statistics_paired, "PAIRS", 4)
    pd.testing.assert_frame_equal(compare_all(results, ["psnr", "lpips"]), frame)


def test_samples_of_one_object_are_one_cluster(run):
    results = load_results(run)
    assert cluster_of(results).nunique() == 8
    results["tag_object"] = results["sample_id"].str[-1].astype(int) // 2
    assert cluster_of(results).nunique() == 4
