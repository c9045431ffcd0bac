"""``piva-bench sweep``: a method over a grid of parameter values, and its trade-off curve."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.cli.run import EXIT_FAILED_SAMPLES, EXIT_INTERRUPTED, headline, print_summary
from piva_bench.errors import UserError

if TYPE_CHECKING:
    from piva_bench.runs.run import Summary
    from piva_bench.runs.sweep import Sweep

BESIDE = "dds,sds,identity,vae_roundtrip,counterfactual"

EXAMPLES = """
[bold]Examples[/bold]

piva-bench sweep --method piva --param preservation_weight=0,0.1,0.4,0.7,0.8

piva-bench sweep --method piva --param preservation_weight=0,0.4,0.8 --param guidance_scale=3,7.5 --limit 20

Edits are stored as `run` stores them, in the same place and under the same keys: what a run or an earlier sweep
has made is not made again, and at preservation_weight 0 Piva is DDS's own record.

[bold]Exit codes[/bold]

0 done. 2 a mistake that one line explains. 3 done, but edits failed (see --fail-above). 130 interrupted.
"""

Grid = Annotated[
    list[str],
    typer.Option(
        "--param",
        metavar="NAME=V1,V2,...",
        help="Values of a parameter; repeated, every combination. One value sets it for all methods.",
        rich_help_panel="What to run",
    ),
]
Beside = Annotated[
    str,
    typer.Option("--beside", help="Methods to set beside the sweep.", rich_help_panel="What to run"),
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="Metric of this axis of the curve.",
        show_default="the protocol's first headline metric of that kind",
        rich_help_panel="What to draw",
    ),
]


def sweep(
    method: options.Method,
    param: Grid,
    dataset: options.Dataset = "pie",
    profile: options.ProfileName = "embedded",
    beside: Beside = BESIDE,
    limit: options.Limit = None,
    sample: options.SampleIds = None,
    seed: options.Seed = None,
    strength: Metric = None,
    identity: Metric = None,
    device: options.Device = "auto",
    dtype: options.Precision = options.Dtype.float32,
    batch_size: options.BatchSize = "auto",
    compile: options.Compile = False,
    channels_last: options.ChannelsLast = False,
    overwrite: options.Overwrite = False,
    fail_above: options.FailAbove = 0.0,
    output_dir: options.OutputDir = None,
    model: options.Model = None,
    data_root: options.DataRoot = None,
    config: options.Config = None,
) -> None:
    """Edit a dataset at every combination of parameter values; write a table and the trade-off curve.

    The curve sets edit strength against identity, with 95 % intervals, next to other methods and reference rows.
    """
    from piva_bench.runs.request import RunRequest, output_dir_of
    from piva_bench.runs.store import refuse_second_writer
    from piva_bench.runs.sweep import prepare_sweep

    refuse_second_writer(output_dir_of(output_dir, profile, dataset))
    del config  # its callback has made it the defaults of the others
    grid = values.parse_grid(param)
    fixed = {name: choices[0] for name, choices in grid.items() if len(choices) == 1}
    plan = prepare_sweep(
        RunRequest(
            methods=tuple(values.split(method)),
            dataset=dataset,
            profile=profile,
            params=fixed,
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
        ),
        {name: choices for name, choices in grid.items() if len(choices) > 1},
        values.split([beside]),
    )
    summary = _execute(plan, strength, identity)
    if len(summary.failed) > fail_above * len(summary.records):
        raise typer.Exit(EXIT_FAILED_SAMPLES)


def _execute(plan: Sweep, strength: str | None, identity: str | None) -> Summary:
    from rich.console import Console

    from piva_bench.cli.progress import open_progress
    from piva_bench.report.sweep import choose_axes, write_sweep
    from piva_bench.report.terminal import print_table
    from piva_bench.runs import run as runs

    prepared = plan.prepared
    axes = choose_axes(prepared.profile.protocol, strength, identity)
    typer.echo(headline(prepared), err=True)
    try:
        with open_progress() as progress:
            summary = runs.run(prepared, progress, sys.argv[1:], by_sample=True)
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted: finished batches are stored in {prepared.output_dir}; "
            "run the same command again to finish.",
            err=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    try:
        table, directory = write_sweep(plan, axes)
    except OSError as error:
        raise UserError(
            f"Cannot write below {prepared.output_dir / 'report'}: {error.strerror or error}. "
            "Mend this and run the same command again."
        ) from error
    print_table(table, Console())
    print_summary(prepared, summary, directory)
    return summary
