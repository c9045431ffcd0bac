"""SBP: score distillation as a bridge between two distributions (SDS-Bridge), started from the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from methods.vsd import BridgeLatents
from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams, Weighting
from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.scene.params import FieldEditParams
from piva_bench.session.query import Query, Words

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class SBPParams(DistillationParams):
    """The 2D settings of davidmcall/SDS-Bridge @ 240e06e; timesteps of all 1000, not of a grid of 500."""

    steps: int = parameter(
        1000, embedded=50, ge=1, le=100_000, source="official code", description="optimisation steps"
    )
    guidance_scale: float = parameter(
        40.0,
        embedded=5.0,
        ge=0,
        le=1000,
        source="official code",
        description="guidance of the first stage, weight of the second",
    )
    t_min: int = parameter(20, ge=0, le=999, source="official code", description="lowest timestep drawn")
    t_max: int = parameter(980, ge=0, le=999, source="official code", description="highest timestep drawn")
    weighting: Weighting = parameter(
        "sds", source="official code", description="w(t): uniform = 1, sds = 1 - abar_t"
    )
    stage_two: int = parameter(
        500, embedded=25, ge=0, le=100_000, source="official code", description="step at which it begins"
    )
    target_words: str = parameter(
        ", detailed high resolution, high quality, sharp",
        source="official code",
        description="what is added to the target prompt for the bridge's end",
    )
    source_words: str = parameter(
        ", oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, noisy, malformed",
        source="official code",
        description="what is added to the target prompt for the bridge's start: what SDS's pictures look like",
    )


class SBP(DistillationMethod):
    """First SDS; from ``stage_two`` on grad = w(t) s (eps(x_t, c_tgt + good) - eps(x_t, c_tgt + bad)).

    The second stage leads from the distribution that SDS's over-saturated pictures come from to that of good ones,
    both described in words. The rule knows the source as the edit's start alone, and the embedded model has not learnt
    such words: there the second stage does little.
    """

    card = MethodCard(
        name="sbp",
        title="SBP",
        paper="2406.09417",
        summary="SDS, then a bridge from what its faults are called to what good pictures are called.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(3, 5, 10, 20, 40)),
        idea_code_license="MIT (davidmcall/SDS-Bridge)",
    )
    Params: ClassVar[type[DistillationParams]] = SBPParams
    params: SBPParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": BridgeLatents, "scenes": FieldEditParams}

    def gradient(self, step: Step) -> Tensor:
        """SDS's, or the difference of the bridge's ends."""
        p, x = self.params, step.edit
        if step.index < p.stage_two:
            eps = step.predict({"target": Query(x, "target", p.guidance_scale)})
            return self.weight(x) * (eps["target"] - x.noise)
        good, bad = (
            Words(tuple(prompt + words for prompt in step.target_prompts))
            for words in (p.target_words, p.source_words)
        )
        eps = step.predict({"good": Query(x, good), "bad": Query(x, bad)})
        return self.weight(x) * p.guidance_scale * (eps["good"] - eps["bad"])
