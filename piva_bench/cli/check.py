"""``piva-bench check``: does a plug-in keep to its contract?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

EXIT_FAULTS = 1

app = typer.Typer(help="Check a plug-in against its contract.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def method(name: Annotated[str, typer.Argument(help="Name or file.py:Class.")]) -> None:
    """Run the conformance suite on a method, on a tiny random model: a line for each check.

    Exit code 1 if one fails; a warning is no failure.
    """
    from piva_bench.conformance.method_checks import check_method
    from piva_bench.conformance.tiny_model import make_tiny_sd
    from piva_bench.diffusion.checkpoint import quiet
    from piva_bench.diffusion.load import load_denoiser
    from piva_bench.registry import METHODS
    from piva_bench.runs.blame import describe

    cls, faults = METHODS.load(name), 0
    with tempfile.TemporaryDirectory() as folder:
        with quiet():
            model = make_tiny_sd(Path(folder) / "model")
        denoiser = load_denoiser(model)
        for finding in check_method(cls, denoiser):
            if finding.fault is not None:
                faults += 1
                typer.echo(
                    f"FAILED   {finding.says}: {describe(finding.error) if finding.error else finding.fault}"
                )
            elif finding.advice is not None:
                typer.echo(f"warning  {finding.says}: {finding.advice}")
            elif finding.skipped is not None:
                typer.echo(f"skipped  {finding.says}: {finding.skipped}")
            else:
                typer.echo(f"ok       {finding.says}")
    if faults:
        raise typer.Exit(EXIT_FAULTS)
