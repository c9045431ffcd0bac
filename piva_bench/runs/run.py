"""A whole run: compute what is missing, score what is unscored, keep the manifest."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

from piva_bench.runs.crew import Finished
from piva_bench.runs.follow import Follower, following
from piva_bench.runs.gather import gather
from piva_bench.runs.inside import Warn
from piva_bench.runs.manifest import Manifest
from piva_bench.runs.plan import Batch, Unit, make_batches, make_groups
from piva_bench.runs.pool import open_pool
from piva_bench.runs.record import Record
from piva_bench.runs.request import Prepared
from piva_bench.runs.scoring import Scorer, headline_metrics
from piva_bench.runs.store import Store
from piva_bench.runs.unfinished import remove_states
from piva_bench.runs.watcher import Watcher


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes:
        records: of all edits that were asked for, in the plan's order.
        computed: how many of them this run made.
        seconds: wall time.
        unscored: how many have a picture and no scores, for a file of the sample (a mask, a counterfactual) is bad.
        references: of the reference rows that the run added by itself; whatever becomes of them is nobody's failure.
    """

    records: list[Record]
    computed: int
    seconds: float
    unscored: int = 0
    references: tuple[Record, ...] = ()

    @property
    def failed(self) -> list[Record]:
        """The edits that have a reason instead of a picture."""
        return [record for record in self.records if record.status == "failed"]


@dataclass(frozen=True)
class Work:
    """What of a plan is still to be done.

    Attributes:
        missing: edits without a whole record.
        retries: edits whose record says they failed; tried again, after the missing ones and in batches of
            their own, so that they do not shift the batches of the others.
        done: records that need nothing.
    """

    missing: list[Unit]
    retries: list[Unit]
    done: list[Record]

    @property
    def todo(self) -> list[Unit]:
        """The edits to compute."""
        return [*self.missing, *self.retries]

    def groups(self, size: int, by_sample: bool) -> list[list[Batch]]:
        """The batches, those that belong together in groups; see ``make_groups``."""
        batches = [make_batches(units, size) for units in (self.missing, self.retries)]
        return [group for part in batches for group in make_groups(part, by_sample)]


def find_work(units: Sequence[Unit], store: Store, overwrite: bool = False) -> Work:
    """Compares a plan with the store."""
    records = store.records()
    work = Work([], [], [])
    for unit in units:
        record = records.get(unit.key)
        if overwrite or record is None or not store.is_whole(record):
            work.missing.append(unit)
        elif record.status == "failed":
            work.retries.append(unit)
        else:
            work.done.append(record)
    return work


PROVISIONAL_BATCH = 8
"""Edits a batch, as long as nobody knows how many will do: for choosing how many workers are worth starting."""


def run(prepared: Prepared, watcher: Watcher, command: list[str], by_sample: bool = False) -> Summary:
    """Makes all edits of a plan that are not stored yet, and scores all of it.

    Killed at any moment and called again, it completes with the same numbers.

    Args:
        prepared: the plan.
        watcher: told what happens.
        command: how the run was asked for; kept in the manifest.
        by_sample: whether all settings edit a batch of samples before the next batch's turn, as sweeps do,
            and share what they have in common.

    Raises:
        UserError: the output directory holds another set-up's results or cannot be written to; a model or
            metric is missing. What is stored stays.
    """
    start = time.monotonic()
    follower = gather(prepared, watcher.warn)
    with following(follower), Store(prepared.output_dir, watcher.warn) as store:
        manifest = Manifest(prepared.output_dir, watcher.warn)
        prepared = replace(prepared, setup=manifest.join(prepared.setup))
        work = find_work(prepared.units, store, prepared.request.overwrite)
        headline = headline_metrics(prepared.profile.protocol, prepared.samples_by_id())
        made: list[Record] = []
        unscored: set[str] = set()
        if work.todo:
            interrupted = manifest.interrupted_batch_size(prepared.device)
            manifest.begin(prepared, command)
            manifest.save(store)
            for line in manifest.mixed_versions():
                watcher.warn(line)
            size = prepared.request.batch_size
            about = size if size != "auto" else interrupted or PROVISIONAL_BATCH
            # Reference rows take next to no time: no worker is started for them.
            own = {row.key for row in prepared.references}
            groups = work.groups(about, by_sample)
            costly = sum(any(batch.variant.key not in own for batch in group) for group in groups)
            pool = open_pool(prepared, max(1, costly))
            try:
                watcher.started(len(work.todo), headline, pool.workers)
                size = pool.batch_size(work.todo, interrupted)
                manifest.note(edits_together=size, workers=pool.workers)
                manifest.save(store)
                made = _compute(
                    pool.map(work.groups(size, by_sample), by_sample, watcher),
                    store,
                    watcher,
                    unscored,
                    follower,
                )
            finally:
                pool.close()
            store.check_still_there(made)
            remove_states(prepared.output_dir)
        else:
            watcher.started(0, headline, 0)
        if work.done:
            scorer = prepared.scorer()
            for record in work.done:
                if scorer.score(store, record, watcher.warn) is None:
                    unscored.add(record.key)
        summary = _summary(
            prepared, [*work.done, *made], {r.key for r in made}, unscored, time.monotonic() - start
        )
        if work.todo:
            manifest.end(
                computed=len(made),
                reused=len(work.done),
                failed=sum(record.status == "failed" for record in (*summary.records, *summary.references)),
                seconds=round(summary.seconds, 1),
            )
            manifest.save(store)
    return summary


def _summary(
    prepared: Prepared, found: Sequence[Record], made: Set[str], unscored: Set[str], seconds: float
) -> Summary:
    """What came of the plan, the edits that were asked for apart from the reference rows."""
    own = {row.key for row in prepared.references}
    by_key = {record.key: record for record in found}
    records = [by_key[unit.key] for unit in prepared.units if unit.variant.key not in own]
    references = tuple(by_key[unit.key] for unit in prepared.units if unit.variant.key in own)
    bare = sum(record.status == "ok" and record.key in unscored for record in records)
    computed = sum(record.key in made for record in records)
    return Summary(records, computed, seconds, bare, references)


def _compute(
    batches: Iterable[Finished], store: Store, watcher: Watcher, unscored: set[str], follower: Follower | None
) -> list[Record]:
    """Stores every batch as it comes, and puts it where it goes; notes edits that could not be scored."""
    records = []
    for finished in batches:
        store.commit(finished.edits)
        if follower is not None:
            follower.put([edit.record for edit in finished.edits])
        for edit in finished.edits:
            records.append(edit.record)
            if edit.scores is None:
                unscored.add(edit.record.key)
            watcher.committed(finished.number, edit.record, edit.scores)
        watcher.batch_ended(finished.number)
    return records


def rescore(store: Store, scorer: Scorer, warn: Warn) -> tuple[int, int]:
    """Scores every record of a store; how many have scores now, and how many failed edits have none."""
    records = store.records().values()
    for record in records:
        store.is_whole(record)  # warns of pictures that are gone: their scores stay, and are theirs no longer
    scored = sum(scorer.score(store, record, warn) is not None for record in records)
    return scored, sum(record.status == "failed" for record in records)
