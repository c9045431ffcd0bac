"""What a whole edit costs, counted: UNet rows, FLOPs and memory, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from piva_bench.errors import UserError
from piva_bench.runs.counting import Counting
from piva_bench.runs.kinds.pictures import latent_params
from piva_bench.runs.profile import random_tasks

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.runs.variants import Variant


@dataclass(frozen=True)
class EditCost:
    """A row of the table of costs: one edit of one picture, encoding and decoding included.

    Attributes:
        method: as it was asked for.
        steps: of the edit; None for a method without.
        rows: UNet rows, training included.
        training_rows: those of them that are computed forward and backward.
        forward_flops: floating-point operations of all forward passes.
        backward_flops: and of the backward passes.
        peak_bytes: the most that tensors take beside the model's weights.
    """

    method: str
    steps: int | None
    rows: int
    training_rows: int
    forward_flops: int
    backward_flops: int
    peak_bytes: int


def edit_cost(variant: Variant, denoiser: Denoiser) -> EditCost:
    """Counts one edit of a random picture at a method's parameters.

    Raises:
        UserError: the edit failed, with its reason.
    """
    tasks = [replace(task, params=latent_params(variant)) for task in random_tasks(denoiser, 1)]
    method = variant.method()
    for model in (denoiser, *denoiser.beside.values()):
        model.conditions.clear()  # what an edit costs does not depend on what was edited before
    with Counting() as count:
        (outcome,) = method.edit(tasks, denoiser, 0)
    if outcome.reason:
        raise UserError(f"{variant.requested}: {outcome.reason}")
    return EditCost(
        method=variant.requested,
        steps=method.steps,
        rows=outcome.unet_evaluations,
        training_rows=outcome.training_evaluations,
        forward_flops=count.forward,
        backward_flops=count.backward,
        peak_bytes=count.peak,
    )
