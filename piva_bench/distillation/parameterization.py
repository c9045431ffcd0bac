"""What an edit moves, as the engine sees it: rows of latents to look at, and a gradient to follow.

For pictures a row is a sample: its latents are a tensor with an optimiser. For scenes a sample has a row for each
view of the step: the latents are renders through the autoencoder's encoder, and the gradient flows back through
both. No rule knows the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.rows import Observation


class Samples(Protocol):
    """A batch, as its adapters see it."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Of the samples."""

    @property
    def views(self) -> int:
        """Rows of each sample in every step."""

    @property
    def still(self) -> bool:
        """Whether every step shows the same source (one observation serves them all)."""


class Parameterization(Samples, Protocol):
    """What is optimised for a batch of edits."""

    @property
    def source_names(self) -> tuple[str, ...]:
        """For each sample a name that stands for its source alone, pictures and prompts: equal for equal ones."""

    def observe(self, index: int) -> Observation:
        """What step ``index`` looks at."""

    def observe_sources(self, index: int, samples: Sequence[int]) -> Observation:
        """Views of the sources of some samples, where no edit has begun; random numbers are drawn by their names."""

    def step(self, gradient: Tensor) -> None:
        """Moves the edits along a gradient [R, C, h, w] on the latents last observed."""


def source_name(digest: bytes) -> str:
    """The name of a source, from a digest of it."""
    return f"source/{digest.hex()}"
