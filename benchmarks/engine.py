"""The engine against a plain loop over single pictures, and a sweep against a run for each value.

In one process, with the same weights and samples, turn and turn about, so that what else the machine does hits both.
On a CPU the ratios are of processor seconds, which other processes disturb least; wall seconds are printed, too.

``bound`` is the ratio that an engine without any overhead would reach: the FLOPs of its steps at the speed of a large
matrix product. Part ``rows`` shows how near to that speed the UNet comes with the rows of a call; ``options`` is the
engine with half precision, another memory layout and compiled blocks against the engine without.

    python -m benchmarks.engine --samples 16 --steps 20 --repeats 3
    python -m benchmarks.engine --only rows,options
    python -m benchmarks.engine --shape sd-1.5 --device cuda --dtype float16 --samples 8 --steps 10
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer

from benchmarks.clock import Clock, compare
from benchmarks.loops import LOOPS
from benchmarks.loops.model import Model, settings
from methods.dds import DDS
from methods.piva import Piva
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.kept import KeptRows
from piva_bench.diffusion.load import load_denoiser
from piva_bench.diffusion.random_model import random_denoiser
from piva_bench.errors import UnknownName
from piva_bench.method import EditTask
from piva_bench.params import LatentParams
from piva_bench.profiles import EMBEDDED_MODEL, PROFILES, resolve_model
from piva_bench.runs.profile import matrix_speed, random_tasks, step_flops
from piva_bench.runs.variants import resolve_variants

ROWS_OF_DDS = 4


@dataclass
class Benchmark:
    """The parts of the measurement, one method each.

    Attributes:
        load: loads the model at a precision.
        denoiser: the model.
        tasks: the edits, one batch of the engine.
        steps: steps of an edit.
        repeats: measurements of each.
        weights: values of the sweep.
    """

    load: Callable[[torch.dtype], Denoiser]
    denoiser: Denoiser
    tasks: Sequence[EditTask]
    steps: int
    repeats: int
    weights: Sequence[float]

    def __post_init__(self) -> None:
        self.clock = Clock(self.denoiser.device)
        self.copy = Model(self.denoiser)
        # Of a matrix product; for each second that the clock tells.
        self.speed = matrix_speed(self.denoiser.device, self.denoiser.dtype)
        self.speed /= 1 if self.clock.cuda else torch.get_num_threads()

    def compare(
        self, title: str, slow: Callable[[], Any], fast: Callable[[], Any], edits: int, flops: float = 0
    ) -> None:
        """Times both in turn and prints a line; with the FLOPs of an edit, also the bound of the ratio."""
        found = compare(self.clock, slow, fast, self.repeats, (edits, edits))
        print(
            f"{title:<34} {found.slow:9.3f} {found.fast:9.3f} s/edit   ratio {found.ratio}   "
            f"by wall time {found.wall}"
            + (f"   bound {found.slow * self.speed / flops:5.2f}" if flops else ""),
            flush=True,
        )

    def loop(self, rule: DDS) -> None:
        """The edits of a rule, picture after picture, in its authors' manner."""
        for task in self.tasks:
            LOOPS[rule.card.name](self.copy, task, settings(rule.params, LatentParams()))

    def flops(self, method: str, **changes: Any) -> float:
        """FLOPs of an edit's steps."""
        (variant,) = resolve_variants([method], changes, PROFILES["embedded"])
        return self.steps * sum(step_flops(variant, self.denoiser, random_tasks(self.denoiser, 1)))

    def rows(self) -> None:
        """What a row costs in UNet calls of one row, of the loop's rows, and of the engine's, for DDS."""
        model, each = self.denoiser, self.flops("dds") / (self.steps * ROWS_OF_DDS)
        side = model.unet.config.sample_size
        for count in (1, ROWS_OF_DDS, ROWS_OF_DDS * len(self.tasks)):
            noisy = torch.randn(count, model.latent_channels, side, side, device=model.device)
            t, embeds = torch.full((count,), 500), model.condition(["a red cup"] * count)
            call = (noisy, t.to(model.device), embeds)
            with torch.inference_mode():
                seconds = [
                    self.clock(lambda call=call: model.predict_noise(*call))[0]
                    for _ in range(1 + self.repeats)
                ]
            speed = each * count / min(seconds[1:])
            print(
                f"{f'UNet, {count} rows a call':<34} {1e3 * each / speed:9.2f} ms/row "
                f"{speed / 1e9:9.1f} GFLOP/s, {speed / self.speed:.0%} of a matrix product's"
            )

    def dds(self) -> None:
        """DDS against the loop."""
        rule = DDS(DDS.Params(steps=self.steps))
        self._against_loop("DDS", rule, self.flops("dds"))

    def piva(self) -> None:
        """Piva against the loop."""
        for title, changes in (("Piva", {}), ("Piva, fused training", {"fused_training": True})):
            rule = Piva(Piva.Params(steps=self.steps, **changes))
            self._against_loop(title, rule, self.flops("piva", **changes))

    def _against_loop(self, title: str, rule: DDS, flops: float) -> None:
        def engine() -> None:
            rule.edit(self.tasks, self.denoiser, 0)

        self.compare(title, lambda: self.loop(rule), engine, len(self.tasks), flops)

    def sweep(self) -> None:
        """A sweep against the loop for each value, and against the engine for each value."""
        edits = len(self.tasks) * len(self.weights)

        def loop() -> None:
            for weight in self.weights:
                # Weight 0 is DDS, which a loop for it would not train adapters for.
                self.loop(
                    Piva(Piva.Params(steps=self.steps, preservation_weight=weight))
                    if weight
                    else DDS(DDS.Params(steps=self.steps))
                )

        def engine(share: bool) -> Callable[[], int]:
            return lambda: sweep(self.denoiser, self.tasks, self.weights, self.steps, share)

        few = [sweep(self.denoiser, self.tasks[:1], self.weights, 1, share) for share in (True, False)]
        print(f"sweep: {few[0] / few[1]:.0%} of the UNet rows of runs that share nothing")
        self.compare("sweep, loop against sharing", loop, engine(share=True), edits)
        self.compare("sweep, engine without sharing", engine(share=False), engine(share=True), edits)

    def options(self) -> None:
        """What half precision, memory layout and compilation gain over the engine in single precision."""
        plain = self.load(torch.float32)
        choices: dict[str, tuple[torch.dtype, dict[str, bool]]] = {
            "bfloat16": (torch.bfloat16, {}),
            "channels last": (torch.float32, {"channels_last": True}),
            "compiled blocks": (torch.float32, {"compile": True}),
        }
        for title, (dtype, changes) in choices.items():
            other = self.load(dtype)
            other.tune(**changes)
            for name, rule in (
                ("DDS", DDS(DDS.Params(steps=self.steps))),
                ("Piva", Piva(Piva.Params(steps=self.steps))),
            ):

                def edit(model: Denoiser, rule: DDS = rule) -> None:
                    rule.edit(self.tasks, model, 0)

                edit(other)  # compiles
                self.compare(
                    f"{name}, {title}", lambda: edit(plain), lambda: edit(other), len(self.tasks)  # noqa: B023 (called here)
                )  # fmt: skip


PARTS = ("rows", "dds", "piva", "sweep", "options")


def sweep(
    denoiser: Denoiser, tasks: Sequence[EditTask], weights: Sequence[float], steps: int, share: bool
) -> int:
    """The values of a sweep one after the other on one batch; UNet rows that are computed for it."""
    denoiser.kept = KeptRows() if share else None
    rows = []
    hook = denoiser.network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    for weight in weights:
        Piva(Piva.Params(steps=steps, preservation_weight=weight)).edit(tasks, denoiser, 0)
    hook.remove()
    denoiser.kept = None
    return sum(rows)


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
    only: Annotated[str, typer.Option(help=f"Parts to run: {', '.join(PARTS)}.")] = "rows,dds,piva,sweep",
) -> None:
    """Print how many times faster the engine is, with the spread over repeats."""
    if threads:
        torch.set_num_threads(threads)

    def load(precision: torch.dtype) -> Denoiser:
        if shape:
            return random_denoiser(shape, device, precision)
        return load_denoiser(resolve_model(model), device, precision)

    parts = only.split(",")
    for part in parts:
        if part not in PARTS:
            raise UnknownName("part", part, PARTS)
    denoiser = load(getattr(torch, dtype))
    tasks = random_tasks(denoiser, samples)
    bench = Benchmark(load, denoiser, tasks, steps, repeats, [float(value) for value in weights.split(",")])
    print(
        f"{denoiser.path.name}, {samples} pictures of {denoiser.resolution} px, {steps} steps, {dtype}, "
        f"{torch.get_num_threads()} threads, "
        f"{bench.clock.unit}; "
        f"a matrix product runs at {bench.speed / 1e9:.0f} GFLOP/s\n"
        f"{'':<34} {'loop':>9} {'engine':>9}",
        flush=True,
    )
    once = Piva(Piva.Params(steps=1))  # warms both up
    LOOPS["piva"](bench.copy, tasks[0], settings(once.params, LatentParams()))
    once.edit(tasks, denoiser, 0)
    for part in parts:
        getattr(bench, part)()


if __name__ == "__main__":
    typer.run(main)
