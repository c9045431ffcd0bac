"""``piva-bench tune``: a method's defaults, chosen on a validation set."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.cli.run import execute
from piva_bench.cli.run_options import RunOptions
from piva_bench.errors import UserError

if TYPE_CHECKING:
    from piva_bench.report.tuning import Tune
    from piva_bench.runs.request import Prepared, RunRequest
    from piva_bench.runs.tuning import Candidate, Trial

UNCHANGED = "identity"
"""The method that changes nothing."""

EXAMPLES = """
[bold]Examples[/bold]

piva-bench tune --method piva

piva-bench tune --method dds --dataset objaverse_val

piva-bench tune --method piva --param preservation_weight=0.1,0.4,1.6 --param steps=50,100 --budget 400000

Every setting edits an eighth of the samples, the better half twice as many, and so on. Edits are stored as `run` stores
them, under the same keys: a killed tune goes on, and a second one finds everything and chooses the same.

[bold]Exit codes[/bold]

0 done. 2 a mistake that one line explains. 130 interrupted.
"""

Method = Annotated[
    str,
    typer.Option(
        "--method", "-m", callback=options.say_files, help="A name from `piva-bench list`, or file.py:Class."
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        min=1,
        help="UNet evaluations to spend, a backward pass counted as two; two settings are tried in any case.",
        show_default="160000 for pictures, 80000 for scenes",
    ),
]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=V1,V2,...",
        help="Values to try instead of those the method declares; one value sets the parameter.",
        show_default="the method's strength and what it declares to be tuned",
    ),
]


def tune(
    method: Method,
    dataset: options.Dataset = "pie_val",
    param: Grid = None,
    budget: Budget = None,
    profile: options.ProfileName = "embedded",
    limit: options.Limit = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the edits, and of the order of trials.")] = 0,
    device: options.Device = "auto",
    dtype: options.Precision = options.Dtype.float32,
    workers: options.Workers = "auto",
    batch_size: options.BatchSize = "auto",
    model: options.Model = None,
    output_dir: options.OutputDir = None,
) -> None:
    """Choose a method's strength and tunables on a validation set, by one criterion for all methods.

    The criterion is the distance to the exact counterfactual among settings that edit at least every other time. What
    was tried and chosen goes to results/tuning/METHOD-DATASET.{csv,json,md}; profiles take their defaults from there.
    """
    from piva_bench.runs.lock import refuse_second_writer
    from piva_bench.runs.request import output_dir_of
    from piva_bench.runs.tuning import check_dataset

    check_dataset(dataset)
    grid = values.parse_grid(param or [])
    common = RunOptions(
        dataset=dataset, profile=profile, limit=limit, seed=[str(seed)], device=device, dtype=dtype, workers=workers,
        batch_size=batch_size, model=model, output_dir=output_dir,
    )  # fmt: skip
    request = common.request([method], {})
    refuse_second_writer(output_dir_of(request))
    _report(_Search(request, grid, budget, seed).run())


class _Search:
    """The rounds of one tune."""

    def __init__(
        self, request: RunRequest, grid: dict[str, list[object]], budget: int | None, seed: int
    ) -> None:
        from piva_bench.runs import tuning
        from piva_bench.runs.kinds import kind_of_samples
        from piva_bench.runs.plan import select_samples
        from piva_bench.runs.request import open_both
        from piva_bench.runs.variants import resolve_variants

        self.request, self.seed, self.opened = request, seed, open_both(request)
        profile, dataset = self.opened
        self.method, self.kind = request.methods[0], kind_of_samples(dataset.samples).name
        tuning.distance_of(profile.protocol)
        self.budget = budget or tuning.BUDGET[self.kind]
        self.fixed = {name: given[0] for name, given in grid.items() if len(given) == 1}
        self.space = tuning.search_space(self.method, grid, self.kind)
        self.tried = tuning.candidates(self.method, self.space, self.fixed, profile, self.kind, seed)
        self.samples = select_samples(dataset.samples, (), request.limit)
        (unchanged,) = resolve_variants([UNCHANGED], {}, profile, self.kind)
        self.unchanged = tuning.Candidate({}, unchanged, {})
        self.whole = not grid and request.limit is None and request.model is None and seed == 0

    def run(self) -> Tune:
        """All rounds."""
        from piva_bench.registry import METHODS
        from piva_bench.report.tuning import Tune
        from piva_bench.runs import tuning

        rounds = tuning.sizes(len(self.samples))
        source, (first,), prepared = self._round(self.tried[:1], rounds[0])
        cost = first.evaluations / len(first.distance)
        count = tuning.affordable(self.budget, cost, len(self.tried), len(self.samples))
        most = tuning.edits(count, len(self.samples))
        typer.echo(
            f"{count} of {len(self.tried)} settings on {', '.join(map(str, rounds))} samples: at most {most} edits, "
            f"about {most * cost:.0f} of {self.budget} UNet evaluations",
            err=True,
        )
        trials: dict[str, Trial] = {}
        here = self.tried[:count]
        for keep, size in zip(tuning.counts(count, len(rounds)), rounds, strict=True):
            if size > rounds[0]:
                here = tuning.survivors([trials[each.variant.key] for each in here], keep)
            source, made, prepared = self._round(here, size)
            trials |= {trial.candidate.variant.key: trial for trial in made}
        tags = [sample.tags.get("object", sample.id) for sample in prepared.samples]
        return Tune(
            METHODS.load(self.method).card.name, self.kind, prepared, self.space, self.fixed, self.budget, self.whole,
            self.seed, len(self.tried), list(trials.values()), source, tags, sys.argv[1:],
        )  # fmt: skip

    def _round(self, settings: list[Candidate], size: int) -> tuple[Trial, list[Trial], Prepared]:
        """Makes and scores the edits of a round; trials of the unchanged source and of the settings."""
        from piva_bench.runs.request import prepare
        from piva_bench.runs.store import Store
        from piva_bench.runs.tuning import measure

        variants = [self.unchanged.variant, *(each.variant for each in settings)]
        request = self.request.model_copy(update={"limit": size})
        prepared = prepare(request, variants, self.opened)
        execute(prepared, by_sample=True)
        store = Store(prepared.output_dir)
        source = measure(self.unchanged, prepared, store, prepared.samples, self.seed, None)
        trials = [measure(each, prepared, store, prepared.samples, self.seed, source) for each in settings]
        return source, trials, prepared


def _report(done: Tune) -> None:
    from piva_bench.paths import TUNING
    from piva_bench.report.tuning import tune_frame, tune_markdown, write_tune

    typer.echo(tune_markdown(done, tune_frame(done)))
    try:
        written = write_tune(done, TUNING)
    except OSError as error:
        raise UserError(
            f"Cannot write below {TUNING}: {error.strerror or error}. Mend this and run the same command again."
        ) from error
    typer.echo(f"chosen: {done.best.candidate.label}. Written: {', '.join(map(str, written))}", err=True)
    if not done.whole:
        typer.echo("not a whole tune, so no profile takes its defaults from it", err=True)
