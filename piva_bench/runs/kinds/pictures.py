"""Pictures: a task's tensors, an outcome's PNG, a pair to score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from piva_bench.method import EditMethod, EditOutcome, EditTask
from piva_bench.metrics.protocol import Pair
from piva_bench.params import LatentParams
from piva_bench.runs.edit import encode_png
from piva_bench.runs.kinds.base import Encoded, Kind, Task
from piva_bench.runs.pictures import mask_pixels, reference_pixels, source_pixels, to_pixels, to_tensor

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.runs.edit import Edit
    from piva_bench.runs.variants import Variant


class Pictures(Kind):
    """See ``Kind``."""

    name = "pictures"
    protocols = "studio-v1, pnp-v1 and clean score pictures"

    def task(
        self,
        sample: Sample,
        variant: Variant,
        resolution: int,
        device: torch.device | str = "cpu",
        *,
        trial: bool = False,
    ) -> EditTask:
        """See ``Kind.task``."""
        card = variant.cls.card
        mask = mask_pixels(sample, resolution) if card.uses_mask else None
        reference = reference_pixels(sample, resolution) if card.kind == "reference" else None
        return EditTask(
            sample_id=sample.id,
            source=to_tensor(source_pixels(sample, resolution)),
            source_prompt=sample.source_prompt,
            target_prompt=sample.target_prompt,
            instruction=sample.instruction,
            blended_words=sample.blended_words,
            edit_type=sample.edit_type,
            mask=None if mask is None else torch.from_numpy(mask.copy()),
            reference=None if reference is None else to_tensor(reference),
            params=latent_params(variant),
        )

    def call(
        self, method: EditMethod, tasks: Sequence[Task], denoiser: Denoiser, seed: int, **more: Any
    ) -> Sequence[EditOutcome]:
        """See ``Kind.call``."""
        return method.edit(cast("Sequence[EditTask]", tasks), denoiser, seed, **more)

    def fault(self, outcome: EditOutcome, resolution: int) -> str | None:
        """See ``Kind.fault``."""
        image, expected = outcome.image, (3, resolution, resolution)
        if image is None:
            return outcome.reason or "the method returned no picture and no reason"
        if tuple(image.shape) != expected:
            return (
                f"the picture has the shape {tuple(image.shape)}, not {expected}: return it at its source's size, "
                "resized by the method if need be"
            )
        if not image.is_floating_point():
            return f"the picture holds {image.dtype}, not floating-point values from -1 to 1"
        if not bool(torch.isfinite(image).all()):
            return "the picture holds values that are not finite"
        if float(image.abs().max()) > 1 + 1e-3:
            low, high = float(image.min()), float(image.max())
            return f"the picture's values run from {low:.3g} to {high:.3g}, not from -1 to 1"
        return None

    def encode(self, outcome: EditOutcome, key: str, keep_field: bool) -> Encoded:
        """See ``Kind.encode``."""
        assert outcome.image is not None, "only what has no fault is encoded"
        return Encoded(*encode_png(to_pixels(outcome.image)))

    def pair(self, sample: Sample, edit: Edit) -> Pair:
        """See ``Kind.pair``."""
        record = edit.record
        return Pair(
            source=source_pixels(sample, record.resolution),
            edited=edit.image(),
            reference=reference_pixels(sample, record.resolution),
            mask=mask_pixels(sample, record.resolution),
            source_prompt=sample.source_prompt,
            target_prompt=sample.target_prompt,
            edited_is_jpeg=record.from_jpeg,
        )


def latent_params(variant: Variant) -> LatentParams:
    """How a setting moves latents; of one that moves none it does not matter."""
    return variant.follow if isinstance(variant.follow, LatentParams) else LatentParams()
