"""LEDITS++: edit-friendly inversion by a faster solver, and guidance to the target where its words attend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.touch import Features, Site
    from piva_bench.session.session import Session

ATTENTION_ONLY = 800
"""Above this timestep the mask is the attention's alone."""


class LEditsPPParams(MethodParams):
    """The settings of the authors' README (ml-research/ledits_pp @ 3166022)."""

    steps: int = parameter(50, ge=1, le=1000, source="official code", description="steps of the schedule")
    skip: float = parameter(
        0.1,
        ge=0,
        le=0.99,
        tune=(0.1, 0.25, 0.4),
        source="official code",
        description="share of steps, from the noisiest, that are left out",
    )
    guidance_scale: float = parameter(
        10, ge=0, le=1000, source="official code", description="s_e, guidance towards the target"
    )
    threshold: float = parameter(
        0.75,
        ge=0,
        le=1,
        source="official code",
        description="lambda: share of the places that each mask leaves to the source",
    )


class LEditsPP(SamplingMethod):
    """x_(t-1) = mu_t(x_t, eps) + d_t with eps = eps(x_t, "") + s_e M (eps(x_t, c_tgt) - eps(x_t, "")).

    mu is the mean of SDE-DPM-Solver++ of second order, d_t = x_(t-1) - mu_t(x_t, "") that of the noised source.

    M = M1 M2: the target's cross attention, smoothed, and the difference of predictions, each where it is above the
    quantile lambda. The concept to add is the whole target prompt (the paper's are given by hand): assumed.
    """

    card = MethodCard(
        name="leditspp",
        title="LEDITS++",
        paper="2311.16711",
        summary="Edit-friendly inversion by a second-order solver; guidance inside masks found on the way.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(2.5, 5, 7.5, 10, 15)),
        idea_code_license="MIT (ml-research/ledits_pp)",
    )
    Params = LEditsPPParams
    params: LEditsPPParams

    def sample(self, session: Session) -> Tensor:
        """Each step's offset is found where it is used."""
        from piva_bench.sampling.attention import PromptHeat, above
        from piva_bench.sampling.solver import SecondOrder

        p, schedule = self.params, session.schedule
        grid = schedule.grid(p.steps, p.skip)

        def noised(t: int) -> Tensor:
            return session.noisy("source", t, session.random(t).noise("noise")).latents

        source = target = noised(grid[0])
        solvers = {name: SecondOrder(schedule) for name in ("source", "target")}
        for t, to in session.track(schedule.moves(grid)):
            heat = PromptHeat(session)

            def touch(site: Site, rows: Mapping[str, Features], heat: PromptHeat = heat) -> None:
                heat.look(site, rows["target"])

            own = session.predict({"source": Query(session.at("source", source, t), "null")})["source"]
            here = session.at("edit", target, t)
            eps = session.predict({"target": Query(here, "target"), "null": Query(here, "null")}, touch)
            guide = p.guidance_scale * (eps["target"] - eps["null"])
            mask = heat.mask(p.threshold)
            if t <= ATTENTION_ONLY:
                mask = mask * above(guide.abs().sum(dim=1, keepdim=True), p.threshold)
            following = session.source_latents if to is None else noised(to)
            offset = following - solvers["source"].mean(source, own, t, to)
            source = following
            target = solvers["target"].mean(target, eps["null"] + mask * guide, t, to) + offset
        return target
