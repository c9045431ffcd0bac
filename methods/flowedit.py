"""FlowEdit: an ODE straight from source to edit, on a flow or on the flow view of a diffusion model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.session import Session


class FlowEditParams(MethodParams):
    """The official settings for Stable Diffusion 3 (FlowEdit_utils.py and SD3_edit.yaml @ 457f402)."""

    steps: int = parameter(50, ge=1, le=1000, source="official code", description="T, steps of the schedule")
    n_max: int = parameter(
        33,
        ge=1,
        le=1000,
        tune=(20, 33, 45),
        source="official code",
        description="how many of them, from the cleanest, are walked",
    )
    n_avg: int = parameter(
        1, ge=1, le=64, source="official code", description="draws of noise averaged in every step"
    )
    source_guidance_scale: float = parameter(
        3.5, ge=0, le=1000, source="official code", description="guidance of the source's velocity"
    )
    guidance_scale: float = parameter(
        13.5, ge=0, le=1000, source="official code", description="guidance of the target's velocity"
    )

    @model_validator(mode="after")
    def _walk_within_schedule(self) -> Self:
        if self.n_max > self.steps:
            raise ValueError(f"n_max ({self.n_max}) is above steps ({self.steps})")
        return self


class FlowEdit(SamplingMethod):
    """dz/ds = E_n [ v^w(y_s(z) , c_tgt) - v^w(y_s(z_src), c_src) ], y_s(z) = y_s(z_src) + z - z_src, s from high to 0.

    y_s(z_src) = (1 - s) z_src + s n with a fresh n in every step. On a noise predictor y_s = x_t / (a_t + s_t) at
    s = s_t / (a_t + s_t), where the velocity is eps - clean(eps).
    """

    card = MethodCard(
        name="flowedit",
        title="FlowEdit",
        paper="2412.08629",
        summary="Moves the source along the difference of two velocities, without inversion.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(2, 5, 8, 13.5, 20)),
        idea_code_license="MIT (fallenshock/FlowEdit)",
    )
    Params = FlowEditParams
    params: FlowEditParams

    def sample(self, session: Session) -> Tensor:
        """The ODE by Euler's steps."""
        p, schedule = self.params, session.schedule
        grid = schedule.grid(p.steps)[-p.n_max :]
        latents = session.source_latents.clone()
        for index, t in enumerate(session.track(grid)):
            here, scale = schedule.flow_time(t), schedule.flow_scale(t)
            there = schedule.flow_time(grid[index + 1]) if index + 1 < len(grid) else 0.0
            velocity = session.latents.new_zeros(())
            for draw in range(p.n_avg):
                source = session.noisy("source", t, session.random(index).noise(f"noise/{draw}"))
                # y of the edit is y of the source moved as the edit has moved.
                target = session.at("edit", source.latents + scale * (latents - session.source_latents), t)
                eps = session.predict(
                    {
                        "target": Query(target, "target", p.guidance_scale),
                        "source": Query(source, "source", p.source_guidance_scale),
                    }
                )
                velocity = velocity + target.velocity(eps["target"]) - source.velocity(eps["source"])
            latents = latents + (there - here) * velocity / p.n_avg
        return latents
