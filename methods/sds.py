"""SDS: score distillation sampling (DreamFusion), started from the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piva_bench.distillation.rule import DistillationMethod, DistillationParams, Query, Step
from piva_bench.method import MethodCard

if TYPE_CHECKING:
    from torch import Tensor


class SDSParams(DistillationParams):
    """SDS in 2D as in the official DDS notebook: DDS's optimisation recipe, with SDS's gradient."""


class SDS(DistillationMethod):
    """grad = w(t) (eps^w(x_t(z), t, c_tgt) - eps)."""

    card = MethodCard(
        name="sds",
        title="SDS",
        paper="2209.14988",
        summary="Pulls the picture towards the target prompt alone; only the start is the source's.",
        kind="distillation",
        idea_code_license="Apache-2.0 (google/prompt-to-prompt)",
    )
    Params = SDSParams
    params: SDSParams

    def queries(self, step: Step) -> dict[str, Query]:
        """One guided prediction."""
        return {"target": Query(step.noisy, "target", guidance=self.params.guidance_scale)}

    def gradient(self, step: Step, eps: dict[str, Tensor]) -> Tensor:
        """Prediction minus the noise that is there."""
        return self.weight(step) * (eps["target"] - step.noise)
