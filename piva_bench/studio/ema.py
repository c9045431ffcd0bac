"""A network and the moving average of its weights, kept in one module so that one checkpoint holds both."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WithAverage(nn.Module):
    """``net`` is trained, ``average`` follows it exponentially and is what gets shipped.

    The decay grows with the number of updates, ``min(decay, (1 + n) / (10 + n))``, so that early averages are
    not held back by the random start (as in diffusers' ``EMAModel``).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__()
        self.net = net
        self.average = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay
        self.updates: torch.Tensor
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the trained weights; call once a step."""
        self.updates += 1
        n = int(self.updates)
        weight = 1 - min(self.decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), weight)
