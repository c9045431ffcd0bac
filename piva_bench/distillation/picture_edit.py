"""Pictures edited by a rule: encoded, distilled, decoded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.kept import digest
from piva_bench.distillation.engine import Distillation, Standing
from piva_bench.distillation.latents import LatentImages
from piva_bench.distillation.params import Rule
from piva_bench.errors import UserError
from piva_bench.method import EditOutcome, EditTask, OnStep
from piva_bench.session.pictures import picture_rows


def distill(
    rule: Rule,
    batch: Sequence[EditTask],
    denoiser: Denoiser,
    seed: int,
    on_step: OnStep | None = None,
    snapshots: Sequence[int] = (),
) -> list[EditOutcome]:
    """Edits a batch of pictures by a rule; see ``EditMethod.edit``.

    Samples do not influence each other: noise is drawn per sample, and a sample whose gradient or latents
    stop being finite is held still and reported failed while the others go on.
    """
    if not batch:
        return []
    if len({task.params for task in batch}) > 1:
        raise UserError("A batch holds pictures edited alike: group them.")
    start = time.perf_counter()
    taken: dict[int, list[EditOutcome]] = {}
    # Adapters are trained here, which a caller's inference mode would forbid.
    with torch.inference_mode(False), torch.no_grad():
        seen = picture_rows(batch, denoiser)
        sources = [_source(task) for task in batch]
        edit = LatentImages(seen, batch[0].params, _blend(batch, seen.latents), sources)
        run = Distillation(rule, edit, denoiser, seed)

        def outcomes() -> list[EditOutcome]:
            images = denoiser.decode_latents(edit.latents).cpu()
            seconds = (time.perf_counter() - start) / len(batch)
            return _outcomes(batch, images, run.standing(), seconds)

        def take(steps: int) -> None:
            taken[steps] = outcomes()

        run.run(on_step, snapshots, take)
        final = outcomes()
    return [
        replace(outcome, snapshots={steps: made[row] for steps, made in taken.items()})
        for row, outcome in enumerate(final)
    ]


def _source(task: EditTask) -> bytes:
    """Stands for the picture and its prompt; for the latents would not do, whose last bits are the batch's."""
    words = f"{tuple(task.source.shape)} {task.source_prompt}"
    return digest(words.encode("utf-8", "surrogatepass"), task.source)


def _blend(batch: Sequence[EditTask], latents: Tensor) -> Tensor | None:
    """[B, 1, h, w] share of each latent's pixels where the edit may be; None where it may be everywhere."""
    masks = [task.blend for task in batch if task.blend is not None]
    if len(masks) < len(batch):
        return None
    shares = torch.stack(masks)[:, None].to(latents)
    return interpolate(shares, latents.shape[-2:], mode="area")


def _outcomes(
    batch: Sequence[EditTask], images: Tensor, standing: Standing, seconds: float
) -> list[EditOutcome]:
    made = []
    for row, (task, image, account) in enumerate(zip(batch, images, standing.accounts(), strict=True)):
        reason = standing.reason(row) or _not_finite(image)
        made.append(
            EditOutcome(task.sample_id, None if reason else image, reason, seconds=seconds, **account)
        )
    return made


def _not_finite(image: Tensor) -> str | None:
    return None if image.isfinite().all() else "the autoencoder's output is not finite"
