"""``piva-bench compare``: what differs between two runs or two methods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.cli.say import warn
from piva_bench.errors import UserError

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.report.compare import Change

EXAMPLES = """
[bold]Examples[/bold]

piva-bench compare dds piva                                    two methods of the only run

piva-bench compare results/runs/before results/runs/after      every method that both runs have

piva-bench compare results/runs/a:dds results/runs/b:piva      any two
"""

What = Annotated[str, typer.Argument(help="A run's output directory, a method of --run, or RUN:METHOD.")]


def compare(
    first: What,
    second: What,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="The run that bare method names belong to.",
            show_default="the only one below results/runs",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="What ranks the samples that moved.", show_default="the headline metrics"
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="Samples on the sheet of pictures.")
    ] = 12,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            help="Where Markdown, CSV and sheets go.",
            show_default="results/runs/compare/<first>_vs_<second>",
        ),
    ] = None,
    protocol: options.Protocol = None,
    data_root: options.DataRoot = None,
) -> None:
    """Compare two runs or methods: set-up, scores with intervals, and the samples that moved most, with pictures.

    All differences are the second minus the first, on the same samples and seeds.
    """
    from piva_bench.files import png_bytes, write_atomic
    from piva_bench.report.compare import (
        change_markdown,
        common_variants,
        find_change,
        load_side,
        moved_sheet,
    )
    from piva_bench.report.formats import csv_text

    (here, this), (there, that) = (_resolve(text, run) for text in (first, second))
    if (this is None) != (that is None):
        raise UserError("Compare two runs or two methods: name a method on both sides, as RUN:METHOD.")
    names = (
        [(this, that)] if this and that else [(n, n) for n in common_variants(here, there, protocol, warn)]
    )
    directory = output_dir or Path("results/runs/compare") / f"{_file_name(first)}_vs_{_file_name(second)}"
    samples = _samples(there, data_root)
    texts = []
    for one, other in names:
        change = find_change(
            load_side(here, one, protocol, warn), load_side(there, other, protocol, warn), metric
        )
        _print(change)
        texts.append(change_markdown(change))
        stem = _file_name(other if one == other else f"{one}_vs_{other}")
        try:
            write_atomic(directory / f"{stem}.csv", csv_text(change.scores).encode())
            if len(change.moved):
                write_atomic(directory / f"{stem}.png", png_bytes(moved_sheet(change, samples, limit, warn)))
            write_atomic(directory / "compare.md", "\n".join(texts).encode())
        except OSError as error:
            raise UserError(
                f"Cannot write {directory}: {error.strerror or error}. Give --output-dir."
            ) from error
    typer.echo(f"Tables and pictures: {directory}", err=True)


def _resolve(text: str, run: str | None) -> tuple[Path, str | None]:
    """A directory, and the method in it that is meant; None for all."""
    from piva_bench.address import is_address

    if is_address(text):
        url, colon, method = text.rpartition(":")
        method = "" if method.startswith("//") else method
        return values.run_directory(url if colon and method else text, warn), method or None
    if values.holds_run(Path(text)):
        return values.run_directory(text, warn), None
    folder, colon, method = text.partition(":")
    if colon and values.holds_run(Path(folder)):
        return values.run_directory(folder, warn), method
    if "/" in text:
        raise UserError(f"{text} is no run: give the --output-dir of a `piva-bench run`, or RUN:METHOD.")
    return values.run_directory(run, warn), text


def _samples(directory: Path, data_root: Path | None) -> dict[str, Sample]:
    try:
        return values.open_run(directory, data_root, warn)[1]
    except UserError as error:
        warn(f"no sources on the sheets: {error}")
        return {}


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", Path(text).name if "/" in text else text).strip("-.") or "run"


def _print(change: Change) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from piva_bench.report.compare import score_cells

    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    title = f"{change.second.label} against {change.first.label}"
    console.print(Text(title, style="bold"))
    setup = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("set-up", "first", "second"):
        setup.add_column(name)
    for row in change.setup:
        setup.add_row(*map(Text, row))
    console.print(setup if change.setup else Text("The set-up is the same.", style="dim"))
    if change.obstacle:
        console.print(Text(f"Scores are not compared: {change.obstacle}."))
        return
    scores = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Metric", "Difference", "95 % interval", "p (Holm)", "N", ""):
        scores.add_column(name, justify="left" if name in ("Metric", "") else "right", no_wrap=True)
    for cells in score_cells(change):
        scores.add_row(*map(Text, cells))
    console.print(scores)
    console.print(Text(f"moved most: {', '.join(change.moved.index[:5]) or 'none'}", style="dim"))
    console.print()
