"""The loop that runs a rule on a batch of edits.

The order of a step: noise the edit, compute all scores in one UNet call, move the edit, train the adapters. With
``fused_training`` an adapter whose score was computed where it would be trained learns from that very pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.adapters import AdapterTrainer, Lesson, TrainingPass
from piva_bench.distillation.latents import LatentImages
from piva_bench.distillation.parameterization import Observation, Parameterization, Rows
from piva_bench.distillation.rule import AdapterParams, AdapterSpec, DistillationMethod, Draw, Query, Step
from piva_bench.distillation.scores import Scorer
from piva_bench.errors import UserError
from piva_bench.method import EditOutcome, EditTask, OnStep

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
    _check_sizes(batch)
    start = time.perf_counter()
    # Adapters are trained here, which a caller's inference mode would forbid.
    with torch.inference_mode(False), torch.no_grad():
        source = denoiser.encode_images(torch.stack([task.source for task in batch]))
        edit = LatentImages(batch, source, rule.params)
        run = Distillation(rule, edit, denoiser, seed)
        run.run(on_step)
        images = denoiser.decode_latents(edit.latents).cpu()
    seconds = (time.perf_counter() - start) / len(batch)
    return [
        EditOutcome(
            task.sample_id,
            None if (reason := run.reason(row) or _not_finite(image)) else image,
            reason,
            seconds=seconds,
            **run.account(row),
        )
        for row, (task, image) in enumerate(zip(batch, images, strict=True))
    ]


class Distillation:
    """A rule at work on a parameterization of one or more edits: call ``run``, or ``warm_up`` and then ``step``.

    To be used without gradients and outside inference mode.

    Args:
        rule: the method.
        edit: what it moves.
        denoiser: the model.
        seed: of all random numbers.

    Attributes:
        alive: [B] samples that have not diverged.

    Raises:
        UserError: the rule's parameters do not fit the model or what is edited.
    """

    def __init__(
        self, rule: DistillationMethod, edit: Parameterization, denoiser: Denoiser, seed: int
    ) -> None:
        _check(rule, denoiser)
        self.rule, self.edit, self.denoiser, self.seed = rule, edit, denoiser, seed
        self.adapters = None
        if rule.adapters:
            assert isinstance(rule.params, AdapterParams), "a rule with adapters needs AdapterParams"
            self.adapters = AdapterTrainer(rule.adapters, rule.params, denoiser, edit, seed)
        self._online = [spec for spec in rule.adapters if spec.online]
        self._repeats = self.adapters.params.aux_steps if self.adapters and self._online else 0
        self.scorer = Scorer(denoiser, self.adapters)
        self.alive = torch.ones(len(edit.sample_ids), dtype=torch.bool, device=denoiser.device)
        self.failed_at = torch.full((len(edit.sample_ids),), -1, device=denoiser.device)
        self.trace: list[dict[str, Tensor]] = []
        self.evaluations = 0
        self._rows: Rows | None = None

    def run(self, on_step: OnStep | None = None) -> None:
        """All steps, or as many as it takes for every sample to diverge."""
        self.warm_up()
        for index in range(self.rule.params.steps):
            scalars = self.step(index)
            if not self.alive.any():
                break
            if on_step is not None:
                on_step(index, self.means(scalars))

    def warm_up(self) -> None:
        """Trains the adapters that ask for it before the edit begins."""
        for index in range(max((spec.warmup for spec in self.rule.adapters), default=0)):
            specs = [spec for spec in self.rule.adapters if index < spec.warmup]
            self._train(index, self._look(index), "warmup", specs)

    def step(self, index: int) -> dict[str, Tensor]:
        """One step of the edit and of its adapters; returns the step's scalars [B]."""
        rows = self._look(index)
        with torch.inference_mode():
            scalars, done = self._move(index, rows)
        if losses := self._train_online(index, rows, done):
            scalars["adapter_loss"] = torch.cat(losses).mean(dim=0)
        self.trace.append(scalars)
        return scalars

    def _look(self, index: int) -> Rows:
        """The step's rows; the same ones as long as the parameterization shows the same."""
        seen = self.edit.observe(index)
        if self._rows is None or self._rows.seen is not seen:
            self._check_depth(seen)
            self._rows = Rows.of(seen, self.denoiser, self.seed)
        return self._rows

    def _check_depth(self, seen: Observation) -> None:
        wants = self.adapters is not None and self.adapters.params.adapter == "controlnet"
        if wants and (seen.depth is None or seen.source_depth is None):
            raise UserError(
                "adapter=controlnet needs depth, which a picture has not: leave it out, or edit a 3D scene."
            )

    def _move(self, index: int, rows: Rows) -> tuple[dict[str, Tensor], TrainingPass | None]:
        """Moves the edit; the step's scalars, and the pass that adapters can learn from."""
        latents, source = rows.seen.latents, rows.seen.source_latents
        drawn: dict[str, Draw] = {}

        def draw(purpose: str) -> Draw:
            if purpose not in drawn:
                drawn[purpose] = self._draw(index, rows, purpose)
            return drawn[purpose]

        step = Step(**vars(draw("edit")), index=index, latents=latents, source_latents=source, draw=draw)
        queries = self.rule.queries(step)
        fused = self._fused(queries, step, list(drawn.values()))
        plain = {name: query for name, query in queries.items() if name not in fused}
        eps, computed = self.scorer(plain, step.t, rows, [one.noisy_source for one in drawn.values()])
        done = self._forward(index, rows, fused.values()) if fused else None
        if done is not None:
            eps |= {name: done.predictions()[spec.name] for name, (spec, _) in fused.items()}
        gradient = self.rule.gradient(step, eps)
        self.evaluations += computed * self.edit.views
        self._keep(gradient.flatten(1).isfinite().all(dim=1), index)
        alive = self.alive.repeat_interleave(self.edit.views)
        # where, not a product: NaN times 0 is NaN.
        self.edit.step(torch.where(alive.view(-1, 1, 1, 1), gradient, 0))
        self._keep(latents.flatten(1).abs().amax(dim=1) < DIVERGED, index)
        scalars = {"loss": _rms(gradient), "distance": _rms(latents - source), **step.scalars}
        return {name: self._by_sample(values).mean(dim=1) for name, values in scalars.items()}, done

    def _draw(self, index: int, rows: Rows, purpose: str) -> Draw:
        params, latents, source = self.rule.params, rows.seen.latents, rows.seen.source_latents
        t = rows.draws.timesteps(index, params.t_min, params.t_max, f"{purpose}/t")
        noise = rows.draws.noise(index, f"{purpose}/noise", latents.shape[1:])
        alpha, sigma = self.denoiser.alpha_sigma(t)
        noisy, noisy_source = alpha * latents + sigma * noise, alpha * source + sigma * noise
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

    def _forward(self, index: int, rows: Rows, fused: Iterable[Fused]) -> TrainingPass:
        """A pass that scores and can be learnt from; adapters of the source join it with a lesson of their own."""
        assert self.adapters is not None
        # Tensors made in inference mode cannot be differentiated through, copies of them can.
        with torch.inference_mode(False), torch.no_grad():
            lessons = {
                spec.name: Lesson(
                    draw.noisy.clone(),
                    draw.noise.clone(),
                    draw.t.clone(),
                    rows.embeds[spec.prompt],
                    rows.seen.depth,
                )
                for spec, draw in fused
            }
            for spec in self._online:
                if spec.data == "source" and not self.adapters.shares(spec):
                    lessons[spec.name] = self.adapters.lesson(index, rows, spec, "step0")
            specs = [spec for spec in self._online if spec.name in lessons]
            return self.adapters.forward(specs, [lessons[spec.name] for spec in specs])

    def _train_online(self, index: int, rows: Rows, done: TrainingPass | None) -> list[Tensor]:
        """Trains the adapters beside the edit; their losses [adapters, B] at each training step."""
        assert self.adapters is not None or not self._repeats
        losses = []
        for repeat in range(self._repeats):
            rest, learnt = self._online, []
            if self.adapters is not None and done is not None and repeat == 0:
                learnt = [self.adapters.learn(done)]
                rest = [spec for spec in self._online if spec not in done.specs]
            if rest:
                learnt.append(self._train(index, rows, f"step{repeat}", rest))
            losses.append(torch.cat(learnt))
        return losses

    def _train(self, index: int, rows: Rows, purpose: str, specs: Sequence[AdapterSpec]) -> Tensor:
        assert self.adapters is not None
        return self.adapters.train(index, rows, specs, purpose)

    def _by_sample(self, values: Tensor) -> Tensor:
        """[B, views] of values [R]."""
        return values.view(-1, self.edit.views)

    def _keep(self, healthy: Tensor, index: int) -> None:
        """Notes which rows [R] are well; a sample is if all its views are."""
        healthy = self._by_sample(healthy).all(dim=1)
        self.failed_at = torch.where(self.alive & ~healthy, index, self.failed_at)
        self.alive = self.alive & healthy

    def means(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Means over the samples that are alive."""
        return {name: float(values[self.alive].mean()) for name, values in scalars.items()}

    def reason(self, row: int) -> str | None:
        """Why a sample failed, or None if it did not."""
        at = int(self.failed_at[row])
        if at < 0:
            return None
        return f"diverged at step {at}: the latents or their gradient are too large or not finite"

    def account(self, row: int) -> dict[str, Any]:
        """What a sample cost and how it went, as fields of its outcome."""
        trained, at = self.adapters.evaluations if self.adapters else 0, int(self.failed_at[row])
        return {
            "unet_evaluations": self.evaluations + trained,
            "training_evaluations": trained,
            # What came after a failure means nothing.
            "trace": {
                name: [scalars[name][row] for scalars in self._steps[: at if at >= 0 else None]]
                for name in self._steps[0]
            },
        }

    @cached_property
    def _steps(self) -> list[dict[str, list[float]]]:
        """The trace on the CPU; to be read when all steps are done."""
        return [{name: values.tolist() for name, values in scalars.items()} for scalars in self.trace]


def _not_finite(image: Tensor) -> str | None:
    return None if image.isfinite().all() else "the autoencoder's output is not finite"


def _rms(values: Tensor) -> Tensor:
    """Root mean square of each row."""
    return values.square().mean(dim=(1, 2, 3)).sqrt()


def _check_sizes(batch: Sequence[EditTask]) -> None:
    shapes = {tuple(task.source.shape) for task in batch}
    if len(shapes) > 1:
        raise UserError(f"A batch holds pictures of one size, not of {sorted(shapes)}; group them by size.")


def _check(rule: DistillationMethod, denoiser: Denoiser) -> None:
    last = denoiser.num_train_timesteps - 1
    if rule.params.t_max > last:
        raise UserError(
            f"t_max={rule.params.t_max} is beyond the model's last timestep; set t_max to at most {last}."
        )
