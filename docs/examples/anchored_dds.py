"""DDS with an anchor: a worked example of a method in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from piva_bench.plugin import DistillationMethod, DistillationParams, MethodCard, Query, parameter

if TYPE_CHECKING:
    from piva_bench.plugin import Step, Tensor


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

    def gradient(self, step: Step) -> Tensor:
        """What is taken from the latents, times the learning rate."""
        guidance = self.params.guidance_scale
        # All that is asked for at once is computed in one call of the network, for all samples of the batch.
        eps = step.predict(
            {
                "target": Query(step.edit, "target", guidance),
                "source": Query(step.source, "source", guidance),
            }
        )
        offset = step.latents - step.source_latents
        step.scalars["anchor"] = offset.square().mean(dim=(1, 2, 3))
        return self.weight(step.edit) * (eps["target"] - eps["source"]) + self.params.anchor_weight * offset
