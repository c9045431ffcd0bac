"""What changes a network for some rows of one call: adapters, depth, a look at its features."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.condition import Condition
    from piva_bench.diffusion.denoiser import Denoiser


class RowEffect(Protocol):
    """Something that is true of a network within one call and never after it."""

    def on(
        self, denoiser: Denoiser, noisy: Tensor, t: Tensor, condition: Condition
    ) -> AbstractContextManager[Mapping[str, Any]]:
        """Within the block the network runs with the effect; further arguments of the network's call.

        Args:
            denoiser: the model.
            noisy: all rows of the call [N, C, h, w].
            t: theirs [N].
            condition: theirs.
        """
