"""The plan: which edits a run consists of, each under its content key, and which are computed together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from piva_bench.errors import UnknownName
from piva_bench.runs.record import MaskCondition, Setup, unit_key
from piva_bench.runs.variants import Variant

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample


@dataclass(frozen=True)
class Unit:
    """One edit to be made: sample x method x parameters x seed, and whether the source is put back outside the mask."""

    key: str
    sample: Sample
    variant: Variant
    seed: int
    mask: MaskCondition | None = None


@dataclass(frozen=True)
class Batch:
    """Edits computed together: one setting, one seed; and shorter runs of it that are had on its way.

    Attributes:
        units: the edits, each of another sample.
        shorter: for each number of steps on the way the edits of the same samples, in the same order.
    """

    units: tuple[Unit, ...]
    shorter: Mapping[int, tuple[Unit, ...]] = field(default_factory=dict)

    @property
    def variant(self) -> Variant:
        """The setting, the longest one."""
        return self.units[0].variant

    @property
    def seed(self) -> int:
        """Of all random numbers."""
        return self.units[0].seed

    @property
    def all_units(self) -> list[Unit]:
        """All edits that come of it."""
        return [*self.units, *(unit for units in self.shorter.values() for unit in units)]


def select_samples(
    samples: Sequence[Sample], ids: Sequence[str] = (), limit: int | None = None
) -> list[Sample]:
    """The samples of a run, in the dataset's order.

    Args:
        samples: the whole dataset.
        ids: if given, only these.
        limit: if given, this many, spread over the edit types. A larger limit adds to a smaller one's.

    Raises:
        UnknownName: an id that does not exist.
    """
    if ids:
        by_id = {sample.id: sample for sample in samples}
        for wanted in ids:
            if wanted not in by_id:
                raise UnknownName("sample", wanted, by_id)
        samples = [sample for sample in samples if sample.id in set(ids)]
    if limit is None or limit >= len(samples):
        return list(samples)
    by_type = defaultdict(list)
    for sample in samples:
        by_type[sample.edit_type].append(sample)
    rounds = zip_longest(*by_type.values())
    chosen = {sample.id for sample in [s for one in rounds for s in one if s is not None][:limit]}
    return [sample for sample in samples if sample.id in chosen]


def make_units(
    setup: Setup,
    variants: Iterable[Variant],
    samples: Sequence[Sample],
    seeds: Sequence[int],
    mask: MaskCondition | None = None,
) -> list[Unit]:
    """The edits of a run, method by method; edits that are one under their canonical name appear once."""
    units: dict[str, Unit] = {}
    for variant in variants:
        params = variant.params_dict()
        for seed in seeds:
            for sample in samples:
                key = unit_key(
                    setup,
                    method=variant.name,
                    method_version=variant.version,
                    method_source=variant.source_hash,
                    params=params,
                    sample_id=sample.id,
                    seed=seed,
                    mask=mask,
                )
                units.setdefault(key, Unit(key, sample, variant, seed, mask))
    return list(units.values())


def make_batches(units: Iterable[Unit], size: int) -> list[Batch]:
    """Batches of at most ``size`` edits that share method, parameters and seed, in plan order.

    Settings that differ in their number of steps alone are one batch of the longest, where a method allows it.

    Args:
        units: the edits, in plan order.
        size: most edits in a batch.
    """
    families: dict[tuple[str, int], dict[str, dict[str, Unit]]] = {}
    for unit in units:
        samples = families.setdefault((unit.variant.family, unit.seed), {})
        samples.setdefault(unit.sample.id, {})[unit.variant.key] = unit
    batches = []
    for samples in families.values():
        # Samples that want the same settings go together; of a finished run's gaps each may want others.
        alike: dict[frozenset[str], list[dict[str, Unit]]] = defaultdict(list)
        for wanted in samples.values():
            alike[frozenset(wanted)].append(wanted)
        for group in alike.values():
            batches += [_batch(group[i : i + size]) for i in range(0, len(group), size)]
    return batches


def _batch(rows: Sequence[Mapping[str, Unit]]) -> Batch:
    """One batch of samples that want the same settings."""

    def steps(key: str) -> int:
        return getattr(rows[0][key].variant.params, "steps", 0)

    *shorter, longest = sorted(rows[0], key=steps)
    return Batch(
        tuple(row[longest] for row in rows),
        {steps(key): tuple(row[key] for row in rows) for key in shorter},
    )


def make_groups(batches: Iterable[Batch], by_sample: bool) -> list[list[Batch]]:
    """Batches that are computed one after another in one place.

    Args:
        batches: in plan order.
        by_sample: whether the batches of different settings that begin with the same sample are a group, so that they
            can share what depends on the samples alone; else each batch is one by itself.
    """
    if not by_sample:
        return [[batch] for batch in batches]
    groups: dict[tuple[int, str], list[Batch]] = defaultdict(list)
    for batch in batches:
        groups[batch.seed, batch.units[0].sample.id].append(batch)
    return list(groups.values())
