"""The parameterization that is optimised when a picture is edited: its latents."""

from __future__ import annotations

import torch
from torch import Tensor

from piva_bench.distillation.rule import DistillationParams


class LatentImages:
    """Latents of a batch, moved along the gradient by the optimiser the parameters name.

    Both optimisers are elementwise, so every sample moves as it would alone.

    Args:
        source: z_src [B, C, h, w], where the edits start.
        params: learning rate, gradient scale, optimiser.
    """

    def __init__(self, source: Tensor, params: DistillationParams) -> None:
        self.latents = source.clone()
        self.scale = params.loss_scale
        optimizers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
        self.optimizer = optimizers[params.optimizer]([self.latents], lr=params.learning_rate)

    def step(self, gradient: Tensor) -> None:
        """Moves the latents by a gradient [B, C, h, w]."""
        self.latents.grad = gradient * self.scale
        self.optimizer.step()
