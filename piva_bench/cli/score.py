"""``piva-bench score``: score a finished run again, or somebody else's edits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from piva_bench.cli import options, values

EXAMPLES = """
[bold]Examples[/bold]

piva-bench score results/runs/paper-pie --protocol clean

piva-bench score --edits their_output --name theirs --profile paper --data-root PIE-Bench.zip
"""

_EDITS = "Edits made elsewhere"


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
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", "-o", help="Where the run goes.", show_default="results/runs/<name>",
            rich_help_panel=_EDITS,
        ),
    ] = None,
) -> None:  # fmt: skip
    """Score the edits of a run, or of a folder (--edits), and write its report.

    Scores that are up to date are kept.
    """
    from piva_bench.cli.report import write_and_print
    from piva_bench.runs.run import rescore
    from piva_bench.runs.scoring import Scorer
    from piva_bench.runs.store import Store

    del evaluators  # its callback has put it where models are looked for
    if edits is not None:
        run = _take_in(edits, name or edits.resolve().name, dataset, profile, output_dir, data_root)
    directory = values.run_directory(run)
    run_profile, samples = values.open_run(directory, data_root)
    chosen = protocol or run_profile.protocol
    with Store(directory, _warn) as store:
        scored, failed = rescore(store, Scorer(chosen, samples), _warn)
    write_and_print(directory, chosen, samples)
    typer.echo(f"{scored} edits scored with {chosen}, {failed} failed edits have no score", err=True)


def _take_in(
    edits: Path, name: str, dataset: str, profile: str, output_dir: Path | None, data_root: Path | None
) -> Path:
    from piva_bench.profiles import get_profile
    from piva_bench.runs.foreign import import_edits
    from piva_bench.runs.request import open_dataset

    chosen = get_profile(profile)
    directory = output_dir or Path("results/runs") / name
    opened = open_dataset(dataset, chosen, data_root)
    found, missing = import_edits(
        edits, opened, chosen, name, directory, data_root, sys.argv[1:], _warn
    )  # fmt: skip
    typer.echo(
        f"{found} edits taken in from {edits}, {missing} samples without one; run {directory}", err=True
    )
    return directory


def _warn(line: str) -> None:
    typer.echo(f"warning: {line}", err=True)
