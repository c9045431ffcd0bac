"""SDS: score distillation sampling (DreamFusion), started from the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


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
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="Apache-2.0 (google/prompt-to-prompt)",
    )
    Params = SDSParams
    params: SDSParams

    def gradient(self, step: Step) -> Tensor:
        """Prediction minus the noise that is there."""
        eps = step.predict({"target": Query(step.edit, "target", self.params.guidance_scale)})
        return self.weight(step.edit) * (eps["target"] - step.edit.noise)
