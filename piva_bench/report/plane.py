"""The plane on which methods are judged: which metrics are edit strength and identity."""

from __future__ import annotations

import pandas as pd

from piva_bench.errors import UnknownName, UserError
from piva_bench.metrics.protocol import MetricInfo
from piva_bench.registry import PROTOCOLS

Axes = tuple[MetricInfo, MetricInfo]
STRENGTH, IDENTITY = ("text", "oracle"), ("identity",)
"""Groups of metrics that measure either, the preferred one first."""


def choose_axes(protocol: str, strength: str | None, identity: str | None) -> Axes:
    """The metrics of the curve: those named, else the protocol's first of their kind, headline ones first.

    Raises:
        UnknownName: a metric the protocol does not have.
        UserError: it has none of a kind and none was named.
    """
    described = PROTOCOLS.load(protocol).descriptors

    def choose(option: str, given: str | None, groups: tuple[str, ...]) -> MetricInfo:
        if given is not None:
            if given not in described:
                raise UnknownName(f"metric of {protocol}", given, described)
            return described[given]
        fitting = [info for info in described.values() if info.group in groups and info.direction != "none"]
        if not fitting:
            raise UserError(f"{protocol} has no metric of {groups[0]}: name one with --{option}.")
        return min(fitting, key=lambda info: (not info.headline, groups.index(info.group)))

    return choose("strength", strength, STRENGTH), choose("identity", identity, IDENTITY)


def plane(results: pd.DataFrame) -> tuple[MetricInfo, MetricInfo] | None:
    """Edit strength and identity of the frame's protocol; None where it was not scored by both."""
    try:
        axes = choose_axes(results["protocol"].iloc[0], None, None)
    except UserError:
        return None
    return axes if all(axis.name in results and results[axis.name].notna().any() for axis in axes) else None
