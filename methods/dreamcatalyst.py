"""DreamCatalyst: DDS and a pull to the source, each weighted by the timestep, which falls over the run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from methods.dds import DDS
from piva_bench.distillation.params import AnnealedParams, DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class DreamCatalystParams(AnnealedParams):
    """kaist-cvml/DreamCatalyst @ 5702c36, nerfstudio/dc/dc.py; DDS's optimiser."""

    t_min: int = parameter(200, ge=0, le=999, source="official code", description="last timestep")
    t_max: int = parameter(900, ge=0, le=999, source="official code", description="first timestep")
    edit_floor: float = parameter(
        0.2, ge=0, le=100, source="official code", description="delta: weight of the edit at any timestep"
    )
    edit_growth: float = parameter(
        0.8, ge=0, le=100, source="official code", description="gamma: weight that is added by noise"
    )
    identity_weight: float = parameter(
        0.075, ge=0, le=100, source="official code", description="psi: weight of the pull to the source"
    )


class DreamCatalyst(DDS):
    """grad = w(t) [delta + gamma (t / T)^(1 / e)] (eps^w_tgt - eps^w_src) + psi exp(t / T) (z - z_src).

    The branches are DDS's, at one t and eps. The official code runs the rule on InstructPix2Pix, whose source branch
    sees the picture and no prompt, with FreeU, and refines scenes by SDEdit: all of that is left out.
    """

    card = MethodCard(
        name="dreamcatalyst",
        title="DreamCatalyst",
        paper="2407.11394",
        summary="DDS and an L2 pull to the source with weights by timestep, from noisy to clean.",
        kind="distillation",
        strength=Strength(parameter="identity_weight", values=(0.01, 0.03, 0.075, 0.15, 0.3)),
        idea_code_license="none stated (kaist-cvml/DreamCatalyst)",
    )
    Params: ClassVar[type[DistillationParams]] = DreamCatalystParams
    params: DreamCatalystParams
    prefix = False

    def gradient(self, step: Step) -> Tensor:
        """The weighted DDS and the pull."""
        p = self.params
        share = (step.edit.t / len(step.schedule)).view(-1, 1, 1, 1).to(step.latents.dtype)
        delta = self.delta(step, step.predict(self.branches(step)))
        pull = share.exp() * (step.latents - step.source_latents)
        return (p.edit_floor + p.edit_growth * share ** (1 / math.e)) * delta + p.identity_weight * pull
