"""A radiance field as what an edit moves: at every step a few of its views stand where a picture's latents stood.

A parameterization shows latents, keeps those of the source beside them, and takes a gradient back. For a picture
that is a tensor and its optimiser. Here the latents are renders through the autoencoder's encoder, and the
gradient flows back through both into the grid. No rule knows the difference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from piva_bench.scene.cameras import Cameras
from piva_bench.scene.field import RadianceField
from piva_bench.scene.regularisers import (
    colour_variation,
    density_variation,
    half_transparency,
    outside,
    sparsity,
)
from piva_bench.scene.views import WHITE

Encode = Callable[[Tensor], Tensor]
"""Pictures [V, 3, H, W] in [-1, 1] to latents [V, C, h, w]; it must let gradients through."""


@dataclass(frozen=True)
class FieldEditParams:
    """How a field follows a gradient."""

    learning_rate: float = 0.02
    gradient_scale: float = 1.0
    """Factor on the rule's gradient before it is propagated; Adam cancels it but for the regularisers' weights."""
    views: int = 1
    """Views a step."""
    colour_variation: float = 0.0
    density_variation: float = 0.0
    sparsity: float = 0.0
    half_transparency: float = 0.0
    outside: float = 0.0
    """Weight of density that has grown outside the allowed region, where one is given."""
    background: tuple[float, float, float] = WHITE


@dataclass(frozen=True)
class Observation:
    """What a step looks at: V views of one field.

    Attributes:
        latents: [V, C, h, w] of the edit, detached.
        source_latents: [V, C, h, w] of the source from the same cameras.
        depth: [V, 1, H, W] the edit's rendered depth, detached, for models conditioned on it.
        names: the side each view shows, for view-dependent prompts.
        indices: the views' numbers among the cameras; noise is drawn by them.
    """

    latents: Tensor
    source_latents: Tensor
    depth: Tensor
    names: tuple[str, ...]
    indices: tuple[int, ...]


class FieldEdit:
    """The edit of one field.

    Args:
        source: where the edit starts; it is copied.
        cameras: the views that may be looked at.
        encode: the autoencoder's encoder.
        params: of the optimisation.
        seed: of the choice of views, a function of (seed, step) alone.
        region: [Z, Y, X] where the edit may have density; closed nodes in it are opened. By default the source's
            own open nodes, which lets an edit recolour and carve but hardly grow.
    """

    def __init__(
        self,
        source: RadianceField,
        cameras: Cameras,
        encode: Encode,
        params: FieldEditParams | None = None,
        *,
        seed: int = 0,
        region: Tensor | None = None,
    ) -> None:
        self.source, self.cameras, self.encode = source, cameras, encode
        self.params, self.seed = params or FieldEditParams(), seed
        self.field = copy.deepcopy(source)
        self.region = self.field.open.clone() if region is None else region | self.field.open
        self.field.open.copy_(self.region)
        self.optimizer = torch.optim.Adam([self.field.raw], lr=self.params.learning_rate, betas=(0.9, 0.99))
        self._source_latents: dict[int, Tensor] = {}
        self._shown: tuple[Tensor, Tensor] | None = None

    def choose(self, step: int) -> tuple[int, ...]:
        """The cameras of a step: drawn without repetition within a round, every camera once a round."""
        count, wanted = len(self.cameras), self.params.views
        chosen = []
        for number in range(step * wanted, (step + 1) * wanted):
            order = np.random.default_rng([self.seed, number // count]).permutation(count)
            chosen.append(int(order[number % count]))
        return tuple(chosen)

    def observe(self, step: int) -> Observation:
        """The views of a step; the graph to the grid is kept until :meth:`step` is called."""
        indices = self.choose(step)
        with torch.inference_mode(False), torch.enable_grad():
            shown = self.field.render(self.cameras[list(indices)])
            latents = self.encode(shown.over(self.params.background) * 2 - 1)
        self._shown = latents, shown.alpha
        known = torch.cat([self._source(index) for index in indices])
        names = self.cameras[list(indices)].view_names
        return Observation(latents.detach(), known, shown.depth.detach(), tuple(names), indices)

    @torch.no_grad()
    def _source(self, index: int) -> Tensor:
        if index not in self._source_latents:
            shown = self.source.render(self.cameras[[index]])
            self._source_latents[index] = self.encode(shown.over(self.params.background) * 2 - 1)
        return self._source_latents[index]

    def step(self, gradient: Tensor) -> None:
        """Moves the field along a gradient [V, C, h, w] with respect to the latents last observed."""
        if self._shown is None:
            raise RuntimeError("observe() comes before step()")
        (latents, alpha), self._shown = self._shown, None
        with torch.inference_mode(False), torch.enable_grad():
            self.optimizer.zero_grad()
            # The gradient may have been made in inference mode, where autograd cannot use it; a copy it can.
            loss = (latents * gradient.clone() * self.params.gradient_scale).sum()
            (loss + self._regularisers(alpha)).backward()
            self.optimizer.step()

    def _regularisers(self, alpha: Tensor) -> Tensor:
        params, total = self.params, alpha.new_zeros(())
        terms: Sequence[tuple[float, Callable[[], Tensor]]] = (
            (params.colour_variation, lambda: colour_variation(self.field)),
            (params.density_variation, lambda: density_variation(self.field)),
            (params.sparsity, lambda: sparsity(self.field)),
            (params.half_transparency, lambda: half_transparency(alpha)),
            (params.outside, lambda: outside(self.field, self.source.open)),
        )
        for weight, term in terms:
            if weight:
                total = total + weight * term()
        return total
