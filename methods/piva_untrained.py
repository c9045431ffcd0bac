"""Piva with adapters that have learnt nothing: the other end from ``piva_analytic``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from methods._preserving import PreservationParams, Preserving
from methods.dds import DDS
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class PivaUntrainedParams(PreservationParams):
    """DDS's recipe and the regulariser's weight."""


class PivaUntrained(Preserving, DDS):
    """grad = DDS + lambda w(t) (eps(x_t(z), t, c_src) - eps(x_t(z), t, c_tgt)), the difference without guidance.

    A LoRA starts as nothing added to the prior, so this is Piva before its adapters have been trained. The term is
    the edit's own direction with the opposite sign: the target branch's guidance falls by lambda.
    """

    card = MethodCard(
        name="piva_untrained",
        title="Piva (untrained)",
        paper=None,
        summary="DDS less a share of its own edit direction, which Piva is while its adapters know nothing.",
        kind="distillation",
        strength=Strength(parameter="preservation_weight", values=(0.1, 0.2, 0.4, 0.8, 1.6)),
        idea_code_license="derived here",
    )
    Params: ClassVar[type[DistillationParams]] = PivaUntrainedParams
    params: PivaUntrainedParams

    def gradient(self, step: Step) -> Tensor:
        """DDS and the difference of the prompts; one UNet row more than DDS."""
        if self.params.preservation_weight == 0:
            return super().gradient(step)
        scores = {
            "source_score": Query(step.edit, "source"),
            "edit_score": Query(step.edit, "target"),
        }
        eps = step.predict(self.branches(step) | scores)
        regulariser = self.weight(step.edit) * (eps["source_score"] - eps["edit_score"])
        return self.preserve(step, self.delta(step, eps), regulariser)
