"""SDEdit: noise the source part of the way, and sample from there under the target prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.session import Session


class SDEditParams(MethodParams):
    """Of diffusers' image-to-image pipeline, which is SDEdit on latents."""

    steps: int = parameter(
        50, ge=1, le=1000, source="official code", description="steps of the whole schedule (diffusers: 50)"
    )
    strength: float = parameter(
        0.8,
        gt=0,
        le=1,
        source="official code",
        description="share of the schedule that is noised (diffusers: 0.8)",
    )
    guidance_scale: float = parameter(
        7.5,
        ge=0,
        le=1000,
        tune=(3.0, 5.0, 7.5),
        source="official code",
        description="classifier-free guidance (diffusers: 7.5)",
    )


class SDEdit(SamplingMethod):
    """x_t0 = a z_src + s eps; then DDIM down the schedule with eps^w(x_t, t, c_tgt)."""

    card = MethodCard(
        name="sdedit",
        title="SDEdit",
        paper="2108.01073",
        summary="Noises the source part of the way and denoises it as the target; strength is the only knob.",
        kind="sampling",
        strength=Strength(parameter="strength", values=(0.2, 0.4, 0.6, 0.8, 1)),
        idea_code_license="MIT (ermongroup/SDEdit)",
    )
    Params = SDEditParams
    params: SDEditParams

    def sample(self, session: Session) -> Tensor:
        """Down from the noised source."""
        p = self.params
        grid = session.schedule.grid(p.steps)[-max(1, round(p.strength * p.steps)) :]
        noise = session.random(0).noise("noise")
        latents = session.noisy("source", grid[0], noise).latents
        for t, to in session.track(session.schedule.moves(grid)):
            noisy = session.at("edit", latents, t)
            eps = session.predict({"target": Query(noisy, "target", p.guidance_scale)})["target"]
            latents = session.schedule.ddim(latents, eps, t, to)
        return latents
