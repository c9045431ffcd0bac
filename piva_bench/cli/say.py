"""What commands say beside their results: a line each on standard error."""

from __future__ import annotations

import sys
import warnings

import typer

from piva_bench.text import one_line

_told: set[str] = set()


def warn(line: str) -> None:
    """A warning, once however often it is found."""
    if line not in _told:
        _told.add(line)
        typer.echo(f"warning: {one_line(line)}", err=True)


def show_warnings_in_a_line() -> None:
    """Has libraries' warnings look like ours, without lines of their source."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        sys.stderr.write(f"warning: {one_line(message)}\n")

    _told.clear()
    warnings.showwarning = show
