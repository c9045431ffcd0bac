"""DNAEdit: noise is aligned with the source's velocities step by step, and the way back keeps their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.session import Session


class DNAEditParams(MethodParams):
    """The settings for Stable Diffusion 3.5 (xiechenxi99/DNAEdit_code @ f611eea)."""

    steps: int = parameter(40, ge=1, le=1000, source="official code", description="T, steps of the schedule")
    skip: float = parameter(
        0.325,
        ge=0,
        le=0.99,
        source="official code",
        description="share of steps, from the noisiest, that are left out (official: 13 of 40)",
    )
    source_guidance_scale: float = parameter(
        1, ge=0, le=1000, source="official code", description="guidance of the source's velocity"
    )
    guidance_scale: float = parameter(
        3.5,
        ge=0,
        le=1000,
        tune=(2.0, 3.5, 5.0),
        source="official code",
        description="guidance of the target's velocity",
    )
    velocity_share: float = parameter(
        0.8,
        ge=0,
        le=1,
        source="official code",
        description="mobile velocity guidance: the target's velocity, and for the rest that to the moving reference",
    )


class DNAEdit(SamplingMethod):
    """Out, from y = z_src and random n: y' = y + ds / (1 - s) (n - y); d = (y' - y) / ds - v(y', c_src); then
    y <- y' - d ds and n <- n - d (1 - s), keeping d ds and v of each step.

    In: v_t = v(y + d ds, c_tgt); r <- r + ds (v_t - v) from r = z_src; y <- y + ds (m v_t + (1 - m) (y - r) / s).
    """

    card = MethodCard(
        name="dnaedit",
        title="DNAEdit",
        paper="2506.01430",
        summary="Aligns noise directly with the source's velocities; the way back is held by a moving reference.",
        kind="sampling",
        strength=Strength(parameter="skip", values=(0.8, 0.6, 0.325, 0.2, 0)),
        idea_code_license="none stated (xiechenxi99/DNAEdit_code; its README says Apache-2.0)",
    )
    Params = DNAEditParams
    params: DNAEditParams

    def sample(self, session: Session) -> Tensor:
        """Out and in."""
        from piva_bench.sampling.flow import times, velocity

        p = self.params
        grid = session.schedule.grid(p.steps, p.skip)
        falling = times(session, grid)
        point, noise = session.source_latents, session.random(0).noise("noise")
        kept: list[tuple[Tensor, Tensor]] = []
        for index, t in reversed(list(enumerate(grid))):
            here, there = falling[index + 1], falling[index]
            moved = point + (there - here) / (1 - here) * (noise - point)
            v = velocity(session, "source", moved, t, "source", p.source_guidance_scale)
            gap = (moved - point) / (there - here) - v
            point, noise = moved - gap * (there - here), noise - gap * (1 - here)
            kept.append((gap * (there - here), v))
        reference = session.source_latents
        for index, (t, (gap, v)) in enumerate(session.track(list(zip(grid, reversed(kept), strict=True)))):
            here, step = falling[index], falling[index + 1] - falling[index]
            target = velocity(session, "edit", point + gap, t, "target", p.guidance_scale)
            reference = reference + step * (target - v)
            point = point + step * (
                p.velocity_share * target + (1 - p.velocity_share) * (point - reference) / here
            )
        return point
