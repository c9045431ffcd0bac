"""The application: its commands, and what an error looks like."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from piva_bench import __version__, prepare, streams
from piva_bench.cli import (
    check,
    compare,
    data,
    describe,
    doctor,
    edit,
    edit3d,
    import_,
    list_,
    merge,
    models,
    new,
    profile,
    render3d,
    report,
    reproduce,
    run,
    score,
    studio,
    sweep,
    tune,
    view3d,
)
from piva_bench.cli.say import show_warnings_in_a_line
from piva_bench.errors import UserError
from piva_bench.runs.blame import TRACEBACK
from piva_bench.text import one_line

EXIT_USER_ERROR = 2

app = typer.Typer(
    name="piva-bench",
    help="Benchmark for identity-preserving, text-guided editing by score distillation.",
    epilog="Start with:  piva-bench run --method piva --dataset pie --limit 8",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("sweep", epilog=sweep.EXAMPLES)(sweep.sweep)
app.command("tune", epilog=tune.EXAMPLES)(tune.tune)
app.command("edit", epilog=edit.EXAMPLES)(edit.edit)
app.command("edit3d", epilog=edit3d.EXAMPLES)(edit3d.edit3d)
app.command("view3d", epilog=view3d.EXAMPLES)(view3d.view3d)
app.command("render3d", epilog=render3d.EXAMPLES)(render3d.render3d)
app.command("list")(list_.list_)
app.command("describe")(describe.describe)
app.command("doctor")(doctor.doctor)
app.command("report")(report.report)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("reproduce", epilog=reproduce.EXAMPLES)(reproduce.reproduce)
app.command("merge", epilog=merge.EXAMPLES)(merge.merge)
app.command("profile", epilog=profile.EXAMPLES)(profile.profile)
app.command("score", epilog=score.EXAMPLES)(score.score)
app.command("import", epilog=import_.EXAMPLES)(import_.import_)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(new.app, name="new")
app.add_typer(check.app, name="check")
app.add_typer(studio.app, name="studio")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"piva-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Of errors also print where they were raised.")
    ] = False,
) -> None:
    if show_traceback:
        os.environ[TRACEBACK] = "1"  # worker processes inherit it


def main() -> None:
    """Runs the command line; a ``UserError`` becomes one line and exit code 2."""
    show_warnings_in_a_line()
    prepare()
    try:
        with streams.prepared():
            app()
    except KeyboardInterrupt:  # before a command has begun, or after it has ended
        typer.echo("interrupted", err=True)
        sys.exit(run.EXIT_INTERRUPTED)
    except UserError as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        typer.echo(f"error: {one_line(error)}", err=True)
        sys.exit(EXIT_USER_ERROR)
