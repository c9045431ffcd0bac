"""Edits blended with the source outside the mask, whatever method made them (``--mask-blend``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from piva_bench.distillation.method import DistillationMethod
from piva_bench.errors import DataError, UserError
from piva_bench.method import EditTask
from piva_bench.runs.pictures import mask_pixels, source_pixels, to_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.data.sample import Sample
    from piva_bench.runs.kinds.base import Task
    from piva_bench.runs.variants import Variant


def check_blend(blend: Literal["end", "steps"], variants: Sequence[Variant]) -> None:
    """Refuses what cannot be blended, before anything is computed.

    Raises:
        UserError: scenes, which have no mask; or methods whose latents the house does not move step by step.
    """
    if any(variant.kind != "pictures" for variant in variants):
        raise UserError("--mask-blend is for pictures: a scene has no mask. Leave it out.")
    others = [variant.requested for variant in variants if not issubclass(variant.cls, DistillationMethod)]
    if blend == "steps" and others:
        raise UserError(
            f"--mask-blend steps is for distillation methods, whose latents move step by step; {', '.join(others)} "
            f"{'is none' if len(others) == 1 else 'are none'}: blend at the end, or leave "
            f"{'it' if len(others) == 1 else 'them'} out."
        )


def need_mask(sample: Sample, resolution: int) -> None:
    """Raises: DataError: the sample has no mask to blend with."""
    if mask_pixels(sample, resolution) is None:
        raise DataError("the sample has no mask, which --mask-blend blends the edit with the source by")


def blended(image: Tensor, sample: Sample, resolution: int) -> Tensor:
    """The picture [3, H, W] in the mask, and the source's own bytes outside."""
    import torch

    mask = mask_pixels(sample, resolution)
    assert mask is not None, "checked by need_mask"
    return torch.where(torch.from_numpy(mask.copy()), image, to_tensor(source_pixels(sample, resolution)))


def with_mask(task: Task, sample: Sample, resolution: int) -> Task:
    """The task, whose latents are to be the source's outside the mask after every step."""
    import torch

    mask = mask_pixels(sample, resolution)
    assert mask is not None, "checked by need_mask"
    assert isinstance(task, EditTask), "checked by check_blend"
    return replace(task, blend=torch.from_numpy(mask.copy()))
