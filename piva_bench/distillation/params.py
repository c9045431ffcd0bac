"""The recipes that rules share, and what a rule is to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

from pydantic import model_validator

from piva_bench.params import MethodParams, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step

Weighting = Literal["uniform", "sds"]


class DistillationParams(MethodParams):
    """What every rule has. Defaults are those of the official DDS notebook (methods that share them differ in their
    rule alone). How latents or a field follow the gradient is the kind's: ``LatentParams``, ``FieldEditParams``.
    """

    recipe: ClassVar[bool] = True

    steps: int = parameter(200, ge=1, le=100_000, source="official code", description="optimisation steps")
    guidance_scale: float = parameter(
        7.5,
        ge=0,
        le=1000,
        tune=(3.0, 5.0, 7.5),
        source="official code",
        description="classifier-free guidance w of the frozen prior",
    )
    t_min: int = parameter(50, ge=0, le=999, source="official code", description="lowest timestep drawn")
    t_max: int = parameter(948, ge=0, le=999, source="official code", description="highest timestep drawn")
    weighting: Weighting = parameter(
        "uniform", source="official code", description="w(t): uniform = 1, sds = 1 - abar_t (DreamFusion)"
    )

    @model_validator(mode="after")
    def _timesteps_in_order(self) -> Self:
        if self.t_min > self.t_max:
            raise ValueError(f"t_min ({self.t_min}) is above t_max ({self.t_max})")
        return self

    def timesteps(self, index: int) -> range:
        """The timesteps from which step ``index`` draws uniformly."""
        return range(self.t_min, self.t_max + 1)


class AnnealedParams(DistillationParams):
    """Timesteps that fall from the highest to the lowest over a run; a rule with them says ``prefix = False``."""

    t_anneal: bool = parameter(
        True,
        source="official code",
        description="the timestep falls linearly from t_max to t_min over the run, instead of being drawn between them",
    )

    def timesteps(self, index: int) -> range:
        """The one timestep of step ``index``, ``t_min + (t_max - t_min) (1 - index / steps)`` rounded down."""
        if not self.t_anneal:
            return super().timesteps(index)
        left = max(self.steps - index, 0)
        t = self.t_min + (self.t_max - self.t_min) * left // self.steps
        return range(t, t + 1)


class AdapterParams(MethodParams):
    """How the engine trains a rule's adapters: AdamW on the denoising loss, a set per sample."""

    recipe: ClassVar[bool] = True

    adapter: Literal["lora", "controlnet"] = parameter(
        "lora",
        source="seed",
        description="what an adapter is: LoRA on the prior's attention, or a depth ControlNet beside the prior with "
        "LoRA on its attention, which sees the scene's depth (for scenes alone: pictures have none)",
    )
    lora_rank: int = parameter(4, ge=1, le=256, source="assumed", description="rank of the LoRA")
    lora_layers: Literal["attention", "all"] = parameter(
        "attention",
        source="assumed",
        absent="attention",
        description="where it sits: on q, k, v and out of every attention (as in VSD), or on feed-forwards and "
        "convolutions too",
    )
    lora_learning_rate: float = parameter(
        3e-4,
        gt=0,
        le=1,
        tune=(3e-4, 1e-3, 3e-3),
        source="assumed",
        description="AdamW rate of the adapters (2D VSD code uses 3e-4, 3D 1e-4)",
    )
    aux_steps: int = parameter(
        1,
        ge=0,
        le=100,
        source="seed",
        description="training steps of the adapters after each step of the edit",
    )
    aux_draws: int = parameter(
        1,
        ge=1,
        le=256,
        source="assumed",
        absent=1,
        description="timesteps and noises that a training step averages over, in one pass",
    )
    prompt_dropout: float = parameter(
        0.1,
        ge=0,
        le=1,
        source="assumed",
        description="chance that an adapter trains on the null prompt (VSD: 0.1)",
    )
    fused_training: bool = parameter(
        False,
        source="seed",
        description="an adapter of the edit learns from the very forward pass that made its score: at the edit's "
        "timestep and noise, with its prompt never dropped, from the edit before it moves. Saves a UNet row a "
        "step; false is the seed's order, a training pass of its own after the edit has moved",
    )

    @model_validator(mode="after")
    def _one_draw_when_fused(self) -> Self:
        if self.fused_training and self.aux_draws > 1:
            raise ValueError(
                "fused_training learns from the one draw of the edit's score: leave aux_draws at 1"
            )
        return self


class SourceAdapterParams(AdapterParams):
    """And how the adapters that learn the source are fitted before the edit begins: once for each source."""

    recipe: ClassVar[bool] = True

    source_steps: int = parameter(
        0,
        ge=0,
        le=100_000,
        source="assumed",
        absent=0,
        description="training steps of the source's adapters before the edit begins. They know neither target nor "
        "rule, so they are made once for each source and kept on disk (PIVA_BENCH_ADAPTERS)",
    )
    source_draws: int = parameter(
        8,
        ge=1,
        le=256,
        source="assumed",
        absent=8,
        description="timesteps and noises that each of these steps averages over, in one pass",
    )


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter the engine keeps and trains for each sample, on the ordinary denoising loss.

    Attributes:
        name: how queries refer to it.
        data: the latents it learns: the source's, or the edit's as they are at each step.
        prompt: the prompt it learns them under.
        online: whether it is trained beside the edit.
        start: an adapter whose weights it begins the edit with, as that one's fit left them; None: its own.
    """

    name: str
    data: Literal["source", "edit"]
    prompt: str
    online: bool = True
    start: str | None = None


class Rule(Protocol):
    """What the engine needs of a rule; ``DistillationMethod`` is the one that methods derive from."""

    params: DistillationParams
    differentiates: bool

    @property
    def adapters(self) -> Sequence[AdapterSpec]:
        """Adapters to train; ``params`` must then be ``AdapterParams`` too."""

    def timesteps(self, index: int) -> range:
        """The timesteps from which a step draws."""

    def gradient(self, step: Step) -> Tensor:
        """The gradient on the latents [R, C, h, w] of one step."""
