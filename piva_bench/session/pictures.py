"""A batch of picture edits as rows: one a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from piva_bench.errors import UserError
from piva_bench.session.rows import Observation

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.method import EditTask


def picture_rows(batch: Sequence[EditTask], denoiser: Denoiser) -> Observation:
    """Encodes the pictures; the edit's latents are a copy of the source's, to be moved in place.

    Raises:
        UserError: pictures of several sizes.
    """
    shapes = {tuple(task.source.shape) for task in batch}
    if len(shapes) > 1:
        raise UserError(f"A batch holds pictures of one size, not of {sorted(shapes)}; group them by size.")
    source = denoiser.encode_images(torch.stack([task.source for task in batch]))
    masks = [task.mask for task in batch if task.mask is not None]
    return Observation(
        source.clone(),
        source,
        tuple(task.sample_id for task in batch),
        tuple(task.source_prompt for task in batch),
        tuple(task.target_prompt for task in batch),
        instructions=tuple(task.instruction for task in batch),
        blended_words=tuple(task.blended_words for task in batch),
        edit_types=tuple(task.edit_type for task in batch),
        mask=torch.stack(masks)[:, None].to(denoiser.device) if len(masks) == len(batch) else None,
    )
