"""What changes a network for some rows of one call: adapters, depth, a look at its features."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from piva_bench.diffusion.condition import Condition


class Host(Protocol):
    """What effects see of the denoiser whose network they change; ``Denoiser`` is one.

    Attributes:
        network: the UNet or transformer.
        path: where it came from.
        resolution: side of its pictures in pixels.
        dtype: of its weights.
    """

    network: Any
    path: Path
    resolution: int
    dtype: torch.dtype

    @property
    def fingerprint(self) -> str:
        """Of its files."""

    def need_depth_control(self) -> Any:
        """The depth ControlNet beside it."""


class RowEffect(Protocol):
    """Something that is true of a network within one call and never after it."""

    def on(
        self, denoiser: Host, noisy: Tensor, t: Tensor, condition: Condition
    ) -> AbstractContextManager[Mapping[str, Any]]:
        """Within the block the network runs with the effect; further arguments of the network's call.

        Args:
            denoiser: the model.
            noisy: all rows of the call [N, C, h, w].
            t: theirs [N].
            condition: theirs.
        """
