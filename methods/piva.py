"""Piva: DDS with a variational term that keeps the edit's distribution near the source's.

The regulariser follows a summary of the paper, the assembly with DDS and all hyper-parameters are documented
choices: the paper's own settings were not available.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from methods._preserving import PreservationParams, Preserving, cosine
from methods.dds import DDS
from piva_bench.distillation.params import AdapterSpec, DistillationParams, SourceAdapterParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class PivaParams(PreservationParams, SourceAdapterParams):
    """DDS's recipe, the regulariser's weight and form, and its two adapters."""

    stamp: ClassVar[Mapping[str, Any]] = {"psi_warmup": 0}
    """What came before ``source_steps``, as records of edits without either have it."""

    combination: Literal["sum", "mix"] = parameter(
        "sum", source="assumed", description="sum: DDS + lambda reg; mix: (1 - lambda) DDS + lambda reg"
    )
    edit_score_prompt: Literal["source", "target"] = parameter(
        "target",
        source="seed",
        description="prompt of the edit's adapter phi, in training and in the regulariser",
    )
    adapter_guidance_scale: float = parameter(
        1.0, ge=0, le=1000, source="assumed", description="guidance on both adapters; 1 is none, as in VSD"
    )
    shared_noise: bool = parameter(
        True,
        source="assumed",
        description="the regulariser uses DDS's timestep and noise, not a draw of its own",
    )
    psi_mode: Literal["online", "pretrained"] = parameter(
        "online",
        source="seed",
        description="the source's adapter psi is trained beside the edit, or only before it (source_steps)",
    )
    phi_start: Literal["prior", "psi"] = parameter(
        "prior",
        source="assumed",
        absent="prior",
        description="what the edit's adapter phi begins as: the frozen prior, or psi as source_steps left it (the edit "
        "begins as the source, which psi then knows)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.combination == "mix" and self.preservation_weight > 1:
            raise ValueError("combination=mix needs a preservation_weight of at most 1")
        if self.psi_mode == "pretrained" and self.source_steps == 0:
            raise ValueError("psi_mode=pretrained needs source_steps, for example source_steps=200")
        if self.phi_start == "psi" and self.source_steps == 0:
            raise ValueError("phi_start=psi needs source_steps, for example source_steps=100")
        return self


class Piva(Preserving, DDS):
    """grad = DDS + lambda w(t) (eps_psi(x_t(z), t, c_src) - eps_phi(x_t(z), t, c_tgt)).

    psi and phi start as the frozen prior and learn, by the denoising loss, the source and the edit as it is.
    The term is the gradient of KL(edit || source) between the two distributions of noisy pictures.
    """

    card = MethodCard(
        name="piva",
        title="Piva",
        paper="2406.08953",
        summary="DDS plus the difference of two scores learned on the way, of the source and of the edit.",
        kind="distillation",
        strength=Strength(parameter="preservation_weight", values=(0.1, 0.2, 0.4, 0.8, 1.6)),
        idea_code_license="no official code known",
    )
    Params: ClassVar[type[DistillationParams]] = PivaParams
    params: PivaParams

    @property
    def adapters(self) -> tuple[AdapterSpec, ...]:
        """Adapter psi on the source, phi on the edit; none at weight 0."""
        if self.params.preservation_weight == 0:
            return ()
        p = self.params
        start = "psi" if p.phi_start == "psi" else None
        return (
            AdapterSpec("psi", data="source", prompt="source", online=p.psi_mode == "online"),
            AdapterSpec("phi", data="edit", prompt=p.edit_score_prompt, start=start),
        )

    def gradient(self, step: Step) -> Tensor:
        """DDS and the regulariser, summed or mixed."""
        p = self.params
        if p.preservation_weight == 0:
            return super().gradient(step)
        draw = step if p.shared_noise else step.draw("regulariser")
        guidance = p.adapter_guidance_scale
        eps = step.predict(
            self.branches(step)
            | {
                "source_score": Query(draw.edit, "source", guidance, adapter="psi"),
                "edit_score": Query(draw.edit, p.edit_score_prompt, guidance, adapter="phi"),
            }
        )
        delta = self.delta(step, eps)
        regulariser = self.weight(draw.edit) * (eps["source_score"] - eps["edit_score"])
        if step.diagnosed:
            # A call of its own: in another batch the other rows would be another rounding.
            prior = step.predict(
                {
                    "source": Query(draw.edit, "source", guidance),
                    "edit": Query(draw.edit, p.edit_score_prompt, guidance),
                }
            )
            step.scalars["untrained_cosine"] = cosine(regulariser, prior["source"] - prior["edit"])
        if p.combination == "mix":
            delta = (1 - p.preservation_weight) * delta
        return self.preserve(step, delta, regulariser)
