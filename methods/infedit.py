"""InfEdit's virtual inversion: the source's branch is known at every step, so nothing is inverted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.session import Session


class InfEditParams(MethodParams):
    """The settings of the official run on PIE-Bench (sled-group/InfEdit, run_pie_bench.py), on a consistency model."""

    steps: int = parameter(12, ge=1, le=1000, source="official code", description="steps of the schedule")
    source_guidance_scale: float = parameter(
        1, ge=0, le=1000, source="official code", description="guidance of the source's prediction"
    )
    guidance_scale: float = parameter(
        2.3, ge=0, le=1000, source="official code", description="guidance of the target's prediction"
    )


class InfEdit(SamplingMethod):
    """Virtual inversion on the denoising diffusion consistent model, in which every step draws fresh noise e.

    x_src = a_t z_src + s_t e, whose consistent noise is e itself; z_tgt = clean(x_tgt, eps(x_tgt, c_tgt) -
    eps(x_src, c_src) + e), and the next x_tgt = a z_tgt + s e' under the next step's noise. The first x_tgt is x_src.
    The paper's attention control is no part of it.
    """

    card = MethodCard(
        name="infedit",
        title="InfEdit (virtual inversion)",
        paper="2312.04965",
        summary="Samples with fresh noise in every step and corrects the target by the source's known error.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(1, 2.3, 4, 5.5, 7.5)),
        idea_code_license="CC BY-NC-ND 4.0 (sled-group/InfEdit)",
    )
    Params = InfEditParams
    params: InfEditParams

    def sample(self, session: Session) -> Tensor:
        """From the noisiest step down; the picture is that of the last."""
        p = self.params
        picture = session.source_latents
        for index, t in enumerate(session.track(session.schedule.grid(p.steps))):
            noise = session.random(index).noise("noise")
            source, target = session.noisy("source", t, noise), session.mixed("edit", picture, t, noise)
            eps = session.predict(
                {
                    "source": Query(source, "source", p.source_guidance_scale),
                    "target": Query(target, "target", p.guidance_scale),
                }
            )
            picture = target.clean(eps["target"] - eps["source"] + noise)
        return picture
