"""NFSD: noise-free score distillation, started from the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams, Weighting
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Prompt, Query, Words

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class NFSDParams(DistillationParams):
    """As re-implemented in davidmcall/SDS-Bridge @ 240e06e (the authors' repository is empty); DDS's optimiser."""

    t_min: int = parameter(20, ge=0, le=999, source="official code", description="lowest timestep drawn")
    t_max: int = parameter(980, ge=0, le=999, source="official code", description="highest timestep drawn")
    weighting: Weighting = parameter(
        "sds", source="official code", description="w(t): uniform = 1, sds = 1 - abar_t"
    )
    t_clean: int = parameter(
        200,
        ge=0,
        le=1000,
        source="paper",
        description="below this timestep the unconditional prediction itself is the pull towards pictures",
    )
    negative_prompt: str = parameter(
        "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy",
        embedded="",
        source="paper",
        description="pictures to lead away from. The embedded model has not learnt such words; empty, the pull is 0 "
        "from t_clean on",
    )


class NFSD(DistillationMethod):
    """grad = w(t) (d_D + s d_C), d_C = eps(x_t, c_tgt) - eps(x_t, null).

    d_D = eps(x_t, null) below ``t_clean``, else eps(x_t, null) - eps(x_t, c_neg): SDS without the noise that a
    prediction's residual carries. The rule knows the source as the edit's start alone.
    """

    card = MethodCard(
        name="nfsd",
        title="NFSD",
        paper="2310.17590",
        summary="SDS at a nominal guidance, with the noise taken out of its residual by a negative prompt.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="no official code; MIT (davidmcall/SDS-Bridge)",
    )
    Params: ClassVar[type[DistillationParams]] = NFSDParams
    params: NFSDParams

    def gradient(self, step: Step) -> Tensor:
        """The pull towards pictures and the guided one towards the prompt."""
        p, x = self.params, step.edit
        away: Prompt = Words(p.negative_prompt) if p.negative_prompt else "null"
        eps = step.predict(
            {"target": Query(x, "target"), "null": Query(x, "null"), "negative": Query(x, away)}
        )
        clean = (x.t < p.t_clean).view(-1, 1, 1, 1)
        domain = eps["null"] - eps["negative"].masked_fill(clean, 0)
        return self.weight(x) * (domain + p.guidance_scale * (eps["target"] - eps["null"]))
