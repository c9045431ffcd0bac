"""``piva-bench run``: make the edits, score them, print the table."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from piva_bench.cli import options, values
from piva_bench.cli.run_options import RunOptions, with_run_options
from piva_bench.cli.say import warn
from piva_bench.errors import UserError
from piva_bench.text import one_line

if TYPE_CHECKING:
    from piva_bench.runs.request import Prepared
    from piva_bench.runs.run import Summary

EXIT_FAILED_SAMPLES = 3
EXIT_INTERRUPTED = 130

EXAMPLES = """
[bold]Examples[/bold]

piva-bench run --method piva --dataset pie --limit 8

piva-bench run --method piva,dds,identity --param preservation_weight=0.8 --seed 0,1

piva-bench run --method my_method.py:MyMethod --dry-run

[bold]Exit codes[/bold]

0 done. 2 a mistake that one line explains. 3 done, but edits failed (see --fail-above).
130 interrupted, or --max-hours is over.

Every option is also read from a variable such as PIVA_BENCH_BATCH_SIZE.
"""


@with_run_options
def run(method: options.Method, common: RunOptions, param: options.Param = None) -> None:
    """Edit a dataset with one or more methods, score the edits and print the table.

    Edits are stored batch by batch. The same command again makes only what is missing or has failed.
    """
    from piva_bench.runs.lock import refuse_second_writer
    from piva_bench.runs.request import output_dir_of, prepare

    methods = values.split(method)
    if not methods:
        raise UserError("Give at least one --method; `piva-bench list methods` shows them.")
    request = common.request(methods, values.parse_params(param or []))
    if not common.dry_run:
        refuse_second_writer(output_dir_of(request))
    prepared = prepare(request)
    if nothing_to_do(prepared):
        return
    if common.dry_run:
        print_plan(prepared)
        return
    summary = execute(prepared)
    from piva_bench.cli.report import write_and_print

    write_and_print(prepared.output_dir, prepared.profile.protocol, prepared.samples_by_id())
    print_summary(prepared, summary, prepared.output_dir / "report")
    fail_if_many_failed(summary, common.fail_above)


def nothing_to_do(prepared: Prepared) -> bool:
    """Whether a share holds no sample, which is said; there may be more shares than samples."""
    if prepared.units:
        return False
    typer.echo(f"shard {prepared.request.shard} has no sample: nothing to do", err=True)
    return True


def execute(prepared: Prepared, by_sample: bool = False) -> Summary:
    """Makes the edits of a plan, with a display of the way; an interruption ends the program in order."""
    from piva_bench.cli.progress import open_progress
    from piva_bench.runs import run as runs

    typer.echo(headline(prepared), err=True)
    if address := prepared.request.address:
        typer.echo(f"results go to {address}, by way of {prepared.output_dir}", err=True)
    try:
        with interruptible(prepared.request.max_hours), open_progress() as progress:
            return runs.run(prepared, progress, sys.argv[1:], by_sample)
    except KeyboardInterrupt as interruption:
        typer.echo(
            f"{str(interruption) or 'interrupted'}: finished batches are stored in {prepared.output_dir}; "
            "run the same command again to finish.",
            err=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def interruptible(max_hours: float | None = None) -> Iterator[None]:
    """Within the block a queue's signals (SIGTERM, and USR2 before a time limit) are an interruption like Ctrl-C, and
    so is that so many hours have passed.
    """

    def interrupt(number: int, frame: object) -> None:
        late = number == getattr(signal, "SIGALRM", None)
        raise KeyboardInterrupt(*(("--max-hours is over",) if late else ()))

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR2") if hasattr(signal, name)]
    if max_hours is not None:
        wanted.append(signal.SIGALRM)
    if threading.current_thread() is not threading.main_thread():
        wanted = []  # only there can signals be caught
    before = {number: signal.signal(number, interrupt) for number in wanted}
    if signal.SIGALRM in before and max_hours is not None:
        signal.setitimer(signal.ITIMER_REAL, 3600 * max_hours)
    try:
        yield
    finally:
        if signal.SIGALRM in before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def fail_if_many_failed(summary: Summary, share: float) -> None:
    """Ends the program with its own code where more than a share of the edits failed, or could not be scored."""
    if len(summary.failed) + summary.unscored > share * len(summary.records):
        raise typer.Exit(EXIT_FAILED_SAMPLES)


def headline(prepared: Prepared) -> str:
    """What a run stands on, in one line, after lines on what its dataset leaves out and its model does not read."""
    setup = prepared.setup
    notes = "".join(f"{note}\n" for note in prepared.notes)
    return (
        f"{notes}{replaced_defaults(prepared)}profile {setup.profile} | "
        f"dataset {setup.dataset}@{setup.dataset_revision[:8]}, "
        f"{len(prepared.samples)} of {len(prepared.dataset.samples)} samples | "
        f"model {setup.model}@{setup.model_fingerprint[:8]} | {setup.resolution} px, {setup.dtype}, "
        f"{prepared.device} | scores {prepared.profile.protocol}"
    )


def replaced_defaults(prepared: Prepared) -> str:
    """A line for each default that a profile or a tuning replaced, with the methods it did so for."""
    whose: dict[tuple[str, object, object, str], list[str]] = {}
    for variant in prepared.variants:
        for name, (own, new, whence) in variant.replaced.items():
            names = whose.setdefault((name, own, new, whence), [])
            if variant.name not in names:
                names.append(variant.name)
    return "".join(
        f"{name}={new} by {whence}, not {own} ({', '.join(methods)})\n"
        for (name, own, new, whence), methods in whose.items()
    )


def print_summary(prepared: Prepared, summary: Summary, report: Path) -> None:
    """What came of a run, and where its report lies."""
    failed = summary.failed
    for record in failed[:5]:
        typer.echo(f"failed: {one_line(f'{record.method} on {record.sample_id}: {record.reason}')}", err=True)
    if len(failed) > 5:
        typer.echo(f"failed: {len(failed) - 5} more; see status and reason in the records", err=True)
    minutes, seconds = divmod(round(summary.seconds), 60)
    stored = len(summary.records) - summary.computed
    rows = list(dict.fromkeys(record.method for record in summary.references))
    for row in rows:
        bare = [one for one in summary.references if one.method == row and one.status == "failed"]
        if bare:
            first = one_line(f"{bare[0].sample_id}: {bare[0].reason}")
            typer.echo(f"the reference row {row} lacks {len(bare)} samples: {first}", err=True)
    beside = f" (and the reference rows {', '.join(rows)})" if rows else ""
    typer.echo(
        f"{len(summary.records)} edits{beside}: {summary.computed} computed, {stored} already stored, "
        f"{len(failed)} failed; {minutes}:{seconds:02d} min. Tables and pictures: {report}",
        err=True,
    )


def print_plan(prepared: Prepared) -> None:
    """What a run would do, and how long it would take."""
    from piva_bench.runs.estimate import estimate
    from piva_bench.runs.manifest import Manifest
    from piva_bench.runs.request import whole_dir_of
    from piva_bench.runs.run import find_work
    from piva_bench.runs.shard import share_folders
    from piva_bench.runs.store import Store

    request = prepared.request
    if request.address or share_folders(whole_dir_of(request)):
        typer.echo(
            "what other machines and shards have made is not counted: a run takes it in first", err=True
        )
    Manifest(prepared.output_dir, warn).join(prepared.setup)
    work = find_work(prepared.units, Store(prepared.output_dir, warn), request.overwrite)
    typer.echo(headline(prepared))
    typer.echo(f"output {prepared.output_dir}")
    for variant in prepared.variants:
        given = (
            ", ".join(f"{name}={value}" for name, value in variant.params_dict().items()) or "no parameters"
        )
        alias = "" if variant.requested == variant.name else f" (asked for as {variant.requested})"
        typer.echo(f"  {variant.name}{alias}: {given}")
    for row in prepared.references:
        typer.echo(f"  {row.name}: reference row, added by itself (--no-reference leaves it out)")
    typer.echo(
        f"{len(prepared.units)} edits: {len(work.done)} stored, {len(work.todo)} to compute"
        + (f", {len(work.retries)} of them failed before" if work.retries else "")
    )
    estimates = estimate(
        work.todo,
        list(Store(prepared.output_dir).records().values()),
        prepared,
    )
    for one in estimates:
        typer.echo(f"  {one.variant.name}: {one.edits} edits, about {one.seconds:.0f} s (from {one.basis})")
    if estimates:
        typer.echo(f"about {sum(one.seconds for one in estimates) / 60:.1f} min in all, scoring not counted")
