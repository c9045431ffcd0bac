"""``piva-bench merge``: runs made in several places as one."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from piva_bench.cli import values
from piva_bench.cli.say import warn
from piva_bench.errors import UserError

EXAMPLES = """
[bold]Example[/bold]

piva-bench merge results/runs/here results/runs/there -o results/runs/all

piva-bench report results/runs/all

piva-bench merge results/runs/grid -o s3://bucket/grid

piva-bench merge s3://bucket/grid -o results/runs/grid
"""


def merge(
    runs: Annotated[
        list[str], typer.Argument(help="Output directories of runs, or addresses (s3://bucket/run).")
    ],
    output_dir: Annotated[
        str, typer.Option("--output-dir", "-o", help="Where all of it goes; may hold edits already.")
    ],
) -> None:
    """Join runs that were made in several places; every file is checked, the runs stay as they are.

    Of two records of one edit the newer is taken. Runs of unlike set-ups are refused. Folders are put into an object
    store by giving its address for --output-dir; many may do so at once.
    """
    from piva_bench.address import Address, is_address
    from piva_bench.runs.merge import merge as merge_runs
    from piva_bench.runs.remote import pull

    if is_address(output_dir):
        _push_all(runs, output_dir)
        return
    with tempfile.TemporaryDirectory(prefix="piva-bench-") as temporary:
        sources: list[Path] = []
        manifests: list[Path] = []
        for index, run in enumerate(runs):
            if is_address(run):
                folders, more = pull(Address(run), Path(temporary) / str(index), warn)
                sources += folders
                manifests += more
            else:
                sources += values.run_folders(run)
        merged = merge_runs(sources, Path(output_dir), sys.argv[1:], warn, manifests)
    typer.echo(
        f"{merged.edits} edits in {output_dir}: {merged.taken} taken from {len(runs)} runs, {merged.damaged} damaged "
        "and missing",
        err=True,
    )


def _push_all(runs: list[str], output_dir: str) -> None:
    from piva_bench.address import Address, is_address
    from piva_bench.runs.remote import push

    to = Address(output_dir)
    if away := [run for run in runs if is_address(run)]:
        raise UserError(f"{away[0]} is an address, too: merge it into a folder first.")
    for run in runs:
        count = sum(push(folder, to, warn) for folder in values.run_folders(run))
        typer.echo(f"{count} edits of {run} put into {to.url}", err=True)
