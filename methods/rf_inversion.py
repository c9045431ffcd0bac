"""RF-inversion: a flow's ODE out and in, steered to typical noise on the way out, to the source on the way in."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.session import Session


class RFInversionParams(MethodParams):
    """The settings of the authors' README for FLUX (LituRout/RF-Inversion @ 85abd1f; diffusers' community pipeline)."""

    steps: int = parameter(
        28, ge=1, le=1000, source="official code", description="steps of the schedule, out and in"
    )
    gamma: float = parameter(
        0.5,
        ge=0,
        le=1,
        source="official code",
        description="how far the way out is steered to the noise drawn",
    )
    eta: float = parameter(
        0.9,
        ge=0,
        le=1,
        tune=(0.7, 0.8, 0.9),
        source="official code",
        description="how far the way in is steered to the source",
    )
    steered: float = parameter(
        0.25,
        ge=0,
        le=1,
        source="official code",
        description="share of the steps in that are (official: 7 of 28)",
    )
    guidance_scale: float = parameter(
        3.5, ge=0, le=1000, source="official code", description="guidance of the target's velocity"
    )


class RFInversion(SamplingMethod):
    """Out: dy/ds = v(y, "") + gamma ((n - y) / (1 - s) - v). In: dy/ds = v(y, c_tgt) + eta ((y - z_src) / s - v).

    Euler's steps on the model's grid. The first, from the picture itself, takes its velocity at the lowest timestep.
    """

    card = MethodCard(
        name="rf_inversion",
        title="RF-Inversion",
        paper="2410.10792",
        summary="Inverts a flow's ODE towards noise and comes back as the target, at first drawn to the source.",
        kind="sampling",
        strength=Strength(parameter="steered", values=(1, 0.75, 0.5, 0.25, 0)),
        idea_code_license="none stated (LituRout/RF-Inversion); Apache-2.0 in diffusers",
    )
    Params = RFInversionParams
    params: RFInversionParams

    def sample(self, session: Session) -> Tensor:
        """Out and in."""
        from piva_bench.sampling.flow import times, velocity

        p, source = self.params, session.source_latents
        grid = session.schedule.grid(p.steps)
        noise = session.random(0).noise("noise")
        falling = times(session, grid)
        out = list(pairwise(falling[::-1]))  # 0 to s of the lowest timestep, and so on
        point = source
        for (here, there), t in zip(out, [grid[-1], *grid[:0:-1]], strict=True):
            v = velocity(session, "source", point, t, "null", 0.0)
            point = point + (there - here) * (v + p.gamma * ((noise - point) / (1 - here) - v))
        steered = round(p.steered * p.steps)
        for index, t in enumerate(session.track(grid)):
            here, there = falling[index], falling[index + 1]
            v = velocity(session, "edit", point, t, "target", p.guidance_scale)
            if index < steered:
                v = v + p.eta * ((point - source) / here - v)
            point = point + (there - here) * v
        return point
