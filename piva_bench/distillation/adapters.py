"""The adapters of a batch of edits, and their training: all samples and all adapters in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.controlnet import ControlRows
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.effects import RowEffect
from piva_bench.diffusion.kept import digest, row_digests
from piva_bench.distillation.parameterization import Samples
from piva_bench.distillation.params import AdapterParams, AdapterSpec
from piva_bench.distillation.source_training import SourceTraining
from piva_bench.distillation.state import optimizer_tensors, restore_optimizer
from piva_bench.session.noise import BatchNoise
from piva_bench.session.rows import Rows

_DECIDE_WEIGHTS = {
    "lora_rank", "lora_layers", "lora_learning_rate", "aux_draws", "prompt_dropout", "source_steps", "source_draws",
}  # fmt: skip
"""Parameters that decide what an adapter learns."""


@dataclass(frozen=True)
class Lesson:
    """What one adapter of each sample learns from in a step.

    Attributes:
        noisy: noisy latents [R, C, h, w].
        noise: the noise in them, which is to be predicted.
        t: timesteps [R].
        condition: R rows.
        depth: [R, 1, H, W] of the rows, for adapters of a depth ControlNet.
    """

    noisy: Tensor
    noise: Tensor
    t: Tensor
    condition: Condition
    depth: Tensor | None = None


@dataclass(frozen=True)
class TrainingPass:
    """A forward pass that adapters can learn from.

    Attributes:
        specs: the adapters.
        weights: theirs [len(specs) * B, P], to be differentiated for.
        noise: what was to be predicted [len(specs) * R, C, h, w].
        prediction: what was predicted.
    """

    specs: Sequence[AdapterSpec]
    weights: Tensor
    noise: Tensor
    prediction: Tensor

    def predictions(self) -> dict[str, Tensor]:
        """Predictions [R, C, h, w] by adapter."""
        parts = self.prediction.detach().chunk(len(self.specs))
        return dict(zip([spec.name for spec in self.specs], parts, strict=True))


class AdapterTrainer:
    """Every adapter of every sample, each with weights of its own, trained on its sample alone: on all its views.

    The losses of all rows are summed, and AdamW is elementwise: a step on the stacked weights is a step of
    each sample's adapter by itself.

    Where the denoiser keeps results, an adapter that learns the source alone is trained once for all edits
    that have it in common, see ``SourceTraining``; unless the source is seen from other sides at every step.

    Args:
        specs: the adapters of one sample.
        params: form, rank, learning rate, prompt dropout.
        denoiser: the frozen prior they adapt.
        edit: the samples, the views of each, and whether its source stands still.
        seed: of the adapters' first weights.

    Attributes:
        weights: [B, P] by adapter name, see ``AttentionLora``; parts of one tensor.
        evaluations: rows computed forward and backward so far, per sample; what was looked up counts as well.
        diagnosed: rows computed to know how well the adapters do, per sample.
    """

    def __init__(
        self,
        specs: Sequence[AdapterSpec],
        params: AdapterParams,
        denoiser: Denoiser,
        edit: Samples,
        seed: int,
    ) -> None:
        self.params, self.denoiser, self.views, self._still = params, denoiser, edit.views, edit.still
        self.draws = BatchNoise(seed, edit.sample_ids, denoiser.device)
        # The network that the weights belong to: the prior itself, or the ControlNet beside it.
        network = denoiser if params.adapter == "lora" else denoiser.need_depth_control()
        self.lora = network.lora(params.lora_layers)
        self.specs, self.names = tuple(specs), [spec.name for spec in specs]
        self._all = torch.cat([self._initial(name) for name in self.names])
        self.weights: dict[str, Tensor] = dict(zip(self.names, self._all.chunk(len(specs)), strict=True))
        self.optimizers = {name: self._optimizer(name) for name in self.names}
        self.evaluations = self.diagnosed = 0
        self._source_training: dict[str, SourceTraining] = {}
        self._begun: dict[str, Tensor] = {}

    def _initial(self, name: str) -> Tensor:
        numel = self.lora.a_numel(self.params.lora_rank)
        return self.lora.initial(self.draws.uniform(0, f"adapter/{name}/weights", (numel,)))

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        # One each, so that an adapter can rest. PyTorch's defaults (weight decay 0.01) are those of the official
        # VSD code.
        return torch.optim.AdamW([self.weights[name]], lr=self.params.lora_learning_rate, fused=True)

    def start(self) -> None:
        """Adapters that begin where another stands take its weights, and no more: their optimisers are fresh."""
        for spec in self.specs:
            if spec.start is not None:
                self.weights[spec.name].copy_(self.weights[spec.start])

    def begin(self, name: str, parts: Sequence[Tensor], steps: int, rows: int) -> None:
        """Puts an adapter where training has brought it elsewhere.

        Args:
            name: of the adapter.
            parts: its weights and AdamW's first and second moment, [B, P] each.
            steps: training steps that made them.
            rows: computed forward and backward for each sample to make them.
        """
        weights, *moments = (part.to(self.denoiser.device) for part in parts)
        self.weights[name].copy_(weights)
        self._begun[name] = weights
        values = dict(zip(("exp_avg", "exp_avg_sq"), moments, strict=True)) | {
            "step": torch.tensor(float(steps))
        }
        state = {f"{name}/0/{each}": value for each, value in values.items()}
        restore_optimizer(self.optimizers[name], name, state)
        self.evaluations += rows

    def state(self) -> dict[str, Tensor]:
        """Weights and optimisers by name."""
        tensors = {"adapters": self._all}
        for name, optimizer in self.optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"adapters/{name}")
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what ``state`` gave."""
        self._all.copy_(tensors["adapters"])
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, f"adapters/{name}", tensors)

    def _stacked(self, names: Sequence[str]) -> Tensor:
        """Weights [len(names) * B, P] of these adapters; no copy if they lie side by side."""
        first, batch = self.names.index(names[0]), len(self.weights[names[0]])
        if list(names) == self.names[first : first + len(names)]:
            return self._all[first * batch : (first + len(names)) * batch]
        return torch.cat([self.weights[name] for name in names])

    def active(
        self, names: Sequence[str], depth: Tensor | None = None, start: int = 0
    ) -> Sequence[RowEffect]:
        """These adapters, each for all samples, for the batch rows from ``start`` on; as the denoiser takes them.

        Args:
            names: adapters.
            depth: [len(names) * R, 1, H, W] of those rows, for adapters of a depth ControlNet.
            start: the first of the rows.
        """
        return self._active(self._stacked(names), depth, start, self.views)

    def _active(self, weights: Tensor, depth: Tensor | None, start: int, repeat: int) -> Sequence[RowEffect]:
        if self.params.adapter == "lora":
            return (self.lora.rows(weights, start, repeat),)
        assert depth is not None, "the engine checks that there is depth"
        return (ControlRows(depth, self.lora.rows(weights, 0, repeat), start),)

    def shares(self, spec: AdapterSpec) -> bool:
        """Whether this adapter's training is shared with other edits; it then trains in a pass of its own."""
        return self.denoiser.kept is not None and spec.data == "source" and self._still

    def train(self, index: int, rows: Rows, specs: Sequence[AdapterSpec], purpose: str) -> Tensor:
        """One step of AdamW on the denoising loss of the adapters ``specs``; the others stay as they are.

        Timesteps are uniform over the whole schedule, and each row's prompt is dropped with the chance set.

        Args:
            index: step number the random numbers are drawn for.
            rows: what the step looks at.
            specs: which adapters to train.
            purpose: tells draws of one step number apart.

        Returns:
            Losses [len(specs), B]: mean squared error of each sample.
        """
        losses = {
            spec.name: self._train_source(index, rows, spec, purpose) for spec in specs if self.shares(spec)
        }
        if together := [spec for spec in specs if spec.name not in losses]:
            draws = self.params.aux_draws
            lessons = [self.lesson(index, rows, spec, purpose, draws) for spec in together]
            learnt = self.learn(self.forward(together, lessons))
            losses |= dict(zip([spec.name for spec in together], learnt, strict=True))
        return torch.stack([losses[spec.name] for spec in specs])

    def diagnose(self, index: int, rows: Rows) -> dict[str, Tensor]:
        """How well each adapter knows what it learns, beside the prior: ``NAME_loss``, ``NAME_prior_loss`` [B].

        Mean squared errors on the same noisy latents, at a timestep of the whole schedule and noise of their own,
        under the adapter's prompt. 1 - the one / the other is the adapter's gain.
        """
        specs, draws, schedule = self.specs, rows.draws, self.denoiser.schedule
        noisy, noises, times = [], [], []
        for spec in specs:
            latents, what = rows.data[spec.data], f"adapter/{spec.name}/diagnosis"
            t, noise = (
                draws.timesteps(index, range(len(schedule)), f"{what}/t"),
                draws.noise(index, f"{what}/noise", latents.shape[1:]),
            )
            noisy.append(schedule.add_noise(latents, noise, t))
            noises.append(noise)
            times.append(t)
        condition = Condition.cat([rows.condition(spec.prompt) for spec in specs] * 2)
        depths = [rows.depth[spec.data] for spec in specs]
        depth = torch.cat([each for each in depths if each is not None]) if None not in depths else None
        predicted = self.denoiser.predict_noise(
            torch.cat(noisy * 2), torch.cat(times * 2), condition, self.active(self.names, depth)
        )
        self.diagnosed += 2 * len(specs) * self.views
        errors = (predicted - torch.cat(noises * 2)).square().mean(dim=(1, 2, 3))
        means = errors.view(2, len(specs), -1, self.views).mean(dim=3)
        names = [f"{spec.name}_{what}" for what in ("loss", "prior_loss") for spec in specs]
        return dict(zip(names, means.flatten(0, 1), strict=True))

    def lesson(self, index: int, rows: Rows, spec: AdapterSpec, purpose: str, count: int) -> Lesson:
        """What an adapter learns from in an ordinary training step, of so many draws a row; see ``train``."""
        latents, draws, what = rows.data[spec.data], rows.draws, f"adapter/{spec.name}/{purpose}"
        schedule = self.denoiser.schedule
        # The first draw has the plain name, and a row's draws stand side by side.
        names = [what, *(f"{what}/{number}" for number in range(1, count))]
        t = _interleaved([draws.timesteps(index, range(len(schedule)), f"{name}/t") for name in names])
        noise = _interleaved([draws.noise(index, f"{name}/noise", latents.shape[1:]) for name in names])
        chance = _interleaved([draws.uniform(index, f"{name}/dropout") for name in names])
        prompt, null = (rows.condition(each).repeat(count) for each in (spec.prompt, "null"))
        latents, depth = latents.repeat_interleave(count, 0), rows.depth[spec.data]
        condition = null.where(chance < self.params.prompt_dropout, prompt)
        depth = None if depth is None else depth.repeat_interleave(count, 0)
        return Lesson(schedule.add_noise(latents, noise, t), noise, t, condition, depth)

    def forward(self, specs: Sequence[AdapterSpec], lessons: Sequence[Lesson]) -> TrainingPass:
        """Predicts every lesson's noise with its adapter, all in one pass; ``learn`` takes the step."""
        weights = self._stacked([spec.name for spec in specs]).detach().requires_grad_()
        noisy, noise, t = (
            torch.cat([getattr(lesson, name) for lesson in lessons]) for name in ("noisy", "noise", "t")
        )
        condition = Condition.cat([lesson.condition for lesson in lessons])
        depths = [lesson.depth for lesson in lessons if lesson.depth is not None]
        with self.denoiser.section("adapters"), torch.enable_grad():
            repeat = len(noisy) // len(weights)
            active = self._active(weights, torch.cat(depths) if depths else None, 0, repeat)
            prediction = self.denoiser.predict_noise(noisy, t, condition, active)
        self.evaluations += len(specs) * repeat
        return TrainingPass(specs, weights, noise, prediction)

    def learn(self, done: TrainingPass) -> Tensor:
        """A step of AdamW for every adapter of a pass; losses [len(specs), B]."""
        with self.denoiser.section("adapters"):
            return self._learn(done)

    def _learn(self, done: TrainingPass) -> Tensor:
        with torch.enable_grad():
            errors = (done.prediction - done.noise).square()
            # The sum, divided afterwards, gives each sample's mean loss with gradients large enough for float16.
            (gradients,) = torch.autograd.grad(errors.sum(), done.weights)
        repeat = len(errors) // len(done.weights)
        gradients /= errors[0].numel() * repeat
        for spec, gradient in zip(done.specs, gradients.chunk(len(done.specs)), strict=True):
            self.weights[spec.name].grad = gradient
            self.optimizers[spec.name].step()
        return errors.detach().mean(dim=(1, 2, 3)).view(len(done.specs), -1, repeat).mean(dim=2)

    def _train_source(self, index: int, rows: Rows, spec: AdapterSpec, purpose: str) -> Tensor:
        """A step of an adapter that learns the source alone: looked up, or made and kept. Losses [B]."""
        weights = self.weights[spec.name]
        if spec.name not in self._source_training:
            assert self.denoiser.kept is not None
            keys = self._source_keys(rows, spec)
            self._source_training[spec.name] = SourceTraining(self.denoiser.kept, keys)
        training = self._source_training[spec.name]
        found, to_repeat = training.step(index, purpose, weights)
        if found is not None:
            weights.copy_(found[:, :-1])
            self.evaluations += self.views * self.params.aux_draws
            return found[:, -1]
        if to_repeat:
            begun = self._begun.get(spec.name)
            weights.copy_(self._initial(spec.name) if begun is None else begun)
        counted, draws = self.evaluations, self.params.aux_draws
        for repeated, its_purpose in to_repeat:
            self.learn(self.forward([spec], [self.lesson(repeated, rows, spec, its_purpose, draws)]))
        self.evaluations = counted  # they have been counted when they were found
        (losses,) = self.learn(self.forward([spec], [self.lesson(index, rows, spec, purpose, draws)]))
        training.keep(torch.cat([weights, losses[:, None]], dim=1))
        return losses

    def _source_keys(self, rows: Rows, spec: AdapterSpec) -> list[bytes]:
        """For each sample, all that the adapter's weights depend on besides the steps it has taken."""
        prompts = [rows.condition(prompt).digests() for prompt in (spec.prompt, "null")]
        digests = [row_digests(rows.data["source"]), *prompts]
        params = self.params.model_dump(include=_DECIDE_WEIGHTS)
        shared = repr((spec.name, self.draws.seed, sorted(params.items()))).encode()
        names = [name.encode("utf-8", "surrogatepass") for name in self.draws.sample_ids]
        return [digest(b"adapter", shared, *parts) for parts in zip(names, *digests, strict=True)]


def _interleaved(draws: Sequence[Tensor]) -> Tensor:
    """Draws [R, ...] of equal shape as [R * len(draws), ...], those of a row side by side."""
    return torch.stack(list(draws), dim=1).flatten(0, 1)
