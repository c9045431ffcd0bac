"""``piva-bench reproduce``: edits of a finished run made again, and what differs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from piva_bench.cli import options, values
from piva_bench.cli.say import warn
from piva_bench.errors import UserError
from piva_bench.text import one_line

if TYPE_CHECKING:
    from piva_bench.runs.reproduce import Difference
    from piva_bench.runs.request import RunRequest

EXIT_DIFFERENT = 3

EXAMPLES = """
[bold]Examples[/bold]

piva-bench reproduce results/reference/embedded-pie --limit 8

piva-bench reproduce their_run --method my_method.py:MyMethod --data-root PIE-Bench.zip

[bold]Exit codes[/bold]

0 all agree within the tolerance. 2 a mistake that one line explains. 3 something differs beyond it.
"""

SHOWN = 10
"""Edits that differ which are printed, at most."""


def reproduce(
    run: options.RunDirectory = None,
    limit: options.Limit = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            callback=options.say_files,
            help="file.py:Class of a method that came from a file; a run's own word is not taken for it.",
        ),
    ] = None,
    pixels: Annotated[
        float,
        typer.Option(
            "--tolerance", min=0, help="Mean difference of a picture's values, of 255, that is none."
        ),
    ] = 1.0,
    device: options.Device = "auto",
    workers: options.Workers = "auto",
    model: options.Model = None,
    data_root: options.DataRoot = None,
    evaluators: options.Evaluators = None,
) -> None:
    """Make edits of a finished run again, in a temporary folder, and say what differs and by how much.

    A score differs if it moved by more than 1 % and by more than 0.01 of the unit of tables.
    """
    from piva_bench.cli.progress import open_progress
    from piva_bench.cli.run import interruptible
    from piva_bench.runs.reproduce import lay_out, make_again, what_changed
    from piva_bench.runs.store import Store

    del evaluators  # its callback has put it where models are looked for
    directory = values.run_directory(run, warn)
    request, noted = _request(directory, device, workers, model, data_root)
    store = Store(directory, warn)
    with tempfile.TemporaryDirectory(prefix="piva-bench-") as temporary:
        request = request.model_copy(update={"output_dir": Path(temporary) / "again"})
        prepared, found = lay_out(store, request, values.split(files or []), limit)
        for line in what_changed(noted, prepared, found):
            typer.echo(f"otherwise: {one_line(line)}")
        with interruptible(), open_progress() as progress:
            differences = list(make_again(store, prepared, found, progress, sys.argv[1:]))
    _print(differences, pixels)
    if any(one.beyond(pixels) for one in differences):
        raise typer.Exit(EXIT_DIFFERENT)


def _request(
    directory: Path, device: str, workers: str, model: str | None, data_root: Path | None
) -> tuple[RunRequest, dict[str, Any]]:
    """What was asked for, as far as manifest and records say, and the manifest's entry of the last run."""
    from piva_bench.profiles import get_profile, resolve_model
    from piva_bench.runs.manifest import Manifest
    from piva_bench.runs.request import RunRequest, model_fingerprint

    profile, _ = values.open_run(directory, data_root, warn)
    manifest = Manifest(directory, warn)
    setup = manifest.setup
    assert setup is not None, "open_run has looked"
    chosen = model or get_profile(profile.name).model
    if (here := model_fingerprint(resolve_model(chosen))) != setup.model_fingerprint:
        raise UserError(
            f"{directory} was made with the model {setup.model} ({setup.model_fingerprint}), and {chosen} is {here}: "
            "name the right one with --model."
        )
    noted = manifest.last_run()
    together = noted.get("edits_together")
    request = RunRequest(
        methods=("-",),
        dataset=setup.dataset,
        profile=setup.profile,
        model=model,
        data_root=data_root or manifest.data_root,
        device=device,
        dtype=setup.dtype,  # type: ignore[arg-type]
        batch_size=together if isinstance(together, int) and together > 0 else "auto",
        compile=noted.get("compile") is True,
        channels_last=noted.get("channels_last") is True,
        workers=values.parse_count("--workers", workers),
    )
    return request, noted


def _print(differences: Sequence[Difference], pixels: float) -> None:
    """A line for each method, the edits that differ most, and the sum."""
    for method in sorted({one.record.method for one in differences}):
        of = [one for one in differences if one.record.method == method]
        typer.echo(
            f"{one_line(method)}: {_alike(of)}; pixels differ by {max(one.mean for one in of):.3g} of 255 on average "
            f"in the worst, by {max(one.largest for one in of)} at most{_scores(of)}"
        )
    beyond = [one for one in differences if one.beyond(pixels)]
    for one in sorted(beyond, key=lambda one: -one.mean)[:SHOWN]:
        what = one.fault or ", ".join(
            [f"pixels by {one.mean:.3g} of 255 on average", *(f"the score {name}" for name in one.moved)]
        )
        typer.echo(f"differs: {one_line(f'{one.record.method} on {one.record.sample_id}: {what}')}")
    if len(beyond) > SHOWN:
        typer.echo(f"differs: {len(beyond) - SHOWN} more")
    typer.echo(
        f"made again: {_alike(differences)}; {len(differences) - len(beyond)} within the tolerance ({pixels:g} of 255, "
        f"scores 1 %), {len(beyond)} beyond it"
    )


def _alike(of: Sequence[Difference]) -> str:
    return f"{len(of)} edits, {sum(one.fault is None and not one.largest for one in of)} with equal pictures"


def _scores(of: Sequence[Difference]) -> str:
    """The metrics that moved furthest, with how far."""
    largest: dict[str, float] = {}
    for one in of:
        for name, gap in (one.scores or {}).items():
            largest[name] = max(largest.get(name, 0.0), gap)
    worst = sorted((item for item in largest.items() if item[1]), key=lambda item: -item[1])[:3]
    return "".join(f"; {one_line(name)} by {gap:.3g}" for name, gap in worst) or "; scores are equal"
