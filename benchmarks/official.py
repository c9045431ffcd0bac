"""The engine against the authors' loops: seconds of an edit and rows of the UNet, for every rule that distils.

In one process, with the same weights, pictures and settings, turn and turn about. Settings are each rule's own, which
are its authors' where there is official code, with few steps: a step costs what it costs in a long edit. On a CPU the
ratios are of processor seconds. ``--only`` names rules; ``--profile`` says where the seconds of both go.

    nice python -m benchmarks.official --samples 16 --steps 4 --repeats 3
    python -m benchmarks.official --only pds,vsd --profile
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import typer

from benchmarks.clock import Clock, Comparison, compare
from benchmarks.loops import LOOPS
from benchmarks.loops.model import Model, settings
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.load import load_denoiser
from piva_bench.diffusion.random_model import random_denoiser
from piva_bench.errors import UnknownName
from piva_bench.method import EditOutcome, EditTask
from piva_bench.params import MethodParams
from piva_bench.profiles import EMBEDDED_MODEL, PROFILES, resolve_model
from piva_bench.registry import METHODS
from piva_bench.runs.kinds.pictures import latent_params
from piva_bench.runs.profile import random_tasks
from piva_bench.runs.variants import resolve_variants


@dataclass(frozen=True)
class Line:
    """A rule's row of the table.

    Attributes:
        rule: its name.
        times: of loop and engine.
        loop_rows: UNet rows of an edit by the loop, and those of them with a graph.
        engine_rows: by the engine, likewise.
    """

    rule: str
    times: Comparison
    loop_rows: tuple[float, float]
    engine_rows: tuple[float, float]

    def __str__(self) -> str:
        rows = [f"{every:.0f} ({trained:.0f})" for every, trained in (self.loop_rows, self.engine_rows)]
        t = self.times
        return (
            f"| `{self.rule}` | {t.slow:.3f} | {t.fast:.3f} | {t.ratio.strip()} | {t.wall.strip()} | "
            + " | ".join(rows)
            + " |"
        )


HEAD = (
    "| Rule | Loop, s/edit | Engine, s/edit | Ratio (range) | By wall time | Rows, loop (with a graph) | "
    "Rows, engine |\n|---|---:|---:|---:|---:|---:|---:|"
)


class Rule:
    """A rule in both ways, at its authors' settings in so few steps.

    Args:
        name: of the method.
        steps: of an edit.
        denoiser: for the engine.
        copy: for the loop.
    """

    def __init__(self, name: str, steps: int, denoiser: Denoiser, copy: Model) -> None:
        # Both stages of a rule that has two.
        given: dict[str, Any] = {"steps": steps} | ({"stage_two": steps // 2} if name == "sbp" else {})
        (variant,) = resolve_variants([name], given, PROFILES["paper"])
        self.name, self.denoiser, self.copy = name, denoiser, copy
        self.method = METHODS.load(name)(variant.params)
        self.follow = latent_params(variant)
        params: list[MethodParams] = [variant.params, self.follow]
        self.settings = settings(*params)
        self.outcomes: list[EditOutcome] = []

    def by_loop(self, tasks: Sequence[EditTask]) -> None:
        """Picture after picture."""
        self.copy.rows = self.copy.differentiated = 0
        for task in tasks:
            LOOPS[self.name](self.copy, task, self.settings)

    def by_engine(self, tasks: Sequence[EditTask]) -> None:
        """All at once."""
        tasks = [replace(task, params=self.follow) for task in tasks]
        self.outcomes = list(self.method.edit(tasks, self.denoiser, 0))
        if reasons := [outcome.reason for outcome in self.outcomes if outcome.reason]:
            # What has diverged is no longer computed: the times would not be those of an edit.
            raise RuntimeError(f"{self.name}: {reasons[0]}")

    def measure(self, tasks: Sequence[EditTask], loops: int, repeats: int) -> Line:
        """Both, timed in turn: the loop on the first ``loops`` pictures, for it takes as long for each."""
        few = tasks[:loops]
        self.method, whole = (
            type(self.method)(self.method.params.model_copy(update={"steps": 1})),
            self.method,
        )
        self.by_engine(tasks)  # warms up
        self.by_loop(tasks[:1])
        self.method = whole
        times = compare(
            Clock(self.denoiser.device),
            lambda: self.by_loop(few),
            lambda: self.by_engine(tasks),
            repeats,
            (len(few), len(tasks)),
        )
        copy, made = self.copy, self.outcomes[0]
        return Line(
            self.name,
            times,
            (copy.rows / len(few), copy.differentiated / len(few)),
            (made.unet_evaluations, made.training_evaluations),
        )

    def where(self, tasks: Sequence[EditTask], loops: int) -> None:
        """Prints the operations that take most of the processor, of both."""
        for title, work in (
            ("loop", lambda: self.by_loop(tasks[:loops])),
            ("engine", lambda: self.by_engine(tasks)),
        ):
            print(f"{self.name}, {title}\n{_operations(work)}", flush=True)


def _operations(work: Callable[[], Any]) -> str:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        work()
    return found.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40)


def main(
    model: Annotated[str, typer.Option(help="Diffusers folder.")] = EMBEDDED_MODEL,
    shape: Annotated[str | None, typer.Option(help="Random weights of this shape instead (sd-1.5).")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Pictures, one batch of the engine.")] = 16,
    loops: Annotated[int, typer.Option(min=1, help="Pictures that the loop edits.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Steps of an edit.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each.")] = 3,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Torch threads.", show_default="torch's")] = None,
    only: Annotated[str, typer.Option(help="Rules to compare.")] = ",".join(LOOPS),
    profile: Annotated[bool, typer.Option("--profile", help="Print where the time goes instead.")] = False,
) -> None:
    """Print how many times faster the engine is for each rule, with the spread over repeats."""
    if threads:
        torch.set_num_threads(threads)
    names = only.split(",")
    for name in names:
        if name not in LOOPS:
            raise UnknownName("rule", name, LOOPS)
    precision = getattr(torch, dtype)
    denoiser = (
        random_denoiser(shape, device, precision)
        if shape
        else load_denoiser(resolve_model(model), device, precision)
    )
    tasks, copy = random_tasks(denoiser, samples), Model(denoiser)
    print(
        f"{denoiser.path.name}, {samples} pictures of {denoiser.resolution} px in a batch, {steps} steps, {dtype}, "
        f"{torch.get_num_threads()} threads, {Clock(denoiser.device).unit}\n\n{HEAD}",
        flush=True,
    )
    for name in names:
        rule = Rule(name, steps, denoiser, copy)
        if profile:
            rule.where(tasks, min(loops, samples))
        else:
            print(rule.measure(tasks, min(loops, samples), repeats), flush=True)


if __name__ == "__main__":
    typer.run(main)
