"""``piva-bench merge``: runs made in several places as one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from piva_bench.cli import values
from piva_bench.cli.say import warn

EXAMPLES = """
[bold]Example[/bold]

piva-bench merge results/runs/embedded-pie-shard-* -o results/runs/embedded-pie

piva-bench report results/runs/embedded-pie
"""


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Output directories of runs.")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Where all of it goes; may hold edits already.")
    ],
) -> None:
    """Join runs that were made in several places; every file is checked, the runs stay as they are.

    Of two records of one edit the newer is taken. Runs of unlike set-ups are refused.
    """
    from piva_bench.runs.merge import merge as merge_runs

    merged = merge_runs([values.run_directory(run) for run in runs], output_dir, sys.argv[1:], warn)
    typer.echo(
        f"{merged.edits} edits in {output_dir}: {merged.taken} taken from {len(runs)} runs, {merged.damaged} damaged "
        "and missing",
        err=True,
    )
