"""Joining runs that were made in several places into one: shares of a run, or what was added elsewhere."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from piva_bench.errors import DataError, UserError
from piva_bench.runs.edit import Edit
from piva_bench.runs.inside import Warn
from piva_bench.runs.manifest import Manifest
from piva_bench.runs.record import Record
from piva_bench.runs.store import Store

TOGETHER = 2000
"""Edits that are committed at once, at most."""
BYTES = 1 << 28
"""Of pictures and the like that are committed at once, about."""


@dataclass(frozen=True)
class Merged:
    """What came of a merge.

    Attributes:
        edits: in the target now.
        taken: of them taken in from the sources.
        damaged: that no source has whole; they are missing.
    """

    edits: int
    taken: int
    damaged: int


def merge(
    sources: Sequence[Path],
    target: Path,
    command: list[str],
    warn: Warn,
    manifests: Sequence[Path] = (),
    only: Container[str] | None = None,
) -> Merged:
    """Takes the edits of runs into one, with their traces and scores; the sources stay as they are.

    Of edits of one key the finished one is taken before the failed one, then the newer one. Everything is checked
    against its hash. What the target holds already is not copied again, so an interrupted merge is simply repeated.

    Args:
        sources: output directories.
        target: output directory; may hold edits already.
        command: kept in the manifest.
        warn: told about what is torn.
        manifests: folders with further manifests of the sources.
        only: keys of the edits to take; sources that have nothing better of them are left alone. By default all.

    Raises:
        UserError: the runs differ in what decides pixels, or the target cannot be written to.
        DataError: a source holds no run.
    """
    stores = [Store(path, warn) for path in sources if path.resolve() != target.resolve()]
    found = [(store, store.records()) for store in stores]
    if only is not None:
        there = Store(target).records()
        wanted = [
            (s, {key: record for key, record in records.items() if key in only}) for s, records in found
        ]
        found = [
            (s, rs) for s, rs in wanted if any(_rank(r) > _rank(there.get(key)) for key, r in rs.items())
        ]
        stores = [store for store, _ in found]
        if not found:
            return Merged(len(there), 0, 0)
    for store, records in found:
        if not records:
            raise DataError(f"{store.root} holds no results: give output directories of runs.")
    with Store(target, warn) as into, into.many():
        manifest = Manifest(target, warn)
        for folder in (*(store.root for store in stores), *manifests):
            manifest.take_in(Manifest(folder, warn))
        _refuse_mixtures(found, manifest)
        manifest.save(into)
        here = {key: record for key, record in into.records().items() if into.is_whole(record)}
        taken, damaged = set[str](), set[str]()
        for store, records in found:
            was = dict(here)
            better = [record for record in records.values() if _rank(record) > _rank(here.get(record.key))]
            for chunk in _chunks(_load(store, better, warn)):
                into.commit(chunk)
                here |= {edit.record.key: edit.record for edit in chunk}
                taken |= {edit.record.key for edit in chunk}
            damaged |= {record.key for record in better} - here.keys()
            _copy_scores(store, into, [key for key, record in was.items() if records.get(key) == record])
        if taken:
            manifest.note_merge(command, len(taken))
        manifest.save(into)
        for line in manifest.mixed_versions():
            warn(line)
    return Merged(len(here), len(taken), len(damaged - here.keys()))


def _refuse_mixtures(found: Sequence[tuple[Store, dict[str, Record]]], manifest: Manifest) -> None:
    for store, records in found:
        for record in records.values():
            try:
                manifest.join(record)
            except UserError as error:
                raise UserError(f"{store.root} does not belong to the others: {error}") from error


def _rank(record: Record | None) -> tuple[bool, bool, str]:
    if record is None:
        return False, False, ""
    return True, record.status == "ok", record.created


def _chunks(edits: Iterable[Edit]) -> Iterator[list[Edit]]:
    chunk: list[Edit] = []
    size = 0
    for edit in edits:
        chunk.append(edit)
        size += len(edit.png or b"") + sum(map(len, edit.files.values()))
        if len(chunk) >= TOGETHER or size >= BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _load(store: Store, records: Iterable[Record], warn: Warn) -> Iterator[Edit]:
    """The edits with the files of their traces and scores; those that are damaged are warned of and left out."""
    protocols = store.protocols()
    for record in records:
        try:
            edit = store.load(record)
        except DataError as error:
            warn(f"{error}: not taken from {store.root}")
            continue
        files = dict(edit.files)
        if trace := store.read_trace(record.key)[0]:
            files[f"traces/{record.key}.json"] = trace
        for protocol in protocols:
            if found := store.read_scores(protocol, record.key):
                files[store.score_name(protocol, record.key)] = found[0]
        yield replace(edit, files=files)


def _copy_scores(store: Store, into: Store, keys: Iterable[str]) -> None:
    """Takes in scores of edits that are in the target already: an earlier merge may have been before them."""
    protocols = store.protocols()
    for key in keys:
        for protocol in protocols:
            scores = store.load_scores(protocol, key)
            if scores is not None and into.load_scores(protocol, key) is None:
                into.save_scores(key, scores)
