"""``piva-bench profile``: what a step of each method costs, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.errors import UnknownName, UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from piva_bench.data.sample import Sample
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.profiles import Profile
    from piva_bench.runs.variants import Variant

EXAMPLES = """
[bold]Examples[/bold]

piva-bench profile --method sds,dds,piva --batch-sizes 1,4,16

piva-bench profile --shape sd-1.5 --device cuda --dtype bfloat16 --batch-sizes 1,4,8

piva-bench profile --count --method all

piva-bench profile --method piva --dataset objaverse --param fit_resolution=128 --param view_size=128 --batch-sizes 1
"""


def profile(
    method: options.Method = ["sds", "dds", "piva_analytic", "piva"],  # noqa: B006 (typer reads it, nothing writes)
    profile: options.ProfileName = "embedded",
    param: options.Param = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            help="Measure edits of its first samples; of scenes with what it takes to render and encode views.",
            show_default="random pictures",
        ),
    ] = None,
    data_root: options.DataRoot = None,
    batch_sizes: Annotated[str, typer.Option(help="Edits at once, comma-separated.")] = "1,4,16",
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 5,
    count: Annotated[
        bool,
        typer.Option(
            "--count", help="Count what a whole edit costs at the methods' parameters; time nothing."
        ),
    ] = False,
    shape: Annotated[
        str | None, typer.Option(help="Random weights of this shape instead of a model: sd-1.5.")
    ] = None,
    device: options.Device = "auto",
    dtype: options.Precision = options.Dtype.float32,
    compile: options.Compile = False,
    channels_last: options.ChannelsLast = False,
    model: options.Model = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Where the tables go.", show_default="results/profile"),
    ] = None,
) -> None:
    """Measure UNet evaluations, FLOPs, seconds by part and memory of a step, by method and batch size.

    Writes profile.csv and profile.md; with --count, costs.csv and costs.md. Pictures are random: what they show does
    not change what they cost. Fields of scenes that have not been fitted before are fog of the same size, which costs
    somewhat more to render.
    """
    from piva_bench.profiles import get_profile
    from piva_bench.report.profile import profile_frame, profile_markdown
    from piva_bench.runs.groups import members
    from piva_bench.runs.profile import profile as measure
    from piva_bench.runs.profile import sample_tasks
    from piva_bench.runs.variants import resolve_variants

    chosen, samples, kind = get_profile(profile), None, "pictures"
    if dataset is not None:
        samples, kind = _samples(dataset, chosen, data_root)
        chosen = chosen.for_kind(kind)
    if count and kind == "scenes":
        raise UserError("--count counts edits of pictures: leave --dataset out.")
    names, left_out = members(values.split(method), kind, chosen)
    for line in left_out:
        typer.echo(line, err=True)
    variants = resolve_variants(names, values.parse_params(param or []), chosen, kind)
    sizes = _sizes(batch_sizes, samples)
    denoiser, head = _load(shape, model or chosen.model, device, dtype.value)
    denoiser.tune(compile=compile, channels_last=channels_last)
    head += ", compiled" * compile + ", channels last" * channels_last
    folder = output_dir or Path("results/profile")
    for variant in variants:
        variant.attach_models(denoiser, chosen)
    if count:
        _count(variants, denoiser, folder, head)
        return
    tasks = None
    if samples is not None:
        head += f" · {dataset}"
        tasks = sample_tasks(denoiser, samples, chosen.resolution)
    costs = []
    for cost in measure(
        [(v.requested, v) for v in variants], denoiser, sorted(map(int, sizes)), steps, tasks
    ):
        costs.append(cost)
        typer.echo(
            f"{cost.method} at batch {cost.batch_size}: {cost.seconds * 1e3:.2f} ms a step and edit, "
            f"harness {100 * cost.harness_seconds / cost.seconds:.1f} %",
            err=True,
        )
    if not costs:
        raise UserError("None of these methods has steps to measure: give one of kind distillation.")
    _write(folder, "profile", profile_frame(costs), profile_markdown(costs, head))


def _sizes(given: str, samples: Sequence[Sample] | None) -> list[int]:
    """Numbers of edits at once, rising."""
    sizes = values.split([given])
    if not sizes or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(f"--batch-sizes {given}: give whole numbers from 1.")
    if samples is not None and len(samples) < max(map(int, sizes)):
        raise UserError(f"--batch-sizes {given}: the dataset has {len(samples)} samples.")
    return sorted(map(int, sizes))


def _count(variants: Sequence[Variant], denoiser: Denoiser, folder: Path, head: str) -> None:
    """Writes what whole edits cost."""
    from piva_bench.report.profile import costs_frame, costs_markdown
    from piva_bench.runs.costs import edit_cost

    counted = []
    for variant in variants:
        try:
            counted.append(edit_cost(variant, denoiser))
        except UserError as error:
            typer.echo(f"left out: {error}", err=True)
            continue
        typer.echo(f"{variant.requested}: {counted[-1].rows} UNet rows", err=True)
    if not counted:
        raise UserError("None of these methods has edited the picture: see the lines above.")
    _write(folder, "costs", costs_frame(counted), costs_markdown(counted, head))


def _write(folder: Path, name: str, frame: DataFrame, table: str) -> None:
    from piva_bench.files import write_atomic

    try:
        write_atomic(folder / f"{name}.csv", frame.to_csv(index=False).encode())
        write_atomic(folder / f"{name}.md", table.encode())
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {error.strerror or error}. Give --output-dir.") from error
    typer.echo(table)


def _samples(name: str, profile: Profile, data_root: Path | None) -> tuple[list[Sample], str]:
    """A dataset's samples that can be read, and what they are."""
    from piva_bench.data.sample import UnreadableSample
    from piva_bench.registry import DATASETS
    from piva_bench.runs.kinds import kind_of_samples

    opened = DATASETS.load(name)(profile, data_root)
    samples = [sample for sample in opened.samples if not isinstance(sample, UnreadableSample)]
    return samples, kind_of_samples(samples).name


def _load(shape: str | None, model: str, device: str, dtype: str) -> tuple[Denoiser, str]:
    """The model, and a line that says what the numbers stand on."""
    import torch

    from piva_bench.diffusion.load import load_denoiser
    from piva_bench.diffusion.random_model import SHAPES, random_denoiser
    from piva_bench.profiles import resolve_model
    from piva_bench.runs.manifest import environment
    from piva_bench.runs.request import resolve_device

    place, precision = resolve_device(device), getattr(torch, dtype)
    if shape is not None and shape not in SHAPES:
        raise UnknownName("shape", shape, SHAPES)
    denoiser = (
        random_denoiser(shape, place, precision)
        if shape
        else load_denoiser(resolve_model(model), place, precision)
    )
    machine = environment()
    on = (
        machine["gpu"]
        if place.startswith("cuda")
        else f"{machine['processor']}, {machine['threads']} threads"
    )
    what = f"random weights of {shape}'s shape" if shape else f"model {denoiser.path.name}"
    packages = f"torch {machine['packages']['torch']}, diffusers {machine['packages']['diffusers']}"
    return denoiser, f"{what} · {denoiser.resolution} px, {dtype} · {on} · {packages}"
