"""What a step of a method costs: UNet rows, FLOPs, seconds by part, memory; and the least it could cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.errors import UserError
from piva_bench.method import EditTask
from piva_bench.params import LatentParams
from piva_bench.runs.batch_size import PeakMemory
from piva_bench.runs.counting import Counting
from piva_bench.runs.kinds import KINDS
from piva_bench.runs.kinds.base import Task
from piva_bench.runs.kinds.pictures import latent_params
from piva_bench.runs.variants import Variant

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample

MODEL, ADAPTERS, RENDER, ENCODER = "model", "adapters", "render", "encoder"
PARTS = (MODEL, ADAPTERS, RENDER, ENCODER)
"""Of a step, as the denoiser's sections are called; the last two are of scenes alone."""
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
        render_seconds: of scenes, rendering views, and gradients, regularisers and Adam on the field.
        encoder_seconds: of scenes, encoding views, and the gradients on them.
        peak_memory_mb: of the GPU, or of the process.
        part_memory_mb: the same while a part was computed, by the names of the parts.
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
    render_seconds: float = 0.0
    encoder_seconds: float = 0.0
    part_memory_mb: Mapping[str, float] = field(default_factory=dict)

    @property
    def harness_seconds(self) -> float:
        """What is none of the parts: drawing noise, the rule, bookkeeping, of pictures the optimiser."""
        parts = self.model_seconds + self.adapter_seconds + self.render_seconds + self.encoder_seconds
        return self.seconds - parts


Tasks = Callable[[Variant, int], Sequence[Task]]
"""So many tasks for a setting."""


def random_tasks(denoiser: Denoiser, count: int, params: LatentParams | None = None) -> list[EditTask]:
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
            params=params or LatentParams(),
        )
        for i in range(count)
    ]


def sample_tasks(denoiser: Denoiser, samples: Sequence[Sample], resolution: int) -> Tasks:
    """Edits of a dataset's samples, its first ones; fields that are not kept are fog of their size."""

    def tasks(variant: Variant, count: int) -> Sequence[Task]:
        kind = KINDS[variant.kind]
        return [kind.task(one, variant, resolution, denoiser.device, trial=True) for one in samples[:count]]

    return tasks


def profile(
    variants: Sequence[tuple[str, Variant]],
    denoiser: Denoiser,
    batch_sizes: Sequence[int],
    steps: int,
    tasks: Tasks | None = None,
) -> Iterator[Cost]:
    """Measures methods that have steps; those without are passed over.

    Args:
        variants: labels and methods.
        denoiser: the model.
        batch_sizes: edits at once.
        steps: steps that are timed.
        tasks: what is edited; random pictures by default.
    """
    make = tasks or (lambda variant, count: random_tasks(denoiser, count, latent_params(variant)))
    speed = matrix_speed(denoiser.device, denoiser.dtype)
    for label, variant in variants:
        if "steps" not in type(variant.params).model_fields:
            continue
        flops = step_flops(variant, denoiser, make(variant, 1))
        for batch_size in batch_sizes:
            yield _cost(label, variant, denoiser, make(variant, batch_size), steps, flops, speed)


def _cost(
    label: str,
    variant: Variant,
    denoiser: Denoiser,
    tasks: Sequence[Task],
    steps: int,
    flops: tuple[float, float],
    speed: float,
) -> Cost:
    with _memory(denoiser) as held:
        _edit(variant, tasks, denoiser, 1)  # warms up, too
    peak, batch_size = PeakMemory(denoiser.device), len(tasks)
    marks: list[tuple[float, dict[str, float]]] = []
    with _sections(denoiser) as spent:
        # From the end of the first step to the end of the last: encoding and decoding are not a step's.
        outcome = _edit(
            variant, tasks, denoiser, steps + 1, lambda *_: marks.append((_now(denoiser.device), dict(spent)))
        )
    (start, before), (end, after) = marks[0], marks[-1]
    scale = 1 / (steps * batch_size)
    parts = {name: (after.get(name, 0) - before.get(name, 0)) * scale for name in PARTS}
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
        peak_memory_mb=max(peak.megabytes(), *held.values()),
        floor_seconds=sum(flops) / speed,
        render_seconds=parts[RENDER],
        encoder_seconds=parts[ENCODER],
        part_memory_mb=dict(held),
    )


def _edit(
    variant: Variant,
    tasks: Sequence[Task],
    denoiser: Denoiser,
    steps: int,
    on_step: Callable[..., None] | None = None,
) -> tuple[int, int]:
    """UNet rows of an edit, and those of its training."""
    params = variant.params.model_copy(update={"steps": steps})
    (outcome, *_) = KINDS[variant.kind].call(variant.cls(params), tasks, denoiser, 0, on_step=on_step)
    if outcome.reason:
        raise UserError(f"{variant.requested} cannot be measured: {outcome.reason}")
    return outcome.unet_evaluations, outcome.training_evaluations


def step_flops(variant: Variant, denoiser: Denoiser, tasks: Sequence[Task]) -> tuple[float, float]:
    """Forward and backward FLOPs of a step of one edit: products of the networks, a scene's encoder included."""
    marks: list[tuple[int, int]] = []
    with Counting() as count:
        _edit(variant, tasks, denoiser, 2, lambda _: marks.append((count.forward, count.backward)))
    (forward, backward), (all_forward, all_backward) = marks
    return float(all_forward - forward), float(all_backward - backward)


@contextmanager
def _sections(denoiser: Denoiser) -> Iterator[dict[str, float]]:
    """Within the block, seconds spent in each part of a step add up in the dictionary."""
    spent = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def part(name: str) -> Iterator[None]:
        start = _now(denoiser.device)
        try:
            yield
        finally:
            spent[name] += _now(denoiser.device) - start

    with _observed(denoiser, _outermost(part)):
        yield spent


@contextmanager
def _memory(denoiser: Denoiser) -> Iterator[dict[str, float]]:
    """Within the block, the dictionary gets the highest memory in use during each part; looking at it takes time."""
    held: dict[str, float] = {}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        peak = PeakMemory(denoiser.device)
        try:
            yield
        finally:
            held[name] = max(held.get(name, 0.0), peak.megabytes())

    with _observed(denoiser, _outermost(part)):
        yield held


def _outermost(
    part: Callable[[str], AbstractContextManager[None]],
) -> Callable[[str], AbstractContextManager[None]]:
    """Sections within others, as the model's inside adapters' training, belong to those."""
    busy = False

    @contextmanager
    def section(name: str) -> Iterator[None]:
        nonlocal busy
        if busy:
            yield
            return
        busy = True
        try:
            with part(name):
                yield
        finally:
            busy = False

    return section


@contextmanager
def _observed(denoiser: Denoiser, section: Callable[[str], AbstractContextManager[None]]) -> Iterator[None]:
    """Within the block the denoiser's sections are somebody's to measure."""
    before, denoiser.section = denoiser.section, section
    try:
        yield
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
