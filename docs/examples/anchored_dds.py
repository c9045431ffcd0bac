"""DDS with an anchor: a worked example of a method in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.rule import DistillationMethod, DistillationParams, Query, Step
from piva_bench.method import MethodCard
from piva_bench.params import parameter

if TYPE_CHECKING:
    from torch import Tensor


class AnchoredDDSParams(DistillationParams):
    """DDS's recipe and the strength of the anchor."""

    anchor_weight: float = parameter(
        0.05, ge=0, le=10, source="assumed", description="pull of the latents back to the source's"
    )


class AnchoredDDS(DistillationMethod):
    """grad = DDS + anchor_weight (z - z_src): the plainest way to keep identity, and a baseline for better ones."""

    card = MethodCard(
        name="anchored_dds",
        title="DDS with an anchor",
        paper=None,
        summary="Delta denoising score plus a quadratic pull to the source latents.",
        kind="distillation",
        idea_code_license="none needed",
    )
    Params: ClassVar[type[DistillationParams]] = AnchoredDDSParams
    params: AnchoredDDSParams

    def queries(self, step: Step) -> dict[str, Query]:
        """The noise predictions this rule needs. The engine makes all of them, of all samples, in one call."""
        guidance = self.params.guidance_scale
        return {
            "target": Query(step.noisy, "target", guidance),
            "source": Query(step.noisy_source, "source", guidance),
        }

    def gradient(self, step: Step, eps: dict[str, Tensor]) -> Tensor:
        """What is taken from the latents, times the learning rate."""
        offset = step.latents - step.source_latents
        step.scalars["anchor"] = offset.square().mean(dim=(1, 2, 3))
        return self.weight(step) * (eps["target"] - eps["source"]) + self.params.anchor_weight * offset
