"""``piva-bench score``: score a finished run again, with another protocol or new evaluators."""

from __future__ import annotations

import typer

from piva_bench.cli import options, values


def score(
    run: options.RunDirectory = None,
    protocol: options.Protocol = None,
    data_root: options.DataRoot = None,
) -> None:
    """Score the edits of a run and rewrite its report. Scores that are up to date are kept."""
    from piva_bench.cli.report import write_and_print
    from piva_bench.runs.run import rescore
    from piva_bench.runs.scoring import Scorer
    from piva_bench.runs.store import Store

    directory = values.run_directory(run)
    profile, samples = values.open_run(directory, data_root)
    name = protocol or profile.protocol
    with Store(directory, _warn) as store:
        scored, failed = rescore(store, Scorer(name, store, samples, _warn))
    write_and_print(directory, name, samples)
    typer.echo(f"{scored} edits scored with {name}, {failed} failed edits have no score", err=True)


def _warn(line: str) -> None:
    typer.echo(f"warning: {line}", err=True)
