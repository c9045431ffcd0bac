"""``piva-bench report``: page, tables, figures and gallery of a run, from its records alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from piva_bench.cli import options, values
from piva_bench.cli.say import warn
from piva_bench.errors import UserError

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample


def report(
    run: options.RunDirectory = None,
    protocol: options.Protocol = None,
    data_root: options.DataRoot = None,
) -> None:
    """Write a run's report again (page, tables, comparisons, figures, gallery), and print the table."""
    from piva_bench.runs.store import Store

    directory = values.run_directory(run, warn)
    profile, samples = values.open_run(directory, data_root, warn)
    store = Store(directory, warn)
    for record in Store(directory).records().values():
        store.is_whole(record)
    write_and_print(directory, protocol or profile.protocol, samples)


def write_and_print(directory: Path, protocol: str, samples: Mapping[str, Sample]) -> None:
    """Writes ``<directory>/report/`` and prints the table by method.

    Args:
        directory: the run.
        protocol: whose scores to show.
        samples: the dataset's samples by id; for the contact sheet.

    Raises:
        UserError: there is nothing to show, or the files cannot be written.
    """
    from rich.console import Console

    from piva_bench.report.terminal import print_table
    from piva_bench.report.turntables import write_turntables
    from piva_bench.report.write import write_report

    try:
        write_turntables(directory, samples, warn)
        written = write_report(directory, samples, protocol, warn)
    except OSError as error:
        raise UserError(
            f"Cannot write {directory / 'report'}: {error.strerror or error}. Mend this and run `piva-bench report`."
        ) from error
    print_table(written.methods, Console())
    if written.note:
        typer.echo(written.note, err=True)
