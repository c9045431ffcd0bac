"""Paired comparisons of methods on the same samples and seeds, with clusters of samples that belong together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from piva_bench.report.statistics import LEVEL

RESAMPLES, FLIPS = 1999, 9999
PAIRS = 1000
"""Pairs that are compared at once; of more, the resamples would not fit into memory."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A mean of paired differences.

    Attributes:
        mean: of the differences; NaN where there are none.
        margin: half the width of its bootstrap interval; NaN where the data cannot give one.
        p: of the sign-flip test of no difference, not corrected.
        n: pairs.
        clusters: independent groups of pairs.
        spread: standard deviation of the differences, per cluster where there are clusters.
    """

    mean: float
    margin: float
    p: float
    n: int
    clusters: int
    spread: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.margin

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.margin


def paired_differences(results: pd.DataFrame, metric: str, first: str, second: str) -> pd.Series:
    """First variant minus second, by sample: same sample and seed, then the mean over seeds.

    Pairs in which either is failed or undefined are left out.
    """
    values = _by_variant(results, metric)
    if first not in values or second not in values:
        return pd.Series(dtype=float)
    return (values[first] - values[second]).dropna().groupby("sample_id").mean()


def _by_variant(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric by sample and seed (rows) and variant (columns)."""
    return results[results["status"] == "ok"].pivot_table(
        index=["sample_id", "seed"], columns="variant", values=metric, aggfunc="first"
    )


def _all_differences(
    results: pd.DataFrame, metric: str, pairs: Sequence[tuple[str, str]], samples: pd.Index
) -> Floats:
    """`paired_differences` of all pairs at once, [samples, pairs]: of hundreds of settings there are many."""
    variants = sorted(results["variant"].unique())
    values = _by_variant(results, metric).reindex(columns=variants)
    place = {variant: i for i, variant in enumerate(variants)}
    firsts, seconds = ([place[pair[i]] for pair in pairs] for i in (0, 1))
    columns = values.to_numpy(dtype=np.float64)
    rows = samples.get_indexer(values.index.get_level_values("sample_id"))
    total, count = (np.zeros((len(samples), len(pairs))) for _ in range(2))
    for row, line in zip(rows, columns, strict=True):
        difference = line[firsts] - line[seconds]
        defined = ~np.isnan(difference)
        total[row] += np.where(defined, difference, 0.0)
        count[row] += defined
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def cluster_of(results: pd.DataFrame) -> pd.Series:
    """Sample id to the group of samples it is not independent of: its tag ``object``, else the sample itself."""
    firsts = results.drop_duplicates("sample_id").set_index("sample_id")
    own = pd.Series(firsts.index, index=firsts.index)
    return firsts["tag_object"].fillna(own) if "tag_object" in firsts else own


def compare(
    differences: Floats, clusters: Sequence[object] | None = None, seed: int = 0, level: float = LEVEL
) -> list[Comparison]:
    """Means of columns of paired differences, with intervals and tests.

    The interval is the symmetric bootstrap-t (Hall 1988, "On symmetric bootstrap confidence intervals"): whole
    clusters are drawn with replacement and the mean is studentised by its cluster-robust standard error. It
    keeps its coverage where percentile and BCa intervals are too narrow, at a dozen objects or skewed distances.
    The test flips the signs of whole clusters: exactly where there are at most 13, else with 9,999 random flips.

    Args:
        differences: [n, k]; NaN where a pair is undefined.
        clusters: for each of the n rows the group it belongs to; by default each is its own.
        seed: of the resampling; equal for all columns.
        level: of the interval.
    """
    differences = np.asarray(differences, dtype=np.float64)
    labels = np.arange(len(differences)) if clusters is None else pd.factorize(np.asarray(clusters))[0]
    size = int(labels.max(initial=-1)) + 1
    if not size:
        return [Comparison(math.nan, math.nan, math.nan, 0, 0, math.nan)] * differences.shape[1]
    counts, sums = (np.zeros((size, differences.shape[1])) for _ in range(2))
    defined = ~np.isnan(differences)
    np.add.at(counts, labels, defined.astype(np.float64))
    np.add.at(sums, labels, np.where(defined, differences, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        n = counts.sum(axis=0)
        means = sums.sum(axis=0) / n
        groups = (counts > 0).sum(axis=0)
        errors = np.sqrt(((sums - means * counts) ** 2).sum(axis=0) * groups / (groups - 1)) / n
        margins = errors * _quantiles(sums, counts, means, seed, level)
    p = _flip_test(sums, seed)
    return [
        Comparison(
            float(means[i]),
            float(margins[i]) if groups[i] > 1 and np.isfinite(margins[i]) else math.nan,
            float(p[i]) if groups[i] > 1 else math.nan,
            int(n[i]),
            int(groups[i]),
            float(errors[i] * math.sqrt(groups[i])) if groups[i] > 1 else math.nan,
        )
        for i in range(differences.shape[1])
    ]


def draw_weights(rng: np.random.Generator, clusters: int, resamples: int) -> Floats:
    """How often each cluster is in each resample, [resamples, clusters]."""
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)


def _quantiles(sums: Floats, counts: Floats, means: Floats, seed: int, level: float) -> Floats:
    """The level's quantile of the resampled |t|, for each column; infinite where it cannot be told."""
    size = len(sums)
    weights = draw_weights(np.random.default_rng(seed), size, RESAMPLES)
    n = weights @ counts
    drawn = weights @ sums / n
    squares = weights @ sums**2
    variance = squares - 2 * drawn * (weights @ (sums * counts)) + drawn**2 * (weights @ counts**2)
    # A resample without any spread says nothing about the mean unless it hits it.
    variance = np.where(variance <= 1e-12 * squares, 0.0, variance)
    off = np.abs(drawn - means)
    # The same small-sample factor as in the standard error of the whole.
    t = off * n / np.sqrt(variance * size / max(size - 1, 1))
    t = np.where(off <= 1e-12 * np.abs(means), 0.0, np.where(np.isnan(t), np.inf, t))
    return np.quantile(t, level, axis=0, method="higher")


def _flip_test(sums: Floats, seed: int) -> Floats:
    """Share of sign patterns of the clusters whose sum is at least as far from 0 as the one seen."""
    size = len(sums)
    seen = np.abs(sums.sum(axis=0))
    exact = 2**size <= FLIPS
    if exact:
        signs = 1.0 - 2.0 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1)
    else:
        signs = np.random.default_rng(seed + 1).choice([-1.0, 1.0], size=(FLIPS, size))
    scale = np.abs(sums).sum(axis=0)
    reached = (np.abs(signs @ sums) >= seen - 1e-12 * scale).sum(axis=0)
    return reached / len(signs) if exact else (reached + 1) / (len(signs) + 1)


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for their number (Holm 1979); NaN is not counted and stays."""
    values = np.asarray(p, dtype=np.float64)
    corrected = values.copy()
    order = [i for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, (len(order) - rank) * values[i])
        corrected[i] = min(1.0, highest)
    return corrected.tolist()


def compare_all(results: pd.DataFrame, metrics: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Every pair of competing variants on every metric.

    Reference rows do not compete. P values are corrected over the pairs of a metric.

    Args:
        results: from `load_results`.
        metrics: names of columns.
        seed: of the resampling.

    Returns:
        columns metric, first, second, difference (first minus second), low, high, p, p_holm, samples, clusters,
        spread.
    """
    competing = results[results["section"] != "reference"]
    pairs = list(combinations(sorted(competing["variant"].unique()), 2))
    clusters = cluster_of(results)
    rows = []
    found = [
        one
        for metric in (metrics if pairs else ())
        for start in range(0, len(pairs), PAIRS)
        for one in compare(
            _all_differences(competing, metric, pairs[start : start + PAIRS], clusters.index),
            list(clusters),
            seed,
        )
    ]
    named = [(metric, *pair) for metric in metrics for pair in pairs]
    for (metric, first, second), one in zip(named, found, strict=True):
        rows.append(
            {
                "metric": metric,
                "first": first,
                "second": second,
                "difference": one.mean,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "samples": one.n,
                "clusters": one.clusters,
                "spread": one.spread,
            }
        )
    frame = pd.DataFrame(rows, columns=["metric", "first", "second", "difference", "low", "high", "p", "samples",
                                        "clusters", "spread"])  # fmt: skip
    frame.insert(7, "p_holm", frame.groupby("metric")["p"].transform(lambda p: holm(list(p))))
    return frame
