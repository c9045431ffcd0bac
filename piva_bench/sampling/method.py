"""Sampling methods: a session in, latents out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from piva_bench.method import EditMethod, EditOutcome, EditTask, OnStep

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.session.session import Session


class SamplingMethod(EditMethod):
    """Base of editors that are handed the whole session: a subclass says how its latents come about.

    Attributes:
        differentiates: whether the method takes gradients through the network (``Noisy.leaf``).
    """

    differentiates: bool = False

    @abstractmethod
    def sample(self, session: Session) -> Tensor:
        """The edited latents [R, C, h, w]; ``session.track`` tells the run how far it is."""

    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """See ``EditMethod.edit``."""
        from piva_bench.sampling.engine import sample_edits

        return sample_edits(self, batch, denoiser, seed, on_step)
