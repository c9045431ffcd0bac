"""VSD: variational score distillation (ProlificDreamer), started from the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import AdapterParams, AdapterSpec, DistillationParams, Weighting
from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, ScheduledLatentParams, parameter
from piva_bench.scene.params import FieldEditParams
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class BridgeLatents(ScheduledLatentParams):
    """How davidmcall/SDS-Bridge @ 240e06e moves pictures: AdamW at a constant rate, no decay."""

    learning_rate: float = parameter(
        0.01,
        embedded=0.03,
        gt=0,
        le=100,
        tune=(0.01, 0.03, 0.1),
        source="official code",
        description="rate of the latents' Adam; embedded: 0.03, for a twentieth of the steps (assumed)",
    )
    second_moment_decay: float = parameter(
        0.99, ge=0, lt=1, source="official code", description="Adam's beta_2; beta_1 is 0.9"
    )


class VSDParams(DistillationParams, AdapterParams):
    """The 2D settings of davidmcall/SDS-Bridge @ 240e06e (2D_experiments/guidance.py); its LoRA's rate is 3e-4."""

    steps: int = parameter(
        1000, embedded=50, ge=1, le=100_000, source="official code", description="optimisation steps"
    )
    t_min: int = parameter(20, ge=0, le=999, source="official code", description="lowest timestep drawn")
    t_max: int = parameter(980, ge=0, le=999, source="official code", description="highest timestep drawn")
    weighting: Weighting = parameter(
        "sds", source="official code", description="w(t): uniform = 1, sds = 1 - abar_t"
    )


class VSD(DistillationMethod):
    """grad = w(t) (eps^w(x_t(z), t, c_tgt) - eps_phi(x_t(z), t, c_tgt)).

    phi starts as the frozen prior and learns, by the denoising loss, the edit as it is. One picture is one particle;
    views of a scene share phi, which sees no camera. The rule knows the source as the edit's start alone.
    """

    card = MethodCard(
        name="vsd",
        title="VSD",
        paper="2305.16213",
        summary="SDS with a learned score of the picture as it is in the place of the noise.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(1.5, 3, 5, 7.5, 10)),
        idea_code_license="Apache-2.0 (thu-ml/prolificdreamer)",
    )
    Params: ClassVar[type[DistillationParams]] = VSDParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": BridgeLatents, "scenes": FieldEditParams}

    @property
    def adapters(self) -> tuple[AdapterSpec, ...]:
        """Adapter phi on the edit."""
        return (AdapterSpec("phi", data="edit", prompt="target"),)

    def gradient(self, step: Step) -> Tensor:
        """The prior's guided prediction less phi's without guidance (the official guidance_scale_lora is 1)."""
        eps = step.predict(
            {
                "target": Query(step.edit, "target", self.params.guidance_scale),
                "edit_score": Query(step.edit, "target", 1.0, adapter="phi"),
            }
        )
        return self.weight(step.edit) * (eps["target"] - eps["edit_score"])
