"""The loop that runs a rule on a batch of edits.

The order of a step: noise the edit, ask the rule for its gradient, move the edit, train the adapters. With
``fused_training`` an adapter whose score was computed where it would be trained learns from that very pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.adapters import AdapterTrainer, Lesson, TrainingPass
from piva_bench.distillation.parameterization import Parameterization
from piva_bench.distillation.params import AdapterParams, AdapterSpec, Rule
from piva_bench.distillation.source_fit import fit_sources
from piva_bench.distillation.state import State
from piva_bench.errors import MethodError, UserError
from piva_bench.method import OnStep, Progress
from piva_bench.session.predictor import Predictor
from piva_bench.session.query import Query
from piva_bench.session.rows import Observation, Rows
from piva_bench.session.step import DIAGNOSED, Draw, Step

Fused = tuple[AdapterSpec, Draw]
"""An adapter, and the draw at which its score is what it learns from."""

DIVERGED = 1e3
"""Latents have unit scale; an edit with a latent beyond this has left every picture behind."""


@dataclass(frozen=True)
class Standing:
    """Where a batch of edits stands after some steps: which samples failed, and what it has cost.

    Attributes:
        failed_at: [B] the step at which a sample failed, -1 for those that are well.
        evaluations: rows computed so far, per sample.
        differentiated: how many of them were computed forward and backward.
        trace: of every step so far, scalars [B] by name.
    """

    failed_at: Tensor
    evaluations: int
    differentiated: int
    trace: list[dict[str, Tensor]]

    def reason(self, row: int) -> str | None:
        """Why a sample failed, or None if it did not."""
        at = int(self.failed_at[row])
        if at < 0:
            return None
        return f"diverged at step {at}: the latents or their gradient are too large or not finite"

    def accounts(self) -> list[dict[str, Any]]:
        """For each sample what it cost and how it went, as fields of its outcome."""
        steps = [{name: values.tolist() for name, values in scalars.items()} for scalars in self.trace]
        # Not every step has all of them: what a diagnosis shows is measured now and then.
        names = list(dict.fromkeys(name for scalars in steps for name in scalars))
        accounts = []
        for row, at in enumerate(self.failed_at.tolist()):
            # What came after a failure means nothing.
            own = steps[:at] if at >= 0 else steps
            accounts.append(
                {
                    "unet_evaluations": self.evaluations,
                    "training_evaluations": self.differentiated,
                    "trace": {
                        name: [scalars[name][row] if name in scalars else math.nan for scalars in own]
                        for name in names
                    },
                }
            )
        return accounts


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

    def __init__(self, rule: Rule, edit: Parameterization, denoiser: Denoiser, seed: int) -> None:
        _check(rule, denoiser)
        self.rule, self.edit, self.denoiser, self.seed = rule, edit, denoiser, seed
        self.adapters = None
        if rule.adapters:
            if not isinstance(rule.params, AdapterParams):
                raise MethodError("A rule with adapters needs parameters that are AdapterParams, too.")
            self.adapters = AdapterTrainer(rule.adapters, rule.params, denoiser, edit, seed)
        self._online = [spec for spec in rule.adapters if spec.online]
        self._repeats = self.adapters.params.aux_steps if self.adapters and self._online else 0
        self.predictor = Predictor(denoiser, self.adapters)
        self.alive = torch.ones(len(edit.sample_ids), dtype=torch.bool, device=denoiser.device)
        self.failed_at = torch.full((len(edit.sample_ids),), -1, device=denoiser.device)
        self.trace: list[dict[str, Tensor]] = []
        self._rows: Rows | None = None

    def run(
        self,
        on_step: OnStep | None = None,
        snapshots: Sequence[int] = (),
        take: Callable[[int], None] = lambda steps: None,
        first: int = 0,
        keep: Callable[[int], None] = lambda steps: None,
    ) -> None:
        """All steps, or as many as it takes for every sample to diverge.

        Args:
            on_step: told of every step.
            snapshots: numbers of steps.
            take: called with each of them when so many steps are done, or no more will be.
            first: the step to go on with, after ``restore``.
            keep: called with the number of steps done whenever more are to come.
        """
        if not first:
            self.warm_up()
        left, steps = sorted(set(snapshots)), self.rule.params.steps
        for index in range(first, steps):
            scalars = self.step(index)
            while left and left[0] == index + 1:
                take(left.pop(0))
            if not self.alive.any():
                break
            if on_step is not None:
                shown = self._rows.seen.latents if self._rows is not None else None
                on_step(Progress(index, steps, self.means(scalars), shown))
            if index + 1 < steps:
                keep(index + 1)
        for number in left:
            take(number)

    def warm_up(self) -> None:
        """Puts the source's adapters where their fit has brought them, if the rule's parameters ask for one;
        those that begin as one of them then do.
        """
        if self.adapters is not None:
            fit_sources(self.adapters, self.edit)
            self.adapters.start()

    def step(self, index: int) -> dict[str, Tensor]:
        """One step of the edit and of its adapters; returns the step's scalars [B]."""
        rows = self._look(index)
        # Inference mode, unless gradients through the network are wanted: it is faster, and forbids them.
        differentiates = self.rule.differentiates
        with torch.inference_mode(not differentiates), torch.set_grad_enabled(differentiates):
            scalars, done = self._move(index, rows)
        if self.adapters is not None and (index + 1) % DIAGNOSED == 0:
            with torch.inference_mode():
                scalars |= self.adapters.diagnose(index, rows)
        if losses := self._train_online(index, rows, done):
            scalars["adapter_loss"] = torch.cat(losses).mean(dim=0)
        self.trace.append(scalars)
        return scalars

    def standing(self) -> Standing:
        """Where the edits stand now."""
        adapters, views = self.adapters, self.edit.views
        trained, diagnosed = (adapters.evaluations, adapters.diagnosed) if adapters else (0, 0)
        return Standing(
            self.failed_at.clone(),
            self.predictor.evaluations * views + trained + diagnosed,
            self.predictor.differentiated * views + trained,
            list(self.trace),
        )

    def state(self, steps: int) -> State:
        """All that the engine knows after so many steps; what is edited has a state of its own."""
        trace = [{name: values.tolist() for name, values in scalars.items()} for scalars in self.trace]
        counts = [self.predictor.evaluations, self.predictor.differentiated]
        tensors = {"alive": self.alive, "failed_at": self.failed_at}
        if self.adapters is not None:
            tensors |= self.adapters.state()
            counts += [self.adapters.evaluations, self.adapters.diagnosed]
        return State(steps, tensors, {"trace": trace, "counts": counts})

    def restore(self, state: State) -> None:
        """Puts back what ``state`` gave."""
        self.alive, self.failed_at = (
            state.tensors[name].to(self.denoiser.device) for name in ("alive", "failed_at")
        )
        self.predictor.evaluations, self.predictor.differentiated, *trained = state.words["counts"]
        # In double precision, which holds every number that was written.
        self.trace = [
            {name: torch.tensor(values, dtype=torch.float64) for name, values in scalars.items()}
            for scalars in state.words["trace"]
        ]
        if self.adapters is not None:
            self.adapters.restore(state.tensors)
            self.adapters.evaluations, self.adapters.diagnosed = trained

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
        done: list[TrainingPass] = []

        def learn(queries: Mapping[str, Query]) -> dict[str, Tensor]:
            fused = {} if done else self._fused(queries, step)
            if not fused:
                return {}
            done.append(self._forward(index, rows, fused.values()))
            return {name: done[0].predictions()[spec.name] for name, (spec, _) in fused.items()}

        step = Step(rows, self.predictor, index, self.rule.timesteps(index), learn)
        version = latents._version
        gradient = _checked(self.rule.gradient(step), step)
        if latents._version != version:
            raise MethodError(
                "The rule changes step.latents in place: it returns a gradient, and the engine moves them."
            )
        self._keep(gradient.flatten(1).isfinite().all(dim=1), index)
        alive = self.alive.repeat_interleave(self.edit.views)
        # where, not a product: NaN times 0 is NaN.
        self.edit.step(torch.where(alive.view(-1, 1, 1, 1), gradient, 0))
        self._keep(latents.flatten(1).abs().amax(dim=1) < DIVERGED, index)
        scalars = {"loss": _rms(gradient), "distance": _rms(latents - source), **step.scalars}
        by_sample = {name: self._by_sample(values).mean(dim=1) for name, values in scalars.items()}
        return by_sample, done[0] if done else None

    def _fused(self, queries: Mapping[str, Query], step: Step) -> dict[str, Fused]:
        """By query name, those that ask an adapter just what it could be trained on."""
        if self.adapters is None or not self.adapters.params.fused_training or not self._repeats:
            return {}
        draws = {draw.edit.key: draw for draw in step.draws.values()}
        found: dict[str, Fused] = {}
        for spec in (spec for spec in self._online if spec.data == "edit"):
            for name, query in queries.items():
                asked = query.adapter == spec.name and query.prompt == spec.prompt
                draw = draws.get(query.noisy.key)
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
                    draw.edit.latents.clone(),
                    draw.edit.noise.clone(),
                    draw.edit.t.clone(),
                    rows.condition(spec.prompt),
                    rows.seen.depth,
                )
                for spec, draw in fused
            }
            for spec in self._online:
                if spec.data == "source" and not self.adapters.shares(spec):
                    lessons[spec.name] = self.adapters.lesson(index, rows, spec, "step0", 1)
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


def _rms(values: Tensor) -> Tensor:
    """Root mean square of each row."""
    return values.square().mean(dim=(1, 2, 3)).sqrt()


def _checked(gradient: Tensor, step: Step) -> Tensor:
    """A rule's gradient without its graph.

    Raises:
        MethodError: it, or a scalar of the step, has another shape than it must have.
    """
    shape = tuple(step.latents.shape)
    if not isinstance(gradient, Tensor) or tuple(gradient.shape) != shape:
        given = tuple(gradient.shape) if isinstance(gradient, Tensor) else type(gradient).__name__
        raise MethodError(f"The rule's gradient is {given}, not a tensor like its latents, {shape}.")
    for name, values in step.scalars.items():
        if tuple(values.shape) != shape[:1]:
            raise MethodError(
                f"The rule's scalar '{name}' has the shape {tuple(values.shape)}, not one value a row, {shape[:1]}."
            )
    return gradient.detach()


def _check(rule: Rule, denoiser: Denoiser) -> None:
    last = len(denoiser.schedule) - 1
    if rule.params.t_max > last:
        raise UserError(
            f"t_max={rule.params.t_max} is beyond the model's last timestep; set t_max to at most {last}."
        )
