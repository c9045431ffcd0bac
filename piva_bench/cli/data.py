"""``piva-bench data``: check a copy of a dataset, and fetch those that the hub has."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options
from piva_bench.errors import ModelError, UserError

if TYPE_CHECKING:
    from piva_bench.data.dataset import Dataset, Problem
    from piva_bench.profiles import Profile
    from piva_bench.scene.objaverse import ObjectCard

EXIT_PROBLEMS = 3

app = typer.Typer(help="Datasets: check a copy, fetch what may be fetched.", no_args_is_help=True)


@app.command()
def verify(
    dataset: Annotated[str, typer.Argument(help="Dataset, from `piva-bench list datasets`.")],
    data_root: options.DataRoot = None,
    profile: options.ProfileName = "embedded",
    show: Annotated[int, typer.Option("--show", min=1, help="How many problems to print.")] = 20,
) -> None:
    """Load every picture, mask and prompt of a dataset and say what is wrong with which sample.

    Nothing is fitted or stored. Exits with 3 if anything is.
    """
    from piva_bench.cli.progress import step_bars
    from piva_bench.data.dataset import verify as find_problems
    from piva_bench.profiles import get_profile
    from piva_bench.registry import DATASETS

    opener = DATASETS.load(dataset)
    # Third parties' openers may know no lenient reading.
    lenient = {"strict": False} if "strict" in inspect.signature(opener).parameters else {}
    opened = opener(get_profile(profile), data_root, **lenient)
    with step_bars(("checking", len(opened.samples))) as (on_sample,):
        problems = find_problems(opened, lambda index: on_sample(index, None) if on_sample else None)
    cut, more = _prompts(opened, get_profile(profile))
    problems += more
    said = {problem.message for problem in problems}
    of_samples = (note for sample in opened.samples for note in sample.notes)
    for note in dict.fromkeys((*getattr(opened, "notes", ()), *cut, *of_samples)):
        if note not in said:
            typer.echo(f"note: {note}", err=True)
    for problem in problems[:show]:
        typer.echo(problem.message)
    if len(problems) > show:
        typer.echo(f"... and {len(problems) - show} more")
    typer.echo(
        f"{opened.card.title}: {len(opened.samples)} samples of {opened.resolution} px, revision "
        f"{opened.revision}; {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}"
    )
    if problems:
        raise typer.Exit(EXIT_PROBLEMS)


def _prompts(dataset: Dataset, profile: Profile) -> tuple[list[str], list[Problem]]:
    """What the profile's model does not read of the prompts, and the samples that ask for nothing by that."""
    from piva_bench.data.dataset import Problem
    from piva_bench.data.sample import UnreadableSample, readable
    from piva_bench.profiles import resolve_model
    from piva_bench.runs.prompts import PromptReader, cut_notes, marked

    try:
        reader = PromptReader.of_model(resolve_model(profile.model))
    except ModelError as error:
        return [f"whether prompts are too long was not checked: {error}"], []
    if reader is None:
        return [], []
    samples = readable(dataset.samples)
    faulty = [sample for sample in marked(samples, reader) if isinstance(sample, UnreadableSample)]
    return cut_notes(samples, reader), [Problem(sample.id, sample.fault) for sample in faulty]


@app.command()
def fetch(
    dataset: Annotated[
        str, typer.Argument(help="pie_pp or objaverse; PIE-Bench itself must be asked for by a form.")
    ],
    subset: Annotated[
        str, typer.Option("--subset", help="Of objaverse: a list's name or YAML file.")
    ] = "first-author",
    include_nc: Annotated[
        bool,
        typer.Option("--include-nc", help="Of objaverse: objects, too, that may not be used commercially."),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Of objaverse: folder for the objects; name it in PIVA_BENCH_OBJAVERSE for runs.",
            show_default="~/.objaverse",
        ),
    ] = None,
) -> None:
    """Download a dataset from the hub into its cache. Nothing else in this program downloads one."""
    if dataset == "objaverse":
        _fetch_objects(subset, include_nc, cache)
        return
    if dataset != "pie_pp":
        raise UserError(
            f"'{dataset}' cannot be fetched: pie_pp and objaverse can; PIE-Bench's archive comes from "
            "https://forms.gle/hVMkTABb4uvZVjme9 and is named with --data-root."
        )
    from piva_bench.fetch import fetch_dataset

    typer.echo(f"pie_pp: {fetch_dataset()}")


def _fetch_objects(name: str, noncommercial: bool, cache: Path | None) -> None:
    from piva_bench.scene.objaverse import ObjaverseFetcher, read_subset

    subset = read_subset(name)
    wanted = subset.promptable()
    if silent := len(subset.objects) - len(wanted):
        typer.echo(f"{silent} of {len(subset.objects)} objects have no prompts: passed over", err=True)
    fetcher = ObjaverseFetcher(cache, noncommercial=noncommercial)
    fetched = fetcher.fetch(wanted, _say)
    if not fetched.objects:
        reason = next(iter(fetched.left_out.values()), "it names no object with prompts")
        raise UserError(f"Nothing of {subset.name} was fetched: {reason}.")
    typer.echo(f"{subset.name}: {len(fetched.objects)} of {len(wanted)} objects in {fetcher.directory}")


def _say(card: ObjectCard, reason: str | None) -> None:
    # Standard output is closed while the package works, which prints.
    typer.echo(f"{card.name or card.uid}: {reason or 'fetched'}", err=True)
