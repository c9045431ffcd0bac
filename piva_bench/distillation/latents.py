"""The parameterization that is optimised when a picture is edited: its latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from piva_bench.distillation.parameterization import Observation
from piva_bench.distillation.rule import DistillationParams
from piva_bench.method import EditTask


class LatentImages:
    """Latents of a batch, moved along the gradient by the optimiser the parameters name; see ``Parameterization``.

    Both optimisers are elementwise, so every sample moves as it would alone.

    Args:
        batch: ids and prompts of the samples.
        source: z_src [B, C, h, w], where the edits start.
        params: learning rate, gradient scale, optimiser.
    """

    views = 1
    still = True

    def __init__(self, batch: Sequence[EditTask], source: Tensor, params: DistillationParams) -> None:
        self.latents = source.clone()
        self.scale = params.loss_scale
        optimizers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
        self.optimizer = optimizers[params.optimizer]([self.latents], lr=params.learning_rate)
        self.sample_ids = tuple(task.sample_id for task in batch)
        self._seen = Observation(
            self.latents,
            source,
            self.sample_ids,
            tuple(task.source_prompt for task in batch),
            tuple(task.target_prompt for task in batch),
        )

    def observe(self, index: int) -> Observation:
        """The latents; the same object at every step, because they move in place."""
        return self._seen

    def step(self, gradient: Tensor) -> None:
        """Moves the latents by a gradient [B, C, h, w]."""
        self.latents.grad = gradient * self.scale
        self.optimizer.step()
