"""What a benchmark of a given size can show."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, stats


def paired_power(difference: float, spread: float, n: int, alpha: float = 0.05) -> float:
    """Chance that a two-sided paired t test at level ``alpha`` finds a true difference.

    Args:
        difference: the true mean difference.
        spread: standard deviation of the differences.
        n: independent pairs.
        alpha: level of the test.
    """
    freedom, shift = n - 1, difference / spread * math.sqrt(n)
    bound = stats.t.ppf(1 - alpha / 2, freedom)
    # scipy's tails are NaN where they are too far off to tell from 1 and 0.
    found, wrong_sign = stats.nct.sf(bound, freedom, shift), stats.nct.cdf(-bound, freedom, shift)
    return float(np.nan_to_num(found, nan=1.0) + np.nan_to_num(wrong_sign, nan=0.0))


def detectable_difference(spread: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true difference that a paired test of ``n`` pairs finds with the given power.

    NaN where there are fewer than two pairs or the differences do not spread.
    """
    if n < 2 or not spread > 0:
        return math.nan
    return _detectable_errors(n, power, alpha) * spread / math.sqrt(n)


@lru_cache(1 << 10)
def _detectable_errors(n: int, power: float, alpha: float) -> float:
    """`detectable_difference` in units of the standard error, which the spread does not change.

    To find it takes tens of milliseconds, and a run of 100 settings asks 4,950 times.
    """
    # The answer lies between 0 and a little above the t quantiles' sum.
    top = stats.t.ppf(1 - alpha / 2, n - 1) + stats.t.ppf(power, n - 1) + 10
    return float(optimize.brentq(lambda d: paired_power(d / math.sqrt(n), 1.0, n, alpha) - power, 0.0, top))
