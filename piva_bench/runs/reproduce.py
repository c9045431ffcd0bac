"""Making stored edits again, elsewhere, and saying what differs: in pixels, in scores, and in what they stand on."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from piva_bench.errors import DataError, UserError
from piva_bench.key import canonical_json
from piva_bench.registry import METHODS, PROTOCOLS
from piva_bench.runs.kinds import kind_of_samples
from piva_bench.runs.manifest import environment
from piva_bench.runs.record import NOT_KNOWN, Record, ScoreFile
from piva_bench.runs.request import open_both, prepare
from piva_bench.runs.run import run
from piva_bench.runs.variants import Variant, known_parameters, resolve_variants

if TYPE_CHECKING:
    from piva_bench.metrics.protocol import MetricInfo
    from piva_bench.profiles import Profile
    from piva_bench.runs.request import Prepared, RunRequest
    from piva_bench.runs.store import Store
    from piva_bench.runs.watcher import Watcher

PIXELS = 1.0
"""Mean difference of a picture's values, of 255, up to which two machines are said to agree."""
SCORES = 0.01
"""Share of a score, and part of the unit of tables, of which a difference must exceed both to be one."""


@dataclass(frozen=True)
class Difference:
    """A stored edit beside the one that was made again.

    Attributes:
        record: the stored one.
        fault: what cannot be compared (one failed, or has another shape); None if all can.
        mean: mean absolute difference of the picture's values, 0 to 255.
        largest: the largest one.
        scores: by metric, how far the score moved, in the unit of tables; only those that are defined in both.
        moved: the metrics whose score differs by more than the tolerance, or that are defined in one alone.
    """

    record: Record
    fault: str | None = None
    mean: float = 0.0
    largest: int = 0
    scores: Mapping[str, float] | None = None
    moved: tuple[str, ...] = ()

    def beyond(self, pixels: float) -> bool:
        """Whether it is another edit, with so much tolerance of the mean difference."""
        return self.fault is not None or self.mean > pixels or bool(self.moved)


def lay_out(
    store: Store, request: RunRequest, files: Sequence[str], limit: int | None
) -> tuple[Prepared, dict[str, Record]]:
    """What is to be made again.

    Args:
        store: the run.
        request: profile, dataset and machine; methods, samples and seeds are taken from the records.
        files: methods given as files; a file that a record's method came from is not looked for by itself.
        limit: only this many samples, spread over the edit types; all by default.

    Returns:
        The plan, and the stored record by the key of the edit that stands for it.

    Raises:
        UserError: nothing of it can be made here.
    """
    records = [record for record in store.records().values() if record.device != NOT_KNOWN]
    if not records:
        raise UserError(f"{store.root} holds no edits that piva-bench made: there is nothing to make again.")
    profile, dataset = open_both(request)
    kind = kind_of_samples(dataset.samples).name
    by_setting: dict[str, list[Record]] = {}
    for record in records:
        by_setting.setdefault(_setting(record), []).append(record)
    named = {METHODS.load(name).card.name: name for name in files}
    variants = [_variant(alike[0], named, profile, kind) for alike in by_setting.values()]
    wanted = request.model_copy(
        update={
            "methods": tuple(dict.fromkeys(variant.requested for variant in variants)),
            "samples": tuple(dict.fromkeys(record.sample_id for record in records)),
            "seeds": tuple(sorted({record.seed for record in records})),
            "limit": limit,
        }
    )
    prepared = prepare(wanted, variants, (profile, dataset))
    whose = {
        (variant.key, record.sample_id, record.seed): record
        for variant, alike in zip(variants, by_setting.values(), strict=True)
        for record in alike
    }
    found = {
        unit.key: whose[place]
        for unit in prepared.units
        if (place := (unit.variant.key, unit.sample.id, unit.seed)) in whose
    }
    return replace(prepared, units=[unit for unit in prepared.units if unit.key in found]), found


def _setting(record: Record) -> str:
    return canonical_json([record.method, record.params])


def _variant(record: Record, files: Mapping[str, str], profile: Profile, kind: str) -> Variant:
    """A record's method at its parameters. Names in a run are looked up among what is installed."""
    name = files.get(record.method, record.method)
    if name == record.method and record.method_source is not None:
        raise UserError(
            f"{record.method} came from a file, which is not run because a results folder names it: give it with "
            "--method file.py:Class."
        )
    cls = METHODS.load(name) if name in files.values() else METHODS.load_installed(name)
    known = known_parameters(cls, kind)
    given = {parameter: value for parameter, value in record.params.items() if parameter in known}
    (variant,) = resolve_variants([name], given, profile, kind)
    return variant


def make_again(
    store: Store, prepared: Prepared, found: Mapping[str, Record], watcher: Watcher, command: list[str]
) -> Iterator[Difference]:
    """Makes edits into the plan's own folder and compares each with the stored one.

    Args:
        store: the run.
        prepared: see ``lay_out``; its output directory is a new one.
        found: see ``lay_out``.
        watcher: told of the way.
        command: kept in the new folder's manifest.
    """
    from piva_bench.runs.store import Store

    summary = run(prepared, watcher, command)
    again = Store(prepared.output_dir, watcher.warn)
    described = PROTOCOLS.load(prepared.profile.protocol).descriptors
    for record in summary.records:
        yield _compare(store, found[record.key], again, record, prepared.profile.protocol, described)


def _compare(
    store: Store, old: Record, again: Store, new: Record, protocol: str, described: Mapping[str, MetricInfo]
) -> Difference:
    if old.status != new.status:
        now = new.reason or "it is made"
        return Difference(old, f"{old.reason or 'was made'}; now {now}")
    if old.status == "failed":
        return Difference(old)
    try:
        before = _pixels(store.read_picture(old.key, old.image_sha))
    except DataError as error:
        return Difference(old, str(error))
    after = _pixels(again.read_picture(new.key, new.image_sha))
    if before.shape != after.shape:
        return Difference(old, f"a picture of {before.shape}, now {after.shape}")
    gap = np.abs(before.astype(np.int16) - after.astype(np.int16))
    scores, moved = _scores(
        store.load_scores(protocol, old.key), again.load_scores(protocol, new.key), described
    )
    return Difference(old, None, float(gap.mean()), int(gap.max()), scores, moved)


def _pixels(png: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return np.asarray(image)
    except Exception as error:  # Pillow raises whatever it meets in a foreign file
        raise DataError("the stored picture is none") from error


def _scores(
    old: ScoreFile | None, new: ScoreFile | None, described: Mapping[str, MetricInfo]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """How far each score moved, and the metrics that moved beyond the tolerance."""
    if old is None or new is None:
        return {}, ()
    gaps, moved = {}, []
    for name in sorted(described.keys() & old.values.keys()):
        before, after = old.values[name], new.values.get(name)
        if before is None or after is None:
            if before is not after:
                moved.append(name)
            continue
        scale = abs(described[name].scale)
        gaps[name] = scale * abs(before - after)
        if gaps[name] > SCORES * scale * abs(before) and gaps[name] > SCORES:
            moved.append(name)
    return gaps, tuple(moved)


def what_changed(run: Mapping[str, Any], prepared: Prepared, found: Mapping[str, Record]) -> list[str]:
    """What the edits stood on that is otherwise here, a line each.

    Args:
        run: the manifest's entry of the run.
        prepared: see ``lay_out``.
        found: see ``lay_out``.
    """
    lines = []
    stated = run.get("environment")
    before: dict[str, Any] = _flat(stated if isinstance(stated, dict) else {})
    if not before:
        lines.append("the manifest does not say what the edits were made with")
    now = _flat(environment())
    lines += [
        f"{name} {before[name]}, here {now.get(name)}" for name in before if before[name] != now.get(name)
    ]
    devices = sorted({record.device for record in found.values()})
    if devices != [prepared.device]:
        lines.append(f"device {', '.join(devices)}, here {prepared.device}")
    engines = sorted({record.engine for record in found.values()})
    if engines != [prepared.setup.engine]:
        lines.append(f"engine {', '.join(engines)}, here {prepared.setup.engine}")
    versions = {
        (record.method, record.method_version, record.method_source): unit.variant
        for unit in prepared.units
        if (record := found[unit.key])
    }
    for (method, version, source), variant in versions.items():
        if version != variant.version:
            lines.append(f"{method} version {version}, here {variant.version}")
        if source != variant.source_hash:
            lines.append(f"{method}'s file {source}, here {variant.source_hash}")
    for unit in prepared.units:
        old, new = found[unit.key].params, unit.variant.params_dict()
        gone = [
            f"{unit.variant.name}: {name} {old.get(name)}, here {new.get(name)}"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
        lines += [line for line in gone if line not in lines]
    return lines


def _flat(stated: Mapping[str, Any]) -> dict[str, Any]:
    packages = stated.get("packages")
    plain = {name: value for name, value in stated.items() if name != "packages"}
    return plain | (packages if isinstance(packages, dict) else {})
