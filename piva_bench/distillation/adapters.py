"""The adapters of a batch of edits, and their training: all samples and all adapters in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.kept import digest, row_digests
from piva_bench.diffusion.lora import LoraRows
from piva_bench.distillation.noise import BatchNoise
from piva_bench.distillation.rule import AdapterParams, AdapterSpec
from piva_bench.distillation.source_training import SourceTraining


@dataclass(frozen=True)
class Lesson:
    """What one adapter of each sample learns from in a step.

    Attributes:
        noisy: noisy latents [B, C, h, w].
        noise: the noise in them, which is to be predicted.
        t: timesteps [B].
        embeds: text embeddings [B, L, D].
    """

    noisy: Tensor
    noise: Tensor
    t: Tensor
    embeds: Tensor


@dataclass(frozen=True)
class TrainingPass:
    """A forward pass that adapters can learn from.

    Attributes:
        specs: the adapters.
        weights: theirs [len(specs) * B, P], to be differentiated for.
        noise: what was to be predicted [len(specs) * B, C, h, w].
        prediction: what was predicted.
    """

    specs: Sequence[AdapterSpec]
    weights: Tensor
    noise: Tensor
    prediction: Tensor

    def predictions(self) -> dict[str, Tensor]:
        """Predictions [B, C, h, w] by adapter."""
        parts = self.prediction.detach().chunk(len(self.specs))
        return dict(zip([spec.name for spec in self.specs], parts, strict=True))


class AdapterTrainer:
    """Every adapter of every sample, each with weights of its own, trained on its sample alone.

    The losses of all rows are summed, and AdamW is elementwise: a step on the stacked weights is a step of
    each sample's adapter by itself.

    Where the denoiser keeps results, an adapter that learns the source alone is trained once for all edits
    that have it in common, see ``SourceTraining``.

    Args:
        specs: the adapters of one sample.
        params: rank, learning rate, prompt dropout.
        denoiser: the frozen prior they adapt.
        draws: the batch's random numbers.
        embeds: text embeddings [B, L, D] by prompt name ("source", "target", "null").

    Attributes:
        weights: [B, P] by adapter name, see ``AttentionLora``; parts of one tensor.
        evaluations: rows computed forward and backward so far, per sample.
    """

    def __init__(
        self,
        specs: Sequence[AdapterSpec],
        params: AdapterParams,
        denoiser: Denoiser,
        draws: BatchNoise,
        embeds: dict[str, Tensor],
    ) -> None:
        self.params, self.denoiser, self.draws, self.embeds = params, denoiser, draws, embeds
        self.names = [spec.name for spec in specs]
        self._all = torch.cat([self._initial(name) for name in self.names])
        self.weights: dict[str, Tensor] = dict(zip(self.names, self._all.chunk(len(specs)), strict=True))
        self.optimizers = {name: self._optimizer(name) for name in self.names}
        self.evaluations = 0
        self._source_training: dict[str, SourceTraining] = {}

    def _initial(self, name: str) -> Tensor:
        numel = self.denoiser.lora.a_numel(self.params.lora_rank)
        return self.denoiser.lora.initial(self.draws.uniform(0, f"adapter/{name}/weights", (numel,)))

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        # One each, so that an adapter can rest. PyTorch's defaults (weight decay 0.01) are those of the official
        # VSD code.
        return torch.optim.AdamW([self.weights[name]], lr=self.params.lora_learning_rate, fused=True)

    def _stacked(self, names: Sequence[str]) -> Tensor:
        """Weights [len(names) * B, P] of these adapters; no copy if they lie side by side."""
        first, batch = self.names.index(names[0]), len(self.weights[names[0]])
        if list(names) == self.names[first : first + len(names)]:
            return self._all[first * batch : (first + len(names)) * batch]
        return torch.cat([self.weights[name] for name in names])

    def rows(self, names: Sequence[str], start: int = 0) -> LoraRows:
        """These adapters, each for all samples, for the batch rows from ``start`` on."""
        return self.denoiser.lora.rows(self._stacked(names), start)

    def shares(self, spec: AdapterSpec) -> bool:
        """Whether this adapter's training is shared with other edits; it then trains in a pass of its own."""
        return self.denoiser.kept is not None and spec.data == "source"

    def train(
        self, index: int, data: dict[str, Tensor], specs: Sequence[AdapterSpec], purpose: str
    ) -> Tensor:
        """One step of AdamW on the denoising loss of the adapters ``specs``; the others stay as they are.

        Timesteps are uniform over the whole schedule, and each row's prompt is dropped with the chance set.

        Args:
            index: step number the random numbers are drawn for.
            data: latents [B, C, h, w] by name ("source", "edit").
            specs: which adapters to train.
            purpose: tells draws of one step number apart.

        Returns:
            Losses [len(specs), B]: mean squared error of each row.
        """
        losses = {
            spec.name: self._train_source(index, data, spec, purpose) for spec in specs if self.shares(spec)
        }
        if together := [spec for spec in specs if spec.name not in losses]:
            lessons = [self.lesson(index, data, spec, purpose) for spec in together]
            learnt = self.learn(self.forward(together, lessons))
            losses |= dict(zip([spec.name for spec in together], learnt, strict=True))
        return torch.stack([losses[spec.name] for spec in specs])

    def lesson(self, index: int, data: dict[str, Tensor], spec: AdapterSpec, purpose: str) -> Lesson:
        """What an adapter learns from in an ordinary training step; see ``train``."""
        latents, what = data[spec.data], f"adapter/{spec.name}/{purpose}"
        t = self.draws.timesteps(index, 0, self.denoiser.num_train_timesteps - 1, f"{what}/t")
        noise = self.draws.noise(index, f"{what}/noise", latents.shape[1:])
        dropped = self.draws.uniform(index, f"{what}/dropout") < self.params.prompt_dropout
        embeds = torch.where(dropped.view(-1, 1, 1), self.embeds["null"], self.embeds[spec.prompt])
        return Lesson(self.denoiser.add_noise(latents, noise, t), noise, t, embeds)

    def forward(self, specs: Sequence[AdapterSpec], lessons: Sequence[Lesson]) -> TrainingPass:
        """Predicts every lesson's noise with its adapter, all in one pass; ``learn`` takes the step."""
        weights = self._stacked([spec.name for spec in specs]).detach().requires_grad_()
        noisy, noise, t, embeds = (
            torch.cat([getattr(lesson, name) for lesson in lessons])
            for name in ("noisy", "noise", "t", "embeds")
        )
        with torch.enable_grad():
            prediction = self.denoiser.predict_noise(noisy, t, embeds, self.denoiser.lora.rows(weights))
        self.evaluations += len(specs)
        return TrainingPass(specs, weights, noise, prediction)

    def learn(self, done: TrainingPass) -> Tensor:
        """A step of AdamW for every adapter of a pass; losses [len(specs), B]."""
        with torch.enable_grad():
            errors = (done.prediction - done.noise).square()
            # The sum, divided afterwards, gives each row's mean loss with gradients large enough for float16.
            (gradients,) = torch.autograd.grad(errors.sum(), done.weights)
        gradients /= errors[0].numel()
        for spec, gradient in zip(done.specs, gradients.chunk(len(done.specs)), strict=True):
            self.weights[spec.name].grad = gradient
            self.optimizers[spec.name].step()
        return errors.detach().mean(dim=(1, 2, 3)).view(len(done.specs), -1)

    def _train_source(self, index: int, data: dict[str, Tensor], spec: AdapterSpec, purpose: str) -> Tensor:
        """A step of an adapter that learns the source alone: looked up, or made and kept. Losses [B]."""
        weights = self.weights[spec.name]
        if spec.name not in self._source_training:
            assert self.denoiser.kept is not None
            keys = self._source_keys(data["source"], spec)
            self._source_training[spec.name] = SourceTraining(self.denoiser.kept, keys)
        training = self._source_training[spec.name]
        found, to_repeat = training.step(index, purpose, weights)
        if found is not None:
            weights.copy_(found[:, :-1])
            return found[:, -1]
        if to_repeat:
            weights.copy_(self._initial(spec.name))
        for repeated, its_purpose in to_repeat:
            self.learn(self.forward([spec], [self.lesson(repeated, data, spec, its_purpose)]))
        (losses,) = self.learn(self.forward([spec], [self.lesson(index, data, spec, purpose)]))
        training.keep(torch.cat([weights, losses[:, None]], dim=1))
        return losses

    def _source_keys(self, source: Tensor, spec: AdapterSpec) -> list[bytes]:
        """For each sample, all that the adapter's weights depend on besides the steps it has taken."""
        rows = [row_digests(tensor) for tensor in (source, self.embeds[spec.prompt], self.embeds["null"])]
        params = self.params.model_dump(include={"lora_rank", "lora_learning_rate", "prompt_dropout"})
        shared = repr((spec.name, self.draws.seed, sorted(params.items()))).encode()
        names = [name.encode("utf-8", "surrogatepass") for name in self.draws.sample_ids]
        return [digest(b"adapter", shared, *parts) for parts in zip(names, *rows, strict=True)]
