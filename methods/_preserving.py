"""DDS with a term that preserves identity, weighted by lambda: what Piva and its two limits have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from methods.dds import DDS, DDSParams
from piva_bench.method import MethodCard
from piva_bench.params import MethodParams, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class PreservationParams(DDSParams):
    """DDS's parameters and the weight of a term that preserves identity."""

    preservation_weight: float = parameter(
        0.4, ge=0, le=100, source="seed", description="lambda: weight of the regulariser; 0 is DDS"
    )

    def without_preservation(self) -> DDSParams:
        """The DDS run this becomes at weight 0."""
        return DDSParams(**{name: getattr(self, name) for name in DDSParams.model_fields})


class Preserving:
    """What DDS with a term that preserves identity has in common: at weight 0 it is DDS, record and all."""

    card: ClassVar[MethodCard]
    params: PreservationParams

    def preserve(self, step: Step, delta: Tensor, regulariser: Tensor) -> Tensor:
        """The gradient with the term, and in the step's scalars what the term is like.

        ``regulariser``: its size; ``converged_cosine``: of it and z - z_src, where memorised adapters would point;
        ``regulariser_share``: of lambda times its norm in the sum of both terms' norms.
        """
        pull, size = self.params.preservation_weight * regulariser, norm(regulariser)
        step.scalars["regulariser"] = size / regulariser[0].numel() ** 0.5
        step.scalars["converged_cosine"] = cosine(regulariser, step.latents - step.source_latents)
        step.scalars["regulariser_share"] = norm(pull) / (norm(pull) + norm(delta)).clamp(min=1e-12)
        return delta + pull

    @classmethod
    def canonical(cls, params: MethodParams) -> tuple[str, MethodParams]:
        """Weight 0 is DDS."""
        assert isinstance(params, PreservationParams)
        if params.preservation_weight == 0:
            return DDS.card.name, params.without_preservation()
        return cls.card.name, params


def norm(values: Tensor) -> Tensor:
    """Euclidean norm [R] of each row."""
    return values.flatten(1).norm(dim=1)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Cosine [R] of each pair of rows; 0 where a row is zero."""
    return (one * other).flatten(1).sum(dim=1) / (norm(one) * norm(other)).clamp(min=1e-12)
