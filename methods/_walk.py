"""Walks down a sampler's grid, a step of the edit for each: what the rules on the flow view have in common.

On a noise predictor y_s = x_t / (a_t + s_t) at s = s_t / (a_t + s_t) is a rectified flow, where the velocity is
eps - clean(eps); see ``Schedule.flow_scale``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams
from piva_bench.params import LatentParams, MethodParams, parameter
from piva_bench.scene.params import FieldEditParams

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.noisy import Noisy
    from piva_bench.session.step import Step

EVEN = 0.02
"""The even step of a walk of 50, and the unit of the gradients: they are then of the size of other rules', which the
price and the thresholds of a scene's optimiser are made for."""


class WalkLatents(LatentParams):
    """Latents that take a walk's steps as they are: its rule knows their length."""

    learning_rate: float = parameter(
        EVEN, gt=0, le=100, source="paper", description="what a gradient of 1 moves; 0.02 is the method"
    )
    loss_scale: float = parameter(1.0, gt=0, le=10_000, source="paper", description="factor on the gradient")


class WalkParams(DistillationParams):
    """A grid of T timesteps, of which the last ``steps`` are walked."""

    grid_steps: int = parameter(
        50, ge=1, le=1000, source="official code", description="T, timesteps of the grid, as of a sampler"
    )
    t_min: int = parameter(
        0, ge=0, le=999, source="assumed", description="cleaner timesteps are moved to this one"
    )
    t_max: int = parameter(
        999, ge=0, le=999, source="assumed", description="noisier timesteps are moved to this one"
    )

    @model_validator(mode="after")
    def _walk_within_grid(self) -> Self:
        if self.steps > self.grid_steps:
            raise ValueError(f"steps ({self.steps}) is above grid_steps ({self.grid_steps}): give both")
        return self


class Walk(DistillationMethod):
    """Base of the rules whose steps go down a grid."""

    params: WalkParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": WalkLatents, "scenes": FieldEditParams}
    prefix = False

    def gradient(self, step: Step) -> Tensor:
        """The step of the walk in units of an even one."""
        return self.move(step) / EVEN

    @abstractmethod
    def move(self, step: Step) -> Tensor:
        """What this step takes from z [R, C, h, w]."""

    def place(self, step: Step) -> int:
        """Which timestep of the grid a step is at, from 0 for the noisiest."""
        return self.params.grid_steps - self.params.steps + step.index

    def grid(self, step: Step) -> list[int]:
        """The timesteps, from the noisiest down."""
        p = self.params
        return [min(max(t, p.t_min), p.t_max) for t in step.schedule.grid(p.grid_steps)]

    def length(self, step: Step) -> Tensor:
        """Flow time from this timestep to the next, or from the last one to the picture."""
        grid, place = self.grid(step), self.place(step)
        here = step.schedule.flow_time(grid[place])
        return here - step.schedule.flow_time(grid[place + 1]) if place + 1 < len(grid) else here

    def pair(self, step: Step, shift: float) -> tuple[Noisy, Noisy]:
        """Edit and source at this timestep under one noise; the edit's moved by ``shift`` s (z - z_src) on the flow."""
        t = self.grid(step)[self.place(step)]
        source = step.noisy("source", t, step.random(step.index).noise("noise/0"))
        away = step.latents - step.source_latents
        return step.at("edit", source.latents + (source.alpha + shift * source.sigma) * away, t), source
