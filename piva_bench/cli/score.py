"""``piva-bench score``: score a finished run again."""

from __future__ import annotations

import typer

from piva_bench.cli import options, values
from piva_bench.cli.say import warn

EXAMPLES = """
[bold]Examples[/bold]

piva-bench score results/runs/paper-pie --protocol clean
"""


def score(
    run: options.RunDirectory = None,
    protocol: options.Protocol = None,
    data_root: options.DataRoot = None,
    evaluators: options.Evaluators = None,
) -> None:
    """Score the edits of a run, and write its report. Scores that are up to date are kept.

    Edits that somebody else made are scored by `piva-bench import`.
    """
    from piva_bench.cli.report import write_and_print
    from piva_bench.runs.follow import Follower
    from piva_bench.runs.run import rescore
    from piva_bench.runs.scoring import Scorer
    from piva_bench.runs.store import Store

    del evaluators  # its callback has put it where models are looked for
    directory = values.run_directory(run, warn)
    run_profile, samples = values.open_run(directory, data_root, warn)
    chosen = protocol or run_profile.protocol
    with Store(directory, warn) as store:
        scored, failed = rescore(store, Scorer(chosen, samples), warn)
    if address := values.place_of(run)[1]:
        Follower(address, directory, warn).finish()
    write_and_print(directory, chosen, samples)
    typer.echo(f"{scored} edits scored with {chosen}, {failed} failed edits have no score", err=True)
