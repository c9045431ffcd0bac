"""The adapters of a batch of edits, and their training: all samples and all adapters in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.lora import LoraRows
from piva_bench.distillation.noise import BatchNoise
from piva_bench.distillation.rule import AdapterParams, AdapterSpec


class AdapterTrainer:
    """Every adapter of every sample, each with weights of its own, trained on its sample alone.

    The losses of all rows are summed, and AdamW is elementwise: a step on the stacked weights is a step of
    each sample's adapter by itself.

    Args:
        specs: the adapters of one sample.
        params: rank, learning rate, prompt dropout.
        denoiser: the frozen prior they adapt.
        draws: the batch's random numbers.
        embeds: text embeddings [B, L, D] by prompt name ("source", "target", "null").

    Attributes:
        weights: [B, P] by adapter name, see ``AttentionLora``; parts of one tensor.
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
        numel = denoiser.lora.a_numel(params.lora_rank)
        uniform = [draws.uniform(0, f"adapter/{name}/weights", (numel,)) for name in self.names]
        self._all = denoiser.lora.initial(torch.cat(uniform))
        self.weights: dict[str, Tensor] = dict(zip(self.names, self._all.chunk(len(specs)), strict=True))
        # One optimiser each, so that an adapter can rest. PyTorch's defaults (weight decay 0.01) are those of the
        # official VSD code.
        self.optimizers = {
            name: torch.optim.AdamW([weights], lr=params.lora_learning_rate, fused=True)
            for name, weights in self.weights.items()
        }

    def _stacked(self, names: Sequence[str]) -> Tensor:
        """Weights [len(names) * B, P] of these adapters; no copy if they lie side by side."""
        first, batch = self.names.index(names[0]), len(self.weights[names[0]])
        if list(names) == self.names[first : first + len(names)]:
            return self._all[first * batch : (first + len(names)) * batch]
        return torch.cat([self.weights[name] for name in names])

    def rows(self, names: Sequence[str], start: int = 0) -> LoraRows:
        """These adapters, each for all samples, for the batch rows from ``start`` on."""
        return self.denoiser.lora.rows(self._stacked(names), start)

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
        purposes = [f"adapter/{spec.name}/{purpose}" for spec in specs]
        shape, last = data["source"].shape[1:], self.denoiser.num_train_timesteps - 1
        t = torch.cat([self.draws.timesteps(index, 0, last, f"{what}/t") for what in purposes])
        noise = torch.cat([self.draws.noise(index, f"{what}/noise", shape) for what in purposes])
        dropped = torch.cat([self.draws.uniform(index, f"{what}/dropout") for what in purposes])
        embeds = torch.cat([self.embeds[spec.prompt] for spec in specs])
        null = self.embeds["null"].repeat(len(specs), 1, 1)
        embeds = torch.where((dropped < self.params.prompt_dropout).view(-1, 1, 1), null, embeds)
        noisy = self.denoiser.add_noise(torch.cat([data[spec.data] for spec in specs]), noise, t)
        weights = self._stacked([spec.name for spec in specs]).detach().requires_grad_()
        with torch.enable_grad():
            prediction = self.denoiser.predict_noise(noisy, t, embeds, self.denoiser.lora.rows(weights))
            errors = (prediction - noise).square()
            # The sum, divided afterwards, gives each row's mean loss with gradients large enough for float16.
            (gradients,) = torch.autograd.grad(errors.sum(), weights)
        gradients /= errors[0].numel()
        for spec, gradient in zip(specs, gradients.chunk(len(specs)), strict=True):
            self.weights[spec.name].grad = gradient
            self.optimizers[spec.name].step()
        return errors.detach().mean(dim=(1, 2, 3)).view(len(specs), -1)
