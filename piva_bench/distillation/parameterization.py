"""What an edit moves, as the engine sees it: rows of latents to look at, and a gradient to follow.

For pictures a row is a sample: its latents are a tensor with an optimiser. For scenes a sample has a row for each
view of the step: the latents are renders through the autoencoder's encoder, and the gradient flows back through
both. No rule knows the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.distillation.noise import BatchNoise


@dataclass(frozen=True)
class Observation:
    """What a step looks at: R rows, sample by sample and in each sample view by view.

    Attributes:
        latents: z [R, C, h, w] of the edit, detached. Latents that are optimised themselves show every later move.
        source_latents: z_src [R, C, h, w] of the source in the same views.
        names: one a row, unique among all samples of a dataset: the row's random numbers are drawn by it. So every
            view has noise and a timestep of its own (threestudio's Stable Diffusion guidance draws them alike).
        source_prompts: one a row.
        target_prompts: one a row.
        depth: distance along the optical axis [R, 1, H, W] in the edit's views, 0 where there is nothing; None where
            pictures have none.
        source_depth: the same of the source.
    """

    latents: Tensor
    source_latents: Tensor
    names: tuple[str, ...]
    source_prompts: tuple[str, ...]
    target_prompts: tuple[str, ...]
    depth: Tensor | None = None
    source_depth: Tensor | None = None


class Parameterization(Protocol):
    """What is optimised for a batch of edits."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Of the samples."""

    @property
    def views(self) -> int:
        """Rows of each sample in every step."""

    @property
    def still(self) -> bool:
        """Whether every step shows the same source (one observation serves them all)."""

    def observe(self, index: int) -> Observation:
        """What step ``index`` looks at."""

    def step(self, gradient: Tensor) -> None:
        """Moves the edits along a gradient [R, C, h, w] on the latents last observed."""


@dataclass(frozen=True)
class Rows:
    """A step's rows with all that predictions need.

    Attributes:
        seen: the latents, prompts and depth.
        draws: random numbers, by row.
        embeds: text embeddings [R, L, D] by prompt name ("source", "target", "null").
    """

    seen: Observation
    draws: BatchNoise
    embeds: dict[str, Tensor]

    @property
    def data(self) -> dict[str, Tensor]:
        """Latents [R, C, h, w] by name: what adapters learn."""
        return {"source": self.seen.source_latents, "edit": self.seen.latents}

    @property
    def depth(self) -> dict[str, Tensor | None]:
        """Depth [R, 1, H, W] by the same names."""
        return {"source": self.seen.source_depth, "edit": self.seen.depth}

    @classmethod
    def of(cls, seen: Observation, denoiser: Denoiser, seed: int) -> Rows:
        """The rows of an observation."""
        from piva_bench.distillation.noise import BatchNoise

        return cls(
            seen,
            BatchNoise(seed, seen.names, denoiser.device),
            {
                "source": denoiser.encode_prompts(seen.source_prompts),
                "target": denoiser.encode_prompts(seen.target_prompts),
                "null": denoiser.encode_prompts([""] * len(seen.names)),
            },
        )


def view_names(sample_id: str, views: Sequence[int]) -> tuple[str, ...]:
    """Names of a sample's rows: ``sample/view3``."""
    return tuple(f"{sample_id}/view{view}" for view in views)
