"""``piva-bench score``: score a finished run again, or somebody else's edits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.cli.say import warn
from piva_bench.paths import absolute

if TYPE_CHECKING:
    from piva_bench.runs.foreign import Imported

EXAMPLES = """
[bold]Examples[/bold]

piva-bench score results/runs/paper-pie --protocol clean

piva-bench score --edits their_output --name theirs --profile paper --data-root PIE-Bench.zip
"""

_EDITS = "Edits made elsewhere"

SHOWN = 5
"""Reasons printed, at most."""


def score(
    run: options.RunDirectory = None,
    protocol: options.Protocol = None,
    data_root: options.DataRoot = None,
    evaluators: options.Evaluators = None,
    edits: Annotated[
        Path | None,
        typer.Option(
            "--edits",
            help="Folder of edits in PIE-Bench's layout; they are taken into a run of their own.",
            rich_help_panel=_EDITS,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="What tables call them.", show_default="the folder's name", rich_help_panel=_EDITS
        ),
    ] = None,
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="What was edited.", rich_help_panel=_EDITS)
    ] = "pie",
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="At which resolution.", rich_help_panel=_EDITS)
    ] = "paper",
    strips: Annotated[
        bool,
        typer.Option(
            "--strips",
            help="Pictures that are not square are strips whose last panel is the edit. Three or more whole "
            "panels are taken for a strip without it.",
            rich_help_panel=_EDITS,
        ),
    ] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", "-o", help="Where the run goes.", show_default="results/runs/<name>",
            rich_help_panel=_EDITS,
        ),
    ] = None,
) -> None:  # fmt: skip
    """Score the edits of a run, or of a folder (--edits), and write its report.

    Scores that are up to date are kept. Exits with 3 if a picture of --edits cannot be used.
    """
    from piva_bench.cli.report import write_and_print
    from piva_bench.cli.run import EXIT_FAILED_SAMPLES
    from piva_bench.runs.run import rescore
    from piva_bench.runs.scoring import Scorer
    from piva_bench.runs.store import Store

    del evaluators  # its callback has put it where models are looked for
    imported = None
    if edits is not None:
        name = name or absolute(edits).name
        values.check_text("--name", name)
        run = output_dir or Path("results/runs") / name
        imported = _take_in(edits, name, dataset, profile, run, data_root, strips)
    directory = values.run_directory(run)
    run_profile, samples = values.open_run(directory, data_root, warn)
    chosen = protocol or run_profile.protocol
    with Store(directory, warn) as store:
        scored, failed = rescore(store, Scorer(chosen, samples), warn)
    write_and_print(directory, chosen, samples)
    typer.echo(f"{scored} edits scored with {chosen}, {failed} failed edits have no score", err=True)
    if imported is not None and imported.unusable:
        raise typer.Exit(EXIT_FAILED_SAMPLES)


def _take_in(
    edits: Path, name: str, dataset: str, profile: str, directory: Path, data_root: Path | None, strips: bool
) -> Imported:
    from piva_bench.profiles import get_profile
    from piva_bench.runs.foreign import import_edits
    from piva_bench.runs.request import open_dataset

    chosen = get_profile(profile)
    opened = open_dataset(dataset, chosen, data_root)
    imported = import_edits(
        edits, opened, chosen, name, directory, data_root, sys.argv[1:], warn, strips
    )  # fmt: skip
    for sample, reason in list(imported.unusable.items())[:SHOWN]:
        typer.echo(f"unusable: {sample}: {reason}", err=True)
    if len(imported.unusable) > SHOWN:
        typer.echo(f"unusable: {len(imported.unusable) - SHOWN} more; see the records' reasons", err=True)
    typer.echo(
        f"{imported.taken} edits taken in from {edits}, {imported.missing} samples without one, "
        f"{len(imported.unusable)} with one that cannot be used; run {directory}",
        err=True,
    )
    return imported
