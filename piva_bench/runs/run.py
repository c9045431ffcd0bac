"""A whole run: compute what is missing, score what is unscored, keep the manifest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from piva_bench.diffusion.kept import KeptRows
from piva_bench.runs.executor import Executor, Watcher, find_work
from piva_bench.runs.manifest import Manifest
from piva_bench.runs.record import Record
from piva_bench.runs.request import Prepared
from piva_bench.runs.scoring import Scorer
from piva_bench.runs.store import Store


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes:
        records: of all edits of the plan, in its order.
        computed: how many of them this run made.
        seconds: wall time.
    """

    records: list[Record]
    computed: int
    seconds: float

    @property
    def failed(self) -> list[Record]:
        """The edits that have a reason instead of a picture."""
        return [record for record in self.records if record.status == "failed"]


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
    with Store(prepared.output_dir, watcher.warn) as store:
        manifest = Manifest(prepared.output_dir)
        prepared = replace(prepared, setup=manifest.join(prepared.setup))
        work = find_work(prepared.units, store, prepared.request.overwrite)
        scorer = Scorer(prepared.profile.protocol, store, prepared.samples_by_id(), watcher.warn)
        watcher.started(work.todo, scorer.headline())
        made: list[Record] = []
        if work.todo:
            interrupted = manifest.interrupted_batch_size(prepared.device)
            manifest.begin(prepared, command)
            manifest.save(store)
            denoiser = prepared.load_denoiser()
            if by_sample:
                denoiser.kept = KeptRows(folder=prepared.output_dir)
            batch_size = prepared.batch_size([*work.missing, *work.retries], denoiser, interrupted)
            manifest.note(edits_together=batch_size)
            manifest.save(store)
            executor = Executor(
                store, prepared.setup, denoiser, scorer, batch_size, watcher, prepared.request.keep_fields
            )
            made = executor.run(work, by_sample)
        for record in work.done:
            scorer.score(record)
        by_key = {record.key: record for record in (*work.done, *made)}
        summary = Summary([by_key[unit.key] for unit in prepared.units], len(made), time.monotonic() - start)
        if work.todo:
            manifest.end(
                computed=len(made),
                reused=len(work.done),
                failed=len(summary.failed),
                seconds=round(summary.seconds, 1),
            )
            manifest.save(store)
    return summary


def rescore(store: Store, scorer: Scorer) -> tuple[int, int]:
    """Scores every record of a store; how many have scores now, and how many failed edits have none."""
    records = store.records().values()
    for record in records:
        store.is_whole(record)  # warns of pictures that are gone: their scores stay, and are theirs no longer
    scored = sum(scorer.score(record) is not None for record in records)
    return scored, sum(record.status == "failed" for record in records)
