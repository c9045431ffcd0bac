"""The engine against a plain loop over single pictures, and a sweep against a run for each value.

In one process, with the same weights and samples, turn and turn about, so that what else the machine does hits both.
On a CPU the ratios are of processor seconds, which other processes disturb least; wall seconds are printed, too.

    python -m benchmarks.engine --samples 16 --steps 20 --repeats 3
    python -m benchmarks.engine --shape sd-1.5 --device cuda --dtype float16 --samples 8 --steps 10
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.naive import Naive
from methods.dds import DDS
from methods.piva import Piva
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.kept import KeptRows
from piva_bench.diffusion.random_model import random_denoiser
from piva_bench.distillation.method import EditTask
from piva_bench.profiles import EMBEDDED_MODEL, resolve_model
from piva_bench.runs.profile import random_tasks


class Clock:
    """Processor and wall seconds of a call; on a GPU both are wall seconds with the device drained."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def __call__(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Seconds: (processor, wall)."""
        if self.cuda:
            torch.cuda.synchronize()
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        if self.cuda:
            torch.cuda.synchronize()
        wall = time.perf_counter() - wall
        return (wall if self.cuda else time.process_time() - cpu), wall


def compare(
    title: str, naive: Callable[[], Any], ours: Callable[[], Any], edits: int, clock: Clock, repeats: int
) -> float:
    """Times both in turn and prints a line; the median ratio naive / ours."""
    times = [(clock(naive), clock(ours)) for _ in range(repeats)]
    ratios = [a[0] / b[0] for a, b in times]
    walls = [a[1] / b[1] for a, b in times]
    each = [statistics.median(side[0] for side in sides) / edits for sides in zip(*times, strict=True)]
    print(
        f"{title:<34} {each[0]:9.3f} {each[1]:9.3f} s/edit   ratio {statistics.median(ratios):5.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})   by wall time {statistics.median(walls):5.2f}"
    )
    return statistics.median(ratios)


def sweep(
    denoiser: Denoiser, tasks: Sequence[EditTask], weights: Sequence[float], steps: int, share: bool
) -> int:
    """The values of a sweep one after the other on one batch; UNet rows computed for an edit of each."""
    denoiser.kept = KeptRows() if share else None
    rows = 0
    for weight in weights:
        method = Piva(Piva.Params(steps=steps, preservation_weight=weight))
        rows += method.edit(tasks, denoiser, 0)[0].unet_evaluations
    denoiser.kept = None
    return rows


def main(
    model: Annotated[str, typer.Option(help="Diffusers folder.")] = EMBEDDED_MODEL,
    shape: Annotated[str | None, typer.Option(help="Random weights of this shape instead (sd-1.5).")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Pictures, one batch of the engine.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Steps of an edit.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each.")] = 3,
    weights: Annotated[str, typer.Option(help="Values of the sweep.")] = "0,0.1,0.4,0.7,0.8",
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Torch threads.", show_default="torch's")] = None,
    only: Annotated[str, typer.Option(help="Parts to run.")] = "dds,piva,sweep",
) -> None:
    """Print how many times faster the engine is, with the spread over repeats."""
    if threads:
        torch.set_num_threads(threads)
    precision = getattr(torch, dtype)
    denoiser = (
        random_denoiser(shape, device, precision)
        if shape
        else Denoiser.from_pretrained(Path(resolve_model(model)), device, precision)
    )
    tasks, clock, naive = random_tasks(denoiser, samples), Clock(denoiser.device), Naive(denoiser, steps)
    values, parts = [float(value) for value in weights.split(",")], only.split(",")
    print(
        f"{denoiser.path.name}, {samples} pictures of {denoiser.resolution} px, {steps} steps, {dtype}, "
        f"{torch.get_num_threads()} threads, "
        f"{torch.cuda.get_device_name() if clock.cuda else 'processor seconds'}\n"
        f"{'':<34} {'loop':>9} {'engine':>9}"
    )
    Naive(denoiser, 1).piva(tasks[:1])  # warms both up
    Piva(Piva.Params(steps=1)).edit(tasks, denoiser, 0)
    if "dds" in parts:
        dds = DDS(DDS.Params(steps=steps))
        compare(
            "DDS", lambda: naive.dds(tasks), lambda: dds.edit(tasks, denoiser, 0), samples, clock, repeats
        )
    if "piva" in parts:
        for title, changes in (("Piva", {}), ("Piva, fused training", {"fused_training": True})):
            rule = Piva(Piva.Params(steps=steps, **changes))
            compare(
                title, lambda: naive.piva(tasks), lambda rule=rule: rule.edit(tasks, denoiser, 0), samples, clock,
                repeats,
            )  # fmt: skip
    if "sweep" in parts:
        edits = samples * len(values)

        def one_by_one() -> None:
            for value in values:
                naive.piva(tasks, value)

        shared = sweep(denoiser, tasks[:1], values, 1, share=True) / sweep(
            denoiser, tasks[:1], values, 1, share=False
        )
        print(f"sweep over {weights}: {shared:.0%} of the UNet rows of runs that share nothing")
        compare(
            "sweep, loop against sharing", one_by_one, lambda: sweep(denoiser, tasks, values, steps, share=True),
            edits, clock, repeats,
        )  # fmt: skip
        compare(
            "sweep, engine without sharing",
            lambda: sweep(denoiser, tasks, values, steps, share=False),
            lambda: sweep(denoiser, tasks, values, steps, share=True),
            edits, clock, repeats,
        )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
