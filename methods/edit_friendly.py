"""Edit-friendly DDPM inversion: the source's own noise in every step, sampled again under the target prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.session import Session


class EditFriendlyParams(MethodParams):
    """The settings of the official code and demo (inbarhub/DDPM_inversion, main_run.py @ 09cc38b)."""

    steps: int = parameter(
        100, ge=1, le=1000, source="official code", description="steps of the whole schedule"
    )
    skip: float = parameter(
        0.36,
        ge=0,
        le=0.99,
        source="official code",
        description="share of steps, from the noisiest, that are left out (official demo: 36 of 100)",
    )
    source_guidance_scale: float = parameter(
        3.5, ge=0, le=1000, source="official code", description="guidance under which the noise is found"
    )
    guidance_scale: float = parameter(
        15,
        ge=0,
        le=1000,
        tune=(5.0, 10.0, 15.0),
        source="official code",
        description="guidance of the target",
    )


class EditFriendly(SamplingMethod):
    """x_t = a_t z_src + s_t n_t with an independent n_t for each t, and d_t = x_(t-1) - mu_t(x_t, c_src); from x of the
    first step that is not left out x_(t-1) = mu_t(x_t, c_tgt) + d_t, mu of DDPM's posterior.

    d_t is the paper's sigma_t z_t. The last step, to the picture, has no noise but an offset like the others, so that
    the source prompt gives the source exactly; the official code leaves that one out.
    """

    card = MethodCard(
        name="edit_friendly",
        title="Edit-friendly DDPM",
        paper="2304.06140",
        summary="Finds the noise of every step that makes the source, and samples with it as the target.",
        kind="sampling",
        strength=Strength(parameter="skip", values=(0.8, 0.6, 0.36, 0.2, 0)),
        idea_code_license="MIT (inbarhub/DDPM_inversion)",
    )
    Params = EditFriendlyParams
    params: EditFriendlyParams

    def sample(self, session: Session) -> Tensor:
        """Each step's offset is found where it is used: the source's latents of a step depend on no other step."""
        p, schedule = self.params, session.schedule
        grid = schedule.grid(p.steps, p.skip)

        def noised(t: int) -> Tensor:
            return session.noisy("source", t, session.random(t).noise("noise")).latents

        def mean(latents: Tensor, eps: Tensor, t: int, to: int | None) -> Tensor:
            return (
                schedule.clean(latents, eps, t) if to is None else schedule.posterior(latents, eps, t, to)[0]
            )

        source = target = noised(grid[0])
        for t, to in session.track(schedule.moves(grid)):
            eps = session.predict(
                {
                    "source": Query(session.at("source", source, t), "source", p.source_guidance_scale),
                    "target": Query(session.at("edit", target, t), "target", p.guidance_scale),
                }
            )
            following = session.source_latents if to is None else noised(to)
            offset = following - mean(source, eps["source"], t, to)
            source, target = following, mean(target, eps["target"], t, to) + offset
        return target
