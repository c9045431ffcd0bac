"""IDS: identity-preserving distillation sampling, DDS on noise that is first made to reproduce the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from methods.dds import DDS, DDSParams
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class IDSParams(DDSParams):
    """DDS's recipe, and the fixed-point regularisation (shhh0620/IDS @ d4846c0)."""

    rounds: int = parameter(
        3, ge=0, le=100, source="official code", description="N: corrections of the noisy source; 0 is DDS"
    )
    correction_rate: float = parameter(
        1.0, ge=0, le=1000, source="official code", description="step of a correction"
    )


class IDS(DDS):
    """DDS at x_t(z_src) corrected N times by x -= rate d/dx || z_src - clean(x, eps^w(x, t, c_src)) ||_2.

    The correction changes the noise, eps* = (x - a_t z_src) / s_t, under which the edit is looked at, too.
    """

    card = MethodCard(
        name="ids",
        title="IDS",
        paper="2502.19930",
        summary="Corrects the noise until the source's own score reproduces the source; then DDS.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="BSD-3-Clause (shhh0620/IDS)",
    )
    Params: ClassVar[type[DistillationParams]] = IDSParams
    params: IDSParams
    differentiates = True

    def gradient(self, step: Step) -> Tensor:
        """DDS's difference of branches at the corrected noise."""
        import torch

        guidance, source = self.params.guidance_scale, step.source
        for _ in range(self.params.rounds):
            x = source.leaf()
            eps = step.predict({"source": Query(x, "source", guidance)})["source"]
            distance = (step.source_latents - x.clean(eps)).flatten(1).norm(dim=1)
            (slope,) = torch.autograd.grad(distance.sum(), x.latents)
            source = source.replaced(source.latents - self.params.correction_rate * slope)
        edit = step.edit if source is step.source else step.noisy("edit", source.t, source.noise)
        eps_of = step.predict(
            {"target": Query(edit, "target", guidance), "source": Query(source, "source", guidance)}
        )
        return self.weight(edit) * (eps_of["target"] - eps_of["source"])
