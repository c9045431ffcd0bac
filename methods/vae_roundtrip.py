"""Reference row: the source through the autoencoder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from piva_bench.method import EditMethod, EditOutcome, EditTask, MethodCard, OnStep

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser


class VaeRoundtrip(EditMethod):
    """Encodes and decodes the source: the identity no method that edits latents can exceed."""

    card = MethodCard(
        name="vae_roundtrip",
        title="VAE round trip",
        paper=None,
        summary="The source encoded and decoded: the ceiling on identity of every method that edits latents.",
        kind="reference",
        idea_code_license="none needed",
    )

    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """See ``EditMethod.edit``."""
        outcomes = []
        for task in batch:
            start = time.perf_counter()
            image = denoiser.decode_latents(denoiser.encode_images(task.source[None]))[0].cpu()
            finite = bool(image.isfinite().all())
            outcomes.append(
                EditOutcome(
                    task.sample_id,
                    image if finite else None,
                    reason=None if finite else "the autoencoder's output is not finite",
                    seconds=time.perf_counter() - start,
                )
            )
        return outcomes
