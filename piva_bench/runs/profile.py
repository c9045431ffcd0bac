"""What a step of a method costs: UNet rows, FLOPs, seconds by part, memory; and the least it could cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.method import EditTask
from piva_bench.runs.batch_size import PeakMemory
from piva_bench.runs.counting import Counting
from piva_bench.runs.kinds.pictures import latent_params
from piva_bench.runs.variants import Variant

MODEL, ADAPTERS = "model", "adapters"
WORDS = ("cup", "boat", "lamp", "drum", "vase")


@dataclass(frozen=True)
class Cost:
    """A row of the profile: a method at a batch size. All but memory is of one step of one edit.

    Attributes:
        method: what was measured, with the parameters that set it apart.
        batch_size: edits at once.
        rows: UNet rows, training included.
        training_rows: those of them that are computed forward and backward.
        forward_flops: floating-point operations of all forward passes.
        backward_flops: and of the backward passes.
        seconds: all of it.
        model_seconds: predicting noise for the rule.
        adapter_seconds: training the adapters.
        peak_memory_mb: of the GPU, or of the process.
        floor_seconds: the FLOPs that cannot be avoided at the speed of a large matrix product.
    """

    method: str
    batch_size: int
    rows: float
    training_rows: float
    forward_flops: float
    backward_flops: float
    seconds: float
    model_seconds: float
    adapter_seconds: float
    peak_memory_mb: float | None
    floor_seconds: float

    @property
    def harness_seconds(self) -> float:
        """What is neither model nor adapters: drawing noise, the rule, the optimiser, bookkeeping."""
        return self.seconds - self.model_seconds - self.adapter_seconds


def random_tasks(denoiser: Denoiser, count: int) -> list[EditTask]:
    """Edits of random pictures of the model's size: what they show does not change what they cost."""
    generator = torch.Generator().manual_seed(0)
    side = denoiser.resolution
    return [
        EditTask(
            f"sample-{i}",
            torch.rand(3, side, side, generator=generator) * 2 - 1,
            source_prompt=f"a red {WORDS[i % len(WORDS)]}",
            target_prompt=f"a blue {WORDS[i % len(WORDS)]}",
            instruction="make it blue",
        )
        for i in range(count)
    ]


def profile(
    variants: Sequence[tuple[str, Variant]], denoiser: Denoiser, batch_sizes: Sequence[int], steps: int
) -> Iterator[Cost]:
    """Measures methods that have steps; those without are passed over.

    Args:
        variants: labels and methods.
        denoiser: the model.
        batch_sizes: edits at once.
        steps: steps that are timed.
    """
    speed = matrix_speed(denoiser.device, denoiser.dtype)
    for label, variant in variants:
        if "steps" not in type(variant.params).model_fields:
            continue
        forward, backward = step_flops(variant, denoiser)
        for batch_size in batch_sizes:
            yield _cost(label, variant, denoiser, batch_size, steps, (forward, backward), speed)


def _cost(
    label: str,
    variant: Variant,
    denoiser: Denoiser,
    batch_size: int,
    steps: int,
    flops: tuple[float, float],
    speed: float,
) -> Cost:
    tasks = random_tasks(denoiser, batch_size)
    _edit(variant, tasks, denoiser, 1)  # warms up
    peak = PeakMemory(denoiser.device)
    marks: list[tuple[float, dict[str, float]]] = []
    with _sections(denoiser) as spent:
        # From the end of the first step to the end of the last: encoding and decoding are not a step's.
        outcome = _edit(
            variant, tasks, denoiser, steps + 1, lambda *_: marks.append((_now(denoiser.device), dict(spent)))
        )
    (start, before), (end, after) = marks[0], marks[-1]
    scale = 1 / (steps * batch_size)
    parts = {name: (after.get(name, 0) - before.get(name, 0)) * scale for name in (MODEL, ADAPTERS)}
    rows, trained = (value / (steps + 1) for value in outcome)
    return Cost(
        method=label,
        batch_size=batch_size,
        rows=rows,
        training_rows=trained,
        forward_flops=flops[0],
        backward_flops=flops[1],
        seconds=(end - start) * scale,
        model_seconds=parts[MODEL],
        adapter_seconds=parts[ADAPTERS],
        peak_memory_mb=peak.megabytes(),
        floor_seconds=sum(flops) / speed,
    )


def _edit(
    variant: Variant,
    tasks: list[EditTask],
    denoiser: Denoiser,
    steps: int,
    on_step: Callable[..., None] | None = None,
) -> tuple[int, int]:
    """UNet rows of an edit, and those of its training."""
    params = variant.params.model_copy(update={"steps": steps})
    tasks = [replace(task, params=latent_params(variant)) for task in tasks]
    outcome = variant.cls(params).edit(tasks, denoiser, 0, on_step)[0]
    return outcome.unet_evaluations, outcome.training_evaluations


def step_flops(variant: Variant, denoiser: Denoiser) -> tuple[float, float]:
    """Forward and backward FLOPs of a step of one edit."""
    tasks = random_tasks(denoiser, 1)
    marks: list[tuple[int, int]] = []
    with Counting() as count:
        _edit(variant, tasks, denoiser, 2, lambda _: marks.append((count.forward, count.backward)))
    (forward, backward), (all_forward, all_backward) = marks
    return float(all_forward - forward), float(all_backward - backward)


@contextmanager
def _sections(denoiser: Denoiser) -> Iterator[dict[str, float]]:
    """Within the block, seconds spent in the model and in adapters' training add up in the dictionary."""
    spent = {MODEL: 0.0, ADAPTERS: 0.0}
    busy = False

    @contextmanager
    def section(name: str) -> Iterator[None]:
        nonlocal busy
        if busy:  # the model inside adapters' training
            yield
            return
        busy, start = True, _now(denoiser.device)
        try:
            yield
        finally:
            busy = False
            spent[MODEL if name == "model" else ADAPTERS] += _now(denoiser.device) - start

    before, denoiser.section = denoiser.section, section
    try:
        yield spent
    finally:
        denoiser.section = before


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of a large matrix product: what a network cannot exceed, and small layers do not reach.

    On a CPU by the processor time of its threads, which other processes disturb less than the wall's.
    """
    threads = torch.get_num_threads()
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        start, before = _now(device), time.process_time()
        a @ b
        busy = (time.process_time() - before) / threads
        seconds.append(_now(device) - start if device.type == "cuda" else busy)
    return 2 * side**3 / min(seconds)
