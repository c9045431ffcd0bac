"""``piva-bench run``: make the edits, score them, print the table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from piva_bench.cli import options, values
from piva_bench.errors import UserError

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

0 done. 2 a mistake that one line explains. 3 done, but edits failed (see --fail-above). 130 interrupted.

Every option is also read from a variable such as PIVA_BENCH_BATCH_SIZE.
"""


def run(
    method: options.Method,
    dataset: options.Dataset = "pie",
    profile: options.ProfileName = "embedded",
    param: options.Param = None,
    limit: options.Limit = None,
    sample: options.SampleIds = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Precision = options.Dtype.float32,
    batch_size: options.BatchSize = "auto",
    compile: options.Compile = False,
    channels_last: options.ChannelsLast = False,
    overwrite: options.Overwrite = False,
    keep_fields: options.KeepFields = False,
    dry_run: options.DryRun = False,
    fail_above: options.FailAbove = 0.0,
    output_dir: options.OutputDir = None,
    model: options.Model = None,
    data_root: options.DataRoot = None,
    evaluators: options.Evaluators = None,
    config: options.Config = None,
) -> None:
    """Edit a dataset with one or more methods, score the edits and print the table.

    Edits are stored batch by batch. The same command again makes only what is missing or has failed.
    """
    from piva_bench.runs.request import RunRequest, prepare

    methods = values.split(method)
    if not methods:
        raise UserError("Give at least one --method; `piva-bench list methods` shows them.")
    del config, evaluators  # their callbacks have done what they ask for
    prepared = prepare(
        RunRequest(
            methods=tuple(methods),
            dataset=dataset,
            profile=profile,
            params=values.parse_params(param or []),
            samples=tuple(values.split(sample or [])),
            limit=limit,
            seeds=tuple(values.parse_seeds(seed or ["0"])),
            model=model,
            data_root=data_root,
            output_dir=output_dir,
            overwrite=overwrite,
            device=device,
            dtype=dtype.value,
            batch_size=values.parse_batch_size(batch_size),
            compile=compile,
            channels_last=channels_last,
            keep_fields=keep_fields,
        )
    )
    if dry_run:
        _print_plan(prepared)
        return
    summary = _execute(prepared)
    if len(summary.failed) > fail_above * len(summary.records):
        raise typer.Exit(EXIT_FAILED_SAMPLES)


def _execute(prepared: Prepared) -> Summary:
    from piva_bench.cli.progress import open_progress
    from piva_bench.cli.report import write_and_print
    from piva_bench.runs import run as runs

    typer.echo(headline(prepared), err=True)
    try:
        with open_progress() as progress:
            summary = runs.run(prepared, progress, sys.argv[1:])
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted: finished batches are stored in {prepared.output_dir}; "
            "run the same command again to finish.",
            err=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    write_and_print(prepared.output_dir, prepared.profile.protocol, prepared.samples_by_id())
    print_summary(prepared, summary, prepared.output_dir / "report")
    return summary


def headline(prepared: Prepared) -> str:
    """What a run stands on, in one line, after lines on what its dataset leaves out and its model does not read."""
    setup = prepared.setup
    notes = "".join(f"{note}\n" for note in prepared.notes)
    return (
        f"{notes}profile {setup.profile} | dataset {setup.dataset}@{setup.dataset_revision[:8]}, "
        f"{len(prepared.samples)} of {len(prepared.dataset.samples)} samples | "
        f"model {setup.model}@{setup.model_fingerprint[:8]} | {setup.resolution} px, {setup.dtype}, "
        f"{prepared.device} | scores {prepared.profile.protocol}"
    )


def print_summary(prepared: Prepared, summary: Summary, report: Path) -> None:
    """What came of a run, and where its report lies."""
    failed = summary.failed
    for record in failed[:5]:
        typer.echo(f"failed: {record.method} on {record.sample_id}: {record.reason}", err=True)
    if len(failed) > 5:
        typer.echo(f"failed: {len(failed) - 5} more; see status and reason in the records", err=True)
    minutes, seconds = divmod(round(summary.seconds), 60)
    stored = len(summary.records) - summary.computed
    typer.echo(
        f"{len(summary.records)} edits: {summary.computed} computed, {stored} already stored, {len(failed)} failed; "
        f"{minutes}:{seconds:02d} min. Tables and pictures: {report}",
        err=True,
    )


def _print_plan(prepared: Prepared) -> None:
    from piva_bench.runs.estimate import estimate
    from piva_bench.runs.executor import find_work
    from piva_bench.runs.manifest import Manifest
    from piva_bench.runs.store import Store

    request = prepared.request
    Manifest(prepared.output_dir).join(prepared.setup)
    work = find_work(prepared.units, Store(prepared.output_dir, _warn), request.overwrite)
    typer.echo(headline(prepared))
    typer.echo(f"output {prepared.output_dir}")
    for variant in prepared.variants:
        given = (
            ", ".join(f"{name}={value}" for name, value in variant.params_dict().items()) or "no parameters"
        )
        alias = "" if variant.requested == variant.name else f" (asked for as {variant.requested})"
        typer.echo(f"  {variant.name}{alias}: {given}")
    typer.echo(
        f"{len(prepared.units)} edits: {len(work.done)} stored, {work.todo} to compute"
        + (f", {len(work.retries)} of them failed before" if work.retries else "")
    )
    estimates = estimate(
        [*work.missing, *work.retries],
        list(Store(prepared.output_dir).records().values()),
        prepared,
    )
    for one in estimates:
        typer.echo(f"  {one.variant.name}: {one.edits} edits, about {one.seconds:.0f} s (from {one.basis})")
    if estimates:
        typer.echo(f"about {sum(one.seconds for one in estimates) / 60:.1f} min in all, scoring not counted")


def _warn(line: str) -> None:
    typer.echo(f"warning: {line}", err=True)
