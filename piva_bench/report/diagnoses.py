"""What the traces say of a method's adapters: how much they know, and where the term that they make points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piva_bench.report.formats import MISSING, markdown_escape
from piva_bench.report.plots import Traces
from piva_bench.report.statistics import Interval, mean_interval

SAYS = (
    "Gain: 1 - an adapter's denoising loss / the prior's on the same noisy latents (psi: the source, phi: the edit as "
    "it is); 0 has learnt nothing, 1 knows its picture by heart. Cosines: of the regulariser with the one that "
    "untrained adapters make, and with the one that memorised adapters make (z - z_src). Share: of the regulariser, "
    "times lambda, in the sum of both terms' norms. Means over the diagnosed steps; mean ± 95 % interval over edits."
)
COLUMNS = {
    "psi_gain": "Gain of psi",
    "phi_gain": "Gain of phi",
    "untrained_cosine": "Cosine with untrained",
    "converged_cosine": "Cosine with converged",
    "regulariser_share": "Share of the gradient",
}


@dataclass(frozen=True)
class Diagnosis:
    """A variant's adapters.

    Attributes:
        variant: the setting.
        values: by key of ``COLUMNS``; those that its traces have.
    """

    variant: str
    values: Mapping[str, Interval]


def diagnoses(traces: Traces) -> list[Diagnosis]:
    """A line for each variant whose traces say something of adapters.

    Args:
        traces: from ``load_traces``.
    """
    found = []
    for variant, scalars in traces.items():
        values = {name: per_edit(scalars, name) for name in COLUMNS}
        known = {name: mean_interval(each) for name, each in values.items() if not np.isnan(each).all()}
        if known:
            found.append(Diagnosis(variant, known))
    return found


def per_edit(scalars: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One of ``COLUMNS`` for each edit; NaN where its trace does not have it. A gain is a quotient of sums."""
    if name.endswith("_gain"):
        adapter = name.removesuffix("_gain")
        if f"{adapter}_prior_loss" not in scalars:
            return np.array([np.nan])
        own, prior = (np.nansum(scalars[f"{adapter}_{what}"], axis=1) for what in ("loss", "prior_loss"))
        return np.where(prior > 0, 1 - own / np.where(prior > 0, prior, 1), np.nan)
    if name not in scalars:
        return np.array([np.nan])
    values = scalars[name]
    measured = (~np.isnan(values)).sum(axis=1)
    return np.where(measured > 0, np.nansum(values, axis=1) / np.maximum(measured, 1), np.nan)


def diagnoses_frame(found: Sequence[Diagnosis]) -> pd.DataFrame:
    """The table as numbers."""
    rows = [
        {
            "variant": one.variant,
            "quantity": name,
            "mean": each.mean,
            "low": each.low,
            "high": each.high,
            "edits": each.n,
        }
        for one in found
        for name, each in one.values.items()
    ]
    return pd.DataFrame(rows, columns=["variant", "quantity", "mean", "low", "high", "edits"])


def diagnoses_markdown(found: Sequence[Diagnosis]) -> str:
    """The table as Markdown."""
    lines = ["### Adapters", "", SAYS, "", "| Setting | " + " | ".join(COLUMNS.values()) + " |"]
    lines += ["|---|" + "---:|" * len(COLUMNS)]
    for one in found:
        cells = [_cell(one.values.get(name)) for name in COLUMNS]
        lines.append(f"| {markdown_escape(one.variant)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(interval: Interval | None) -> str:
    if interval is None or np.isnan(interval.mean):
        return MISSING
    return f"{interval.mean:.3f}" + ("" if np.isnan(interval.margin) else f" ± {interval.margin:.3f}")
