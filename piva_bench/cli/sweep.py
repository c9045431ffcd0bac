"""``piva-bench sweep``: a method over a grid of parameter values, and its trade-off curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.cli.run import execute, fail_if_many_failed, nothing_to_do, print_plan, print_summary
from piva_bench.cli.run_options import RunOptions, with_run_options
from piva_bench.errors import UserError

if TYPE_CHECKING:
    from piva_bench.report.plane import Axes
    from piva_bench.runs.run import Summary
    from piva_bench.runs.sweep import Sweep

BESIDE = "dds,sds"

EXAMPLES = """
[bold]Examples[/bold]

piva-bench sweep --method piva --param preservation_weight=0,0.1,0.4,0.7,0.8

piva-bench sweep --method piva --param preservation_weight=0,0.4,0.8 --param guidance_scale=3,7.5 --limit 20

Edits are stored as `run` stores them, in the same place and under the same keys: what a run or an earlier sweep
has made is not made again, and at preservation_weight 0 Piva is DDS's own record.

[bold]Exit codes[/bold]

0 done. 2 a mistake that one line explains. 3 done, but edits failed (see --fail-above).
130 interrupted, or --max-hours is over.
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
    typer.Option(
        "--beside",
        help="Methods to set beside the sweep, and the reference rows.",
        rich_help_panel="What to run",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="Metric of this axis of the curve.",
        show_default="the protocol's first headline metric of that kind",
        rich_help_panel="What to draw",
    ),
]


@with_run_options
def sweep(
    method: options.Method,
    param: Grid,
    common: RunOptions,
    beside: Beside = BESIDE,
    strength: Metric = None,
    identity: Metric = None,
) -> None:
    """Edit a dataset at every combination of parameter values; write a table and the trade-off curve.

    The curve sets edit strength against identity, with 95 % intervals, next to other methods and reference rows.
    """
    from piva_bench.report.plane import choose_axes
    from piva_bench.runs.lock import refuse_second_writer
    from piva_bench.runs.request import output_dir_of
    from piva_bench.runs.sweep import prepare_sweep

    grid = values.parse_grid(param)
    fixed = {name: choices[0] for name, choices in grid.items() if len(choices) == 1}
    request = common.request(values.split(method), fixed)
    if not common.dry_run:
        refuse_second_writer(output_dir_of(request))
    plan = prepare_sweep(
        request,
        {name: choices for name, choices in grid.items() if len(choices) > 1},
        values.split([beside]),
    )
    if nothing_to_do(plan.prepared):
        return
    if common.dry_run:
        print_plan(plan.prepared)
        return
    axes = choose_axes(plan.prepared.profile.protocol, strength, identity)
    summary = execute(plan.prepared, by_sample=True)
    _report(plan, axes, summary)
    fail_if_many_failed(summary, common.fail_above)


def _report(plan: Sweep, axes: Axes, summary: Summary) -> None:
    from rich.console import Console

    from piva_bench.report.sweep import write_sweep
    from piva_bench.report.terminal import print_table

    prepared = plan.prepared
    try:
        table, directory = write_sweep(plan, axes)
    except OSError as error:
        raise UserError(
            f"Cannot write below {prepared.output_dir / 'report'}: {error.strerror or error}. "
            "Mend this and run the same command again."
        ) from error
    print_table(table, Console())
    print_summary(prepared, summary, directory)
