"""A sweep: one method over a grid of parameter values, beside other methods, in the store of any run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from piva_bench.errors import UserError
from piva_bench.profiles import Profile
from piva_bench.runs.kinds import kind_of_samples
from piva_bench.runs.request import Prepared, RunRequest, open_both, prepare
from piva_bench.runs.variants import Variant, known_parameters, resolve_variants

MAX_POINTS = 1000


@dataclass(frozen=True)
class Point:
    """One row of a sweep: a method at one place of the grid.

    Attributes:
        label: the method and the values that set the row apart.
        values: the swept parameters here; empty for a method beside the sweep.
        variant: under its canonical name, so the point at weight 0 of Piva is DDS.
        keys: content keys of its edits.
    """

    label: str
    values: dict[str, Any]
    variant: Variant
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sweep:
    """A sweep laid out.

    Attributes:
        prepared: the plan of all its edits, to be run like any other.
        points: its rows: the grid in order, then the methods beside it, then the reference rows.
        swept: names of the parameters with several values.
    """

    prepared: Prepared
    points: list[Point]
    swept: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name for its files."""
        methods = dict.fromkeys(point.variant.requested for point in self.points if point.values)
        words = [name.rpartition(":")[2] for name in methods] + list(self.swept)
        return "-".join(["sweep", *words])


def prepare_sweep(request: RunRequest, grid: Mapping[str, Sequence[Any]], beside: Sequence[str]) -> Sweep:
    """Looks everything up and lays out the edits of a sweep.

    Args:
        request: methods to sweep, ``params`` with one value, and all else a run needs.
        grid: values by parameter; every combination becomes a point.
        beside: methods that are run once, at ``request.params``, for comparison.

    Raises:
        UserError: see ``prepare``; also an empty or too large grid.
    """
    profile, dataset = open_both(request)
    points = sweep_points(request, grid, beside, profile, kind_of_samples(dataset.samples).name)
    variants: list[Variant] = []
    merged: dict[str, Variant] = {}
    for i, point in enumerate(points):
        if point.variant.key not in merged:
            variants.append(merged.setdefault(point.variant.key, point.variant))
        points[i] = replace(point, variant=merged[point.variant.key])
    prepared = prepare(request, variants, (profile, dataset))
    points += [Point(row.requested, {}, row) for row in prepared.references]
    keys: dict[str, set[str]] = {}
    for unit in prepared.units:
        keys.setdefault(unit.variant.key, set()).add(unit.key)
    swept = tuple(name for name, values in grid.items() if len(values) > 1)
    return Sweep(
        prepared, [replace(point, keys=frozenset(keys.get(point.variant.key, ()))) for point in points], swept
    )


def sweep_points(
    request: RunRequest,
    grid: Mapping[str, Sequence[Any]],
    beside: Sequence[str],
    profile: Profile,
    kind: str = "pictures",
) -> list[Point]:
    """The rows of a sweep, without their keys.

    Raises:
        UserError: an unknown name, a value out of bounds, a parameter without values, too many points.
    """
    for name, values in grid.items():
        if len(set(map(repr, values))) < len(values):
            raise UserError(f"--param {name} holds a value twice.")
    size = math.prod(map(len, grid.values())) * len(request.methods)
    if not 0 < size <= MAX_POINTS:
        raise UserError(f"A sweep of {size} points: give each --param from one to a few values.")
    points = []
    for method in request.methods:
        for combination in product(*grid.values()):
            here = dict(zip(grid, combination, strict=True))
            (variant,) = resolve_variants([method], {**request.params, **here}, profile, kind)
            detail = ", ".join(f"{name}={value}" for name, value in here.items())
            points.append(Point(f"{_short(method)} ({detail})" if detail else _short(method), here, variant))
    others = [method for method in beside if method not in request.methods]
    for method in others:
        # A parameter that the sweep's method has need not be known to each method beside it.
        known = {name: value for name, value in request.params.items() if _has(method, name, kind)}
        (variant,) = resolve_variants([method], known, profile, kind)
        points.append(Point(_short(method), {}, variant))
    return points


def _has(method: str, parameter: str, kind: str) -> bool:
    from piva_bench.registry import METHODS

    return parameter in known_parameters(METHODS.load(method), kind)


def _short(method: str) -> str:
    return method.rpartition(":")[2]
