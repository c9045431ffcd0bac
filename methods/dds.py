"""DDS: delta denoising score."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class DDSParams(DistillationParams):
    """The official recipe: 200 steps of SGD, guidance 7.5 on both branches, timesteps 50 to 948."""


class DDS(DistillationMethod):
    """grad = w(t) (eps^w(x_t(z), t, c_tgt) - eps^w(x_t(z_src), t, c_src)), one t and eps for both."""

    card = MethodCard(
        name="dds",
        title="DDS",
        paper="2304.07090",
        summary="Subtracts the source's own score: only what the two prompts tell apart moves the picture.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="Apache-2.0 (google/prompt-to-prompt)",
    )
    Params: ClassVar[type[DistillationParams]] = DDSParams

    def gradient(self, step: Step) -> Tensor:
        """The difference of the branches."""
        return self.delta(step, step.predict(self.branches(step)))

    def branches(self, step: Step) -> dict[str, Query]:
        """A guided prediction for each branch."""
        guidance = self.params.guidance_scale
        return {
            "target": Query(step.edit, "target", guidance),
            "source": Query(step.source, "source", guidance),
        }

    def delta(self, step: Step, eps: dict[str, Tensor]) -> Tensor:
        """The weighted difference of the branches' predictions."""
        return self.weight(step.edit) * (eps["target"] - eps["source"])
