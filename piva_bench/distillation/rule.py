"""Distillation methods as rules: which noise predictions a step needs, and which gradient they make.

Notation: z latents of the edit, z_src of the source; x_t(z) = a_t z + s_t eps with a_t = sqrt(abar_t) and
s_t = sqrt(1 - abar_t); eps^w(x, t, c) = eps(x, t, null) + w (eps(x, t, c) - eps(x, t, null)).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from piva_bench.method import EditMethod, EditOutcome, EditTask, OnStep, SceneOutcome, SceneTask
from piva_bench.params import MethodParams, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser

Prompt = Literal["source", "target", "null"]
Weighting = Literal["uniform", "sds"]


class DistillationParams(MethodParams):
    """What every rule has: the optimisation recipe. Defaults are those of the official DDS notebook (methods
    that share them differ in their rule alone).
    """

    steps: int = parameter(200, ge=1, le=100_000, source="official code", description="optimisation steps")
    learning_rate: float = parameter(
        0.1, gt=0, le=100, source="official code", description="learning rate of the latents' optimiser"
    )
    loss_scale: float = parameter(
        2000 / 4096,
        gt=0,
        le=10_000,
        source="official code",
        description="factor on the gradient. The official loss is 2000 * sum(z * grad) / (64 * 64); the "
        "quotient is kept as one number, so that the step does not depend on the size of the latents",
    )
    guidance_scale: float = parameter(
        7.5,
        ge=0,
        le=1000,
        source="official code",
        description="classifier-free guidance w of the frozen prior",
    )
    t_min: int = parameter(50, ge=0, le=999, source="official code", description="lowest timestep drawn")
    t_max: int = parameter(948, ge=0, le=999, source="official code", description="highest timestep drawn")
    weighting: Weighting = parameter(
        "uniform", source="official code", description="w(t): uniform = 1, sds = 1 - abar_t (DreamFusion)"
    )
    optimizer: Literal["sgd", "adam"] = parameter(
        "sgd",
        source="official code",
        description="optimiser of the latents; adam ignores loss_scale in effect",
    )

    @model_validator(mode="after")
    def _timesteps_in_order(self) -> Self:
        if self.t_min > self.t_max:
            raise ValueError(f"t_min ({self.t_min}) is above t_max ({self.t_max})")
        return self


class AdapterParams(MethodParams):
    """How the engine trains a rule's adapters: AdamW on the denoising loss, a set per sample."""

    adapter: Literal["lora", "controlnet"] = parameter(
        "lora",
        source="seed",
        description="what an adapter is: LoRA on the prior's attention, or a depth ControlNet beside the prior with "
        "LoRA on its attention, which sees the scene's depth (for scenes alone: pictures have none)",
    )
    lora_rank: int = parameter(
        4, ge=1, le=256, source="assumed", description="rank of the LoRA on every attention q, k, v and out"
    )
    lora_learning_rate: float = parameter(
        3e-4,
        gt=0,
        le=1,
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


@dataclass(frozen=True)
class Draw:
    """A timestep and noise for each of R rows (a sample, or a view of one), and the two noisy latents they make.

    Attributes:
        noise: [R, C, H, W].
        t: [R], integers.
        alpha: a_t [R, 1, 1, 1].
        sigma: s_t [R, 1, 1, 1].
        noisy: x_t(z) [R, C, H, W].
        noisy_source: x_t(z_src) [R, C, H, W], with the same noise.
    """

    noise: Tensor
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    noisy: Tensor
    noisy_source: Tensor


@dataclass(frozen=True)
class Step(Draw):
    """What a rule sees of one step.

    Attributes:
        index: number of the step, from 0.
        latents: z [R, C, H, W].
        source_latents: z_src [R, C, H, W].
        draw: ``draw("purpose")`` gives an independent timestep and noise; the same one when asked again.
        scalars: [R] tensors a rule wants in the trace, by name.
    """

    index: int
    latents: Tensor
    source_latents: Tensor
    draw: Callable[[str], Draw]
    scalars: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Query:
    """One noise prediction for every row of the batch.

    Attributes:
        noisy: noisy latents [R, C, H, W]. Pass the step's own tensors: equal objects are computed once.
        prompt: which of a sample's prompts conditions the prediction.
        guidance: w of classifier-free guidance; None for the plain conditional prediction.
        adapter: name of the adapter to predict with; None for the frozen prior.
        t: timesteps [R]; None for the step's.
    """

    noisy: Tensor
    prompt: Prompt
    guidance: float | None = None
    adapter: str | None = None
    t: Tensor | None = None


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter the engine keeps and trains for each sample, on the ordinary denoising loss.

    Attributes:
        name: how queries refer to it.
        data: the latents it learns: the source's, or the edit's as they are at each step.
        prompt: the prompt it learns them under.
        warmup: training steps before the edit begins.
        online: whether it is trained beside the edit.
    """

    name: str
    data: Literal["source", "edit"]
    prompt: Prompt
    warmup: int = 0
    online: bool = True


class DistillationMethod(EditMethod):
    """Base of the rules: a subclass says what to predict and how to combine it; the engine does the rest."""

    Params = DistillationParams
    params: DistillationParams

    @property
    def adapters(self) -> tuple[AdapterSpec, ...]:
        """Adapters to train; ``params`` must then be ``AdapterParams`` too."""
        return ()

    @abstractmethod
    def queries(self, step: Step) -> dict[str, Query]:
        """The noise predictions this step needs, by name."""

    @abstractmethod
    def gradient(self, step: Step, eps: dict[str, Tensor]) -> Tensor:
        """The gradient on the latents [R, C, H, W], from the predictions asked for, by name."""

    def weight(self, draw: Draw) -> Tensor | float:
        """w(t) of a draw: 1, or [R, 1, 1, 1]."""
        return 1.0 if self.params.weighting == "uniform" else draw.sigma.square()

    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """See ``EditMethod.edit``."""
        from piva_bench.distillation.engine import distill

        return distill(self, batch, denoiser, seed, on_step)

    def edit_scenes(
        self, batch: Sequence[SceneTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[SceneOutcome]:
        """See ``EditMethod.edit_scenes``."""
        from piva_bench.distillation.field_edit import distill_scenes

        return distill_scenes(self, batch, denoiser, seed, on_step)
