"""Runs a sampler on a batch of pictures: encoded, sampled, decoded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.errors import MethodError
from piva_bench.method import EditOutcome, EditTask, OnStep, Progress
from piva_bench.session.pictures import picture_rows
from piva_bench.session.predictor import Predictor
from piva_bench.session.rows import Rows
from piva_bench.session.session import Session


class Sampler(Protocol):
    """What this needs of a sampling method."""

    differentiates: bool

    def sample(self, session: Session) -> Tensor:
        """The edited latents [R, C, h, w]."""


def sample_edits(
    method: Sampler,
    batch: Sequence[EditTask],
    denoiser: Denoiser,
    seed: int,
    on_step: OnStep | None = None,
) -> list[EditOutcome]:
    """Edits a batch of pictures by a sampler; see ``EditMethod.edit``."""
    if not batch:
        return []
    start = time.perf_counter()

    def tell(done: int, passes: int) -> None:
        if on_step is not None:
            on_step(Progress(done - 1, passes))

    with torch.inference_mode(False), torch.no_grad():
        rows = Rows.of(picture_rows(batch, denoiser), denoiser, seed)
        predictor = Predictor(denoiser)
        session = Session(rows, predictor, tell)
        with torch.inference_mode(not method.differentiates):
            latents = _checked(method.sample(session), session)
        images = denoiser.decode_latents(latents).cpu()
    seconds = (time.perf_counter() - start) / len(batch)
    return [
        EditOutcome(
            task.sample_id,
            image if (fine := bool(image.isfinite().all())) else None,
            None if fine else "diverged: the sampler's latents or their picture are not finite",
            unet_evaluations=predictor.evaluations,
            training_evaluations=predictor.differentiated,
            seconds=seconds,
        )
        for task, image in zip(batch, images, strict=True)
    ]


def _checked(latents: Tensor, session: Session) -> Tensor:
    shape = tuple(session.latents.shape)
    if not isinstance(latents, Tensor) or tuple(latents.shape) != shape:
        given = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise MethodError(f"The sampler's result is {given}, not latents of the shape {shape}.")
    return latents.detach()
