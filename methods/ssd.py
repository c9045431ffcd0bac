"""SSD: stable score distillation, guidance across the two prompts on the edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import AnnealedParams, DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class SSDParams(AnnealedParams):
    """Alex-Zhu1/SSD @ 4db255e, threestudio/models/guidance/sd_ssd_guidance.py; DDS's optimiser.

    ``guidance_scale``, w_p, is 7.5 there, too.
    """

    t_min: int = parameter(20, ge=0, le=999, source="official code", description="last timestep")
    t_max: int = parameter(980, ge=0, le=999, source="official code", description="first timestep")
    image_scale: float = parameter(
        2.0,
        ge=0,
        le=1000,
        source="official code",
        description="w_t: weight of the term that steadies the picture",
    )
    enhance_scale: float = parameter(
        5.5,
        ge=0,
        le=1000,
        tune=(3.0, 5.5, 8.0),
        source="official code",
        description="w_e: guidance from no prompt to the target's",
    )
    identity_weight: float = parameter(
        0.075, ge=0, le=100, source="official code", description="weight of the pull to the noisy source"
    )


class SSD(DistillationMethod):
    """grad = w(t) { w_t / 2 [eps(x, c_src) - eps(x_src, null)] + w_p / 2 [eps(x, c_tgt) - eps(x, c_src)]
    + w_e [eps(x, c_tgt) - eps(x, null)] } + psi exp(t / T) (x - x_src).

    x = x_t(z) and x_src = x_t(z_src) at one t and eps. With equal prompts it is not at rest: w_e keeps pulling
    towards them. FreeU of the official code is left out.
    """

    card = MethodCard(
        name="ssd",
        title="SSD",
        paper="2507.09168",
        summary="Guidance from the source prompt to the target's on the edit, a steadying term and a pull.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="S-Lab 1.0, non-commercial (Alex-Zhu1/SSD)",
    )
    Params: ClassVar[type[DistillationParams]] = SSDParams
    params: SSDParams
    prefix = False

    def gradient(self, step: Step) -> Tensor:
        """The three differences and the pull, from four UNet rows."""
        p, x = self.params, step.edit
        eps = step.predict(
            {
                "target": Query(x, "target"),
                "source": Query(x, "source"),
                "null": Query(x, "null"),
                "image": Query(step.source, "null"),
            }
        )
        steady = p.image_scale / 2 * (eps["source"] - eps["image"])
        across = p.guidance_scale / 2 * (eps["target"] - eps["source"])
        enhance = p.enhance_scale * (eps["target"] - eps["null"])
        share = (x.t / len(step.schedule)).view(-1, 1, 1, 1).to(x.latents.dtype)
        pull = p.identity_weight * share.exp() * (x.latents - step.source.latents)
        return self.weight(x) * (steady + across + enhance) + pull
