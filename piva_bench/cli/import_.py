"""``piva-bench import``: score edits that somebody else made."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.cli.say import warn
from piva_bench.cli.score import score
from piva_bench.paths import absolute

if TYPE_CHECKING:
    from piva_bench.runs.foreign import Imported, Origin

EXAMPLES = """
[bold]Examples[/bold]

piva-bench import their_output --name theirs --data-root PIE-Bench.zip

piva-bench import kv_edit --name kv-edit --mask own --seed 42 --paper 2502.17363 --data-root PIE-Bench.zip
"""

SHOWN = 5
"""Reasons printed, at most."""


class Mask(StrEnum):
    """What the edits were told of where they belong."""

    none = "none"
    own = "own"
    end = "end"
    steps = "steps"


def import_(
    edits: Annotated[
        Path, typer.Argument(help="Folder of edits in PIE-Bench's layout, plain pictures or strips.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What tables call them.", show_default="the folder's name")
    ] = None,
    mask: Annotated[
        Mask | None,
        typer.Option(
            "--mask",
            help="What they knew of the edit mask: none; own, the method reads it; end or steps, the source was put "
            "back outside it in the finished picture or in every step. Decides the section of the table.",
            show_default="not known",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed they were made with.")] = 0,
    paper: Annotated[
        str | None, typer.Option("--paper", help="arXiv number or another reference, kept in the manifest.")
    ] = None,
    strips: Annotated[
        bool,
        typer.Option(
            "--strips",
            help="Pictures that are not square are strips whose last panel is the edit. Three or more whole "
            "panels are taken for a strip without it.",
        ),
    ] = False,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="What was edited.")] = "pie",
    profile: Annotated[str, typer.Option("--profile", "-p", help="At which resolution.")] = "paper",
    protocol: options.Protocol = None,
    data_root: options.DataRoot = None,
    evaluators: options.Evaluators = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Where the run goes.", show_default="results/runs/<name>"),
    ] = None,
) -> None:
    """Take in edits that were made elsewhere as a method of their own, score them, and write the report.

    Several folders with one --output-dir share a table. Exits with 3 if a picture cannot be used.
    """
    from piva_bench.cli.run import EXIT_FAILED_SAMPLES
    from piva_bench.runs.foreign import Origin

    del evaluators  # its callback has put it where models are looked for
    name = name or absolute(edits).name
    values.check_text("--name", name)
    values.check_text("--paper", paper or "none")
    directory = output_dir or Path("results/runs") / name
    origin = Origin(name, seed, mask.value if mask else None, paper)
    imported = _take_in(edits, origin, dataset, profile, directory, data_root, strips)
    score(str(directory), protocol, data_root)
    if imported.unusable:
        raise typer.Exit(EXIT_FAILED_SAMPLES)


def _take_in(
    edits: Path,
    origin: Origin,
    dataset: str,
    profile: str,
    directory: Path,
    data_root: Path | None,
    strips: bool,
) -> Imported:
    from piva_bench.profiles import get_profile
    from piva_bench.runs.foreign import import_edits
    from piva_bench.runs.request import open_dataset

    chosen = get_profile(profile)
    opened = open_dataset(dataset, chosen, data_root)
    imported = import_edits(
        edits, opened, chosen, origin, directory, data_root, sys.argv[1:], warn, strips
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
