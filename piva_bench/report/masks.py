"""What edits were told of where they belong, and how much of the pictures the datasets' edit masks cover."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from piva_bench.data.sample import Sample
from piva_bench.errors import DataError

CONDITIONS = {"method": "none", "mask": "own", "end": "blended", "steps": "blended", "supervised": "none",
              "reference": "–", "unknown": "unknown"}  # fmt: skip
"""The mask condition of a table's sections: nothing was told, the method reads the mask, the source was put back
outside it."""

COVERAGE = "mask_coverage"


def with_coverage(results: pd.DataFrame, samples: Mapping[str, Sample]) -> pd.DataFrame:
    """The results with a further column ``mask_coverage``: the share of its picture that a sample's edit mask covers.

    It is NaN for samples that have no mask, are not at hand or cannot be read.
    """
    known = {name: _coverage(samples.get(name)) for name in results["sample_id"].unique()}
    return results.assign(**{COVERAGE: results["sample_id"].map(known).astype(float)})


def coverage_notes(results: pd.DataFrame) -> list[str]:
    """How much of a picture the masks cover, in a line; nothing where nobody knows."""
    if COVERAGE not in results or results[COVERAGE].isna().all():
        return []
    shares = results.groupby("sample_id")[COVERAGE].first().dropna()
    low, mean, high = (100 * share for share in (shares.min(), shares.mean(), shares.max()))
    return [f"The edit masks cover {mean:.0f} % of a picture ({low:.0f} to {high:.0f} %)"]


def _coverage(sample: Sample | None) -> float:
    try:
        mask = None if sample is None else sample.load_mask()
    except DataError:  # told where the sample's edits are scored
        return math.nan
    return math.nan if mask is None else float(mask.mean())
