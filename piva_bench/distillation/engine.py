"""The loop that runs a rule on a batch of edits.

The order of a step: noise the edit, compute all scores in one UNet call, move the edit, train the adapters. With
``fused_training`` an adapter whose score was computed where it would be trained learns from that very pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.adapters import AdapterTrainer, Lesson, TrainingPass
from piva_bench.distillation.latents import LatentImages
from piva_bench.distillation.method import EditOutcome, EditTask, OnStep
from piva_bench.distillation.noise import BatchNoise
from piva_bench.distillation.rule import AdapterParams, AdapterSpec, DistillationMethod, Draw, Query, Step
from piva_bench.distillation.scores import Scorer
from piva_bench.errors import UserError

Fused = tuple[AdapterSpec, Draw]
"""An adapter, and the draw at which its score is what it learns from."""

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
        self._online = [spec for spec in rule.adapters if spec.online]
        self._repeats = self.adapters.params.aux_steps if self.adapters and self._online else 0
        self.scorer = Scorer(denoiser, embeds, self.adapters)
        self.alive = torch.ones(len(batch), dtype=torch.bool, device=denoiser.device)
        self.failed_at = torch.full((len(batch),), -1, device=denoiser.device)
        self.trace: list[dict[str, Tensor]] = []
        self.evaluations = 0

    def warm_up(self) -> None:
        """Trains the adapters that ask for it before the edit begins."""
        for index in range(max((spec.warmup for spec in self.rule.adapters), default=0)):
            self._train(index, "warmup", [spec for spec in self.rule.adapters if index < spec.warmup])

    def step(self, index: int) -> dict[str, Tensor]:
        """One step of the edit and of its adapters; returns the step's scalars [B]."""
        with torch.inference_mode():
            scalars, done = self._move(index)
        if losses := self._train_online(index, done):
            scalars["adapter_loss"] = torch.cat(losses).mean(dim=0)
        self.trace.append(scalars)
        return scalars

    def _move(self, index: int) -> tuple[dict[str, Tensor], TrainingPass | None]:
        """Moves the edit; the step's scalars, and the pass that adapters can learn from."""
        latents = self.edit.latents
        drawn: dict[str, Draw] = {}

        def draw(purpose: str) -> Draw:
            if purpose not in drawn:
                drawn[purpose] = self._draw(index, purpose)
            return drawn[purpose]

        step = Step(**vars(draw("edit")), index=index, latents=latents, source_latents=self.source, draw=draw)
        queries = self.rule.queries(step)
        fused = self._fused(queries, step, list(drawn.values()))
        plain = {name: query for name, query in queries.items() if name not in fused}
        eps, rows = self.scorer(plain, step.t, [one.noisy_source for one in drawn.values()])
        done = self._forward(index, fused.values()) if fused else None
        if done is not None:
            eps |= {name: done.predictions()[spec.name] for name, (spec, _) in fused.items()}
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
        }, done

    def _draw(self, index: int, purpose: str) -> Draw:
        params, latents = self.rule.params, self.edit.latents
        t = self.draws.timesteps(index, params.t_min, params.t_max, f"{purpose}/t")
        noise = self.draws.noise(index, f"{purpose}/noise", latents.shape[1:])
        alpha, sigma = self.denoiser.alpha_sigma(t)
        noisy, noisy_source = alpha * latents + sigma * noise, alpha * self.source + sigma * noise
        return Draw(noise, t, alpha, sigma, noisy, noisy_source)

    def _fused(self, queries: dict[str, Query], step: Step, draws: Iterable[Draw]) -> dict[str, Fused]:
        """By query name, those that ask an adapter just what it could be trained on."""
        if self.adapters is None or not self.adapters.params.fused_training or not self._repeats:
            return {}
        found: dict[str, Fused] = {}
        for spec in (spec for spec in self._online if spec.data == "edit"):
            for name, query in queries.items():
                t = step.t if query.t is None else query.t
                asked = query.adapter == spec.name and query.prompt == spec.prompt
                draw = next((one for one in draws if one.noisy is query.noisy and one.t is t), None)
                if asked and query.guidance in (None, 1) and draw is not None:
                    found[name] = (spec, draw)
                    break  # an adapter learns once a step
        return found

    def _forward(self, index: int, fused: Iterable[Fused]) -> TrainingPass:
        """A pass that scores and can be learnt from; adapters of the source join it with a lesson of their own."""
        assert self.adapters is not None
        # Tensors made in inference mode cannot be differentiated through, copies of them can.
        with torch.inference_mode(False), torch.no_grad():
            lessons = {
                spec.name: Lesson(
                    draw.noisy.clone(), draw.noise.clone(), draw.t.clone(), self.adapters.embeds[spec.prompt]
                )
                for spec, draw in fused
            }
            for spec in self._online:
                if spec.data == "source" and not self.adapters.shares(spec):
                    lessons[spec.name] = self.adapters.lesson(index, self._data, spec, "step0")
            specs = [spec for spec in self._online if spec.name in lessons]
            return self.adapters.forward(specs, [lessons[spec.name] for spec in specs])

    def _train_online(self, index: int, done: TrainingPass | None) -> list[Tensor]:
        """Trains the adapters beside the edit; their losses [adapters, B] at each training step."""
        assert self.adapters is not None or not self._repeats
        losses = []
        for repeat in range(self._repeats):
            rest, learnt = self._online, []
            if self.adapters is not None and done is not None and repeat == 0:
                learnt = [self.adapters.learn(done)]
                rest = [spec for spec in self._online if spec not in done.specs]
            if rest:
                learnt.append(self._train(index, f"step{repeat}", rest))
            losses.append(torch.cat(learnt))
        return losses

    def _train(self, index: int, purpose: str, specs: Sequence[AdapterSpec]) -> Tensor:
        assert self.adapters is not None
        return self.adapters.train(index, self._data, specs, purpose)

    @property
    def _data(self) -> dict[str, Tensor]:
        return {"source": self.source, "edit": self.edit.latents}

    def _keep(self, healthy: Tensor, index: int) -> None:
        self.failed_at = torch.where(self.alive & ~healthy, index, self.failed_at)
        self.alive = self.alive & healthy

    def means(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Means over the samples that are alive."""
        return {name: float(values[self.alive].mean()) for name, values in scalars.items()}

    def outcomes(self, images: Tensor, seconds: float) -> list[EditOutcome]:
        """What became of every task, given the decoded pictures."""
        trained = self.adapters.evaluations if self.adapters else 0
        steps = [{name: values.tolist() for name, values in scalars.items()} for scalars in self.trace]
        failures = self.failed_at.tolist()
        return [
            EditOutcome(
                task.sample_id,
                None if (reason := _reason(failures[row], images[row])) else images[row],
                reason,
                unet_evaluations=self.evaluations + trained,
                seconds=seconds,
                # What came after a failure means nothing.
                trace={
                    name: [
                        scalars[name][row]
                        for scalars in steps[: failures[row] if failures[row] >= 0 else None]
                    ]
                    for name in steps[0]
                },
                training_evaluations=trained,
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
