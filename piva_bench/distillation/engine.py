"""The loop that runs a rule on a batch of edits.

The order of a step: noise the edit, compute all scores in one UNet call, move the edit, train the adapters.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.latents import LatentImages
from piva_bench.distillation.method import EditOutcome, EditTask, OnStep
from piva_bench.distillation.noise import BatchNoise
from piva_bench.distillation.rule import AdapterParams, AdapterSpec, DistillationMethod, Draw, Step
from piva_bench.distillation.scores import Scorer
from piva_bench.errors import UserError

DIVERGED = 1e3
"""Latents have unit scale; an edit with a latent beyond this has left every picture behind."""


def distill(
    rule: DistillationMethod,
    batch: Sequence[EditTask],
    denoiser: Denoiser,
    seed: int,
    on_step: OnStep | None = None,
) -> list[EditOutcome]:
    """Edits a batch of pictures by a rule; see ``EditMethod.edit``.

    Samples do not influence each other: noise is drawn per sample, and a sample whose gradient or latents
    stop being finite is held still and reported failed while the others go on.
    """
    if not batch:
        return []
    _check(rule, batch, denoiser)
    start = time.perf_counter()
    # Adapters are trained here, which a caller's inference mode would forbid.
    with torch.inference_mode(False), torch.no_grad():
        run = _Run(rule, batch, denoiser, seed)
        run.warm_up()
        for index in range(rule.params.steps):
            scalars = run.step(index)
            if not run.alive.any():
                break
            if on_step is not None:
                on_step(index, run.means(scalars))
        images = denoiser.decode_latents(run.edit.latents).cpu()
    return run.outcomes(images, (time.perf_counter() - start) / len(batch))


class _Run:
    """The state of one batch."""

    def __init__(
        self, rule: DistillationMethod, batch: Sequence[EditTask], denoiser: Denoiser, seed: int
    ) -> None:
        self.rule, self.batch, self.denoiser = rule, batch, denoiser
        self.draws = BatchNoise(seed, [task.sample_id for task in batch], denoiser.device)
        self.source = denoiser.encode_images(torch.stack([task.source for task in batch]))
        self.edit = LatentImages(self.source, rule.params)
        embeds = {
            "source": denoiser.encode_prompts([task.source_prompt for task in batch]),
            "target": denoiser.encode_prompts([task.target_prompt for task in batch]),
            "null": denoiser.encode_prompts([""] * len(batch)),
        }
        self.adapters = None
        if rule.adapters:
            assert isinstance(rule.params, AdapterParams), "a rule with adapters needs AdapterParams"
            self.adapters = AdapterTrainer(rule.adapters, rule.params, denoiser, self.draws, embeds)
        self.scorer = Scorer(denoiser, embeds, self.adapters)
        self.alive = torch.ones(len(batch), dtype=torch.bool, device=denoiser.device)
        self.failed_at = torch.full((len(batch),), -1, device=denoiser.device)
        self.trace: list[dict[str, Tensor]] = []
        self.evaluations = self.training_evaluations = 0

    def warm_up(self) -> None:
        """Trains the adapters that ask for it before the edit begins."""
        for index in range(max((spec.warmup for spec in self.rule.adapters), default=0)):
            self._train(index, "warmup", [spec for spec in self.rule.adapters if index < spec.warmup])

    def step(self, index: int) -> dict[str, Tensor]:
        """One step of the edit and of its adapters; returns the step's scalars [B]."""
        with torch.inference_mode():
            scalars = self._move(index)
        online = [spec for spec in self.rule.adapters if spec.online]
        repeats = range(self.adapters.params.aux_steps if self.adapters and online else 0)
        if losses := [self._train(index, f"step{repeat}", online) for repeat in repeats]:
            scalars["adapter_loss"] = torch.stack(losses).mean(dim=(0, 1))
        self.trace.append(scalars)
        return scalars

    def _move(self, index: int) -> dict[str, Tensor]:
        latents = self.edit.latents
        drawn: dict[str, Draw] = {}

        def draw(purpose: str) -> Draw:
            if purpose not in drawn:
                drawn[purpose] = self._draw(index, purpose)
            return drawn[purpose]

        step = Step(**vars(draw("edit")), index=index, latents=latents, source_latents=self.source, draw=draw)
        eps, rows = self.scorer(self.rule.queries(step), step.t)
        gradient = self.rule.gradient(step, eps)
        self.evaluations += rows
        finite = gradient.flatten(1).isfinite().all(dim=1)
        self._keep(finite, index)
        # where, not a product: NaN times 0 is NaN.
        self.edit.step(torch.where(self.alive.view(-1, 1, 1, 1), gradient, 0))
        self._keep(latents.flatten(1).abs().amax(dim=1) < DIVERGED, index)
        return {
            "loss": _rms(gradient),
            "distance": _rms(latents - self.source),
            **step.scalars,
        }

    def _draw(self, index: int, purpose: str) -> Draw:
        params, latents = self.rule.params, self.edit.latents
        t = self.draws.timesteps(index, params.t_min, params.t_max, f"{purpose}/t")
        noise = self.draws.noise(index, f"{purpose}/noise", latents.shape[1:])
        alpha, sigma = self.denoiser.alpha_sigma(t)
        noisy, noisy_source = alpha * latents + sigma * noise, alpha * self.source + sigma * noise
        return Draw(noise, t, alpha, sigma, noisy, noisy_source)

    def _train(self, index: int, purpose: str, specs: Sequence[AdapterSpec]) -> Tensor:
        assert self.adapters is not None
        self.training_evaluations += len(specs)
        return self.adapters.train(index, {"source": self.source, "edit": self.edit.latents}, specs, purpose)

    def _keep(self, healthy: Tensor, index: int) -> None:
        self.failed_at = torch.where(self.alive & ~healthy, index, self.failed_at)
        self.alive = self.alive & healthy

    def means(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Means over the samples that are alive."""
        return {name: float(values[self.alive].mean()) for name, values in scalars.items()}

    def outcomes(self, images: Tensor, seconds: float) -> list[EditOutcome]:
        """What became of every task, given the decoded pictures."""
        steps = [{name: values.tolist() for name, values in scalars.items()} for scalars in self.trace]
        failures = self.failed_at.tolist()
        return [
            EditOutcome(
                task.sample_id,
                None if (reason := _reason(failures[row], images[row])) else images[row],
                reason,
                unet_evaluations=self.evaluations + self.training_evaluations,
                seconds=seconds,
                # What came after a failure means nothing.
                trace={
                    name: [
                        scalars[name][row]
                        for scalars in steps[: failures[row] if failures[row] >= 0 else None]
                    ]
                    for name in steps[0]
                },
                training_evaluations=self.training_evaluations,
            )
            for row, task in enumerate(self.batch)
        ]


def _reason(failed_at: int, image: Tensor) -> str | None:
    """Why an edit failed, or None if it did not."""
    if failed_at >= 0:
        return f"diverged at step {failed_at}: the latents or their gradient are too large or not finite"
    return None if image.isfinite().all() else "the autoencoder's output is not finite"


def _rms(values: Tensor) -> Tensor:
    """Root mean square of each sample."""
    return values.square().mean(dim=(1, 2, 3)).sqrt()


def _check(rule: DistillationMethod, batch: Sequence[EditTask], denoiser: Denoiser) -> None:
    shapes = {tuple(task.source.shape) for task in batch}
    if len(shapes) > 1:
        raise UserError(f"A batch holds pictures of one size, not of {sorted(shapes)}; group them by size.")
    last = denoiser.num_train_timesteps - 1
    if rule.params.t_max > last:
        raise UserError(
            f"t_max={rule.params.t_max} is beyond the model's last timestep; set t_max to at most {last}."
        )
