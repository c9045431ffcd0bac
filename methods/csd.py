"""CSD: classifier score distillation, in its form for editing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams, Weighting
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class CSDParams(DistillationParams):
    """Weighting of CVMI-Lab/Classifier-Score-Distillation @ 5c65ca7; DDS's optimiser, guidance for the weight."""

    weighting: Weighting = parameter(
        "sds", source="official code", description="w(t): uniform = 1, sds = 1 - abar_t"
    )
    source_share: float = parameter(
        1.0,
        ge=0,
        le=10,
        source="assumed",
        description="w_2 / w_1: weight of the source prompt's classifier beside the target's. At 1 nothing is left of "
        "the unconditional prediction; at 0 it is the generator's rule",
    )


class CSD(DistillationMethod):
    """grad = w(t) [w_1 eps(x_t, c_tgt) + (w_2 - w_1) eps(x_t, null) - w_2 eps(x_t, c_src)], all on the edit.

    The two implicit classifiers p(c | x_t) of the prompts, the prior itself left out. Where the edit is the source
    and w_2 = w_1, it is DDS's direction; unlike DDS it never looks at the source again.
    """

    card = MethodCard(
        name="csd",
        title="CSD",
        paper="2310.19415",
        summary="Towards the target prompt's classifier, away from the source prompt's; no source picture.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="none stated (CVMI-Lab/Classifier-Score-Distillation)",
    )
    Params: ClassVar[type[DistillationParams]] = CSDParams
    params: CSDParams

    def gradient(self, step: Step) -> Tensor:
        """The difference of the classifiers; a prediction of weight 0 is not made."""
        w, share = self.params.guidance_scale, self.params.source_share
        weights = {"target": w, "null": w * share - w, "source": -w * share}
        wanted = {name: weight for name, weight in weights.items() if weight} or {"target": 0.0}
        eps = step.predict({name: Query(step.edit, name) for name in wanted})
        total = sum((weight * eps[name] for name, weight in wanted.items()), start=step.latents.new_zeros(()))
        return self.weight(step.edit) * total
