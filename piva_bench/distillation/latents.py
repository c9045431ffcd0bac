"""The parameterization that is optimised when a picture is edited: its latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from piva_bench.distillation.parameterization import source_name
from piva_bench.params import LatentParams
from piva_bench.session.rows import Observation


class LatentImages:
    """Latents of a batch, moved along the gradient by the optimiser the parameters name; see ``Parameterization``.

    Both optimisers are elementwise, so every sample moves as it would alone.

    Args:
        seen: what there is to see; the edits start at its source.
        params: learning rate and its schedule, gradient scale, optimiser.
        blend: [B, 1, h, w] share of the edit's own latents that stays after a step, the rest is the source's; None
            for all of it.
        sources: for each sample a digest of its source's picture and prompt.

    Attributes:
        latents: z [B, C, h, w].
    """

    views = 1
    still = True

    def __init__(
        self,
        seen: Observation,
        params: LatentParams,
        blend: Tensor | None = None,
        sources: Sequence[bytes] = (),
    ) -> None:
        self._seen, self.latents = seen, seen.latents
        self.params, self._steps = params, 0
        self.optimizer: torch.optim.Optimizer
        if params.optimizer == "adam":
            self.optimizer = torch.optim.Adam([self.latents], lr=params.learning_rate, betas=params.betas)
        else:
            self.optimizer = torch.optim.SGD([self.latents], lr=params.learning_rate)
        self.sample_ids = seen.names
        self.source_names = tuple(source_name(each) for each in sources)
        self._blend = blend

    def observe(self, index: int) -> Observation:
        """The latents; the same object at every step, because they move in place."""
        return self._seen

    def observe_sources(self, index: int, samples: Sequence[int]) -> Observation:
        """The sources' latents; see ``Parameterization``."""
        latents, prompts = self._seen.source_latents[list(samples)], self._seen.source_prompts
        texts = tuple(prompts[number] for number in samples)
        return Observation(latents, latents, tuple(self.source_names[n] for n in samples), texts, texts)

    def step(self, gradient: Tensor) -> None:
        """Moves the latents by a gradient [B, C, h, w]."""
        self.latents.grad = gradient * self.params.loss_scale
        for group in self.optimizer.param_groups:
            group["lr"] = self.params.rate(self._steps)
        self.optimizer.step()
        self._steps += 1
        if self._blend is not None:
            self.latents.lerp_(self._seen.source_latents, 1 - self._blend)
