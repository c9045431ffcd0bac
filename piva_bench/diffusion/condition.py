"""What a network is told about each row of a batch beside its noisy latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from piva_bench.diffusion.kept import digest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """The conditions of N rows; which of them a model has, all rows have.

    Attributes:
        text: embeddings [N, L, D].
        pooled: of the whole prompt [N, P] (SD3, FLUX).
        image: latents [N, C, h, w] that are laid beside the noisy ones (InstructPix2Pix).
        scale: [N] guidance that the network was distilled to take as an input (FLUX dev).
    """

    text: Tensor
    pooled: Tensor | None = None
    image: Tensor | None = None
    scale: Tensor | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.text)

    @classmethod
    def cat(cls, conditions: Sequence[Condition]) -> Condition:
        """The rows of all of them, in order."""
        text, pooled, image, scale = zip(*(one._values() for one in conditions), strict=True)
        return cls(torch.cat(text), *(_joined(values, _cat) for values in (pooled, image, scale)))

    def rows(self, part: slice) -> Condition:
        """Some of the rows."""
        return Condition(self.text[part], *(None if v is None else v[part] for v in self._values()[1:]))

    def repeat(self, count: int) -> Condition:
        """Each row ``count`` times, side by side."""
        text, *others = (None if v is None else v.repeat_interleave(count, 0) for v in self._values())
        assert text is not None, "every row has a text"
        return Condition(text, *others)

    def where(self, chosen: Tensor, other: Condition) -> Condition:
        """These rows where ``chosen`` [N] is true, else the other's."""

        def pick(pair: Sequence[Tensor]) -> Tensor:
            mine, theirs = pair
            return torch.where(chosen.view(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        pairs = list(zip(self._values(), other._values(), strict=True))
        return Condition(pick((self.text, other.text)), *(_joined(pair, pick) for pair in pairs[1:]))

    def digests(self) -> list[bytes]:
        """For each row, bytes that are equal for equal conditions."""
        held = [value for value in self._values() if value is not None]
        return [digest(*(value[row] for value in held)) for row in range(len(self))]

    @property
    def requires_grad(self) -> bool:
        """Whether gradients to a part of it are wanted."""
        return any(value is not None and value.requires_grad for value in self._values())

    def _values(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        return self.text, self.pooled, self.image, self.scale


def _joined(values: Sequence[Tensor | None], how: Callable[[Sequence[Tensor]], Tensor]) -> Tensor | None:
    held = [value for value in values if value is not None]
    if held and len(held) < len(values):
        raise ValueError("conditions of different kinds of models cannot be mixed")
    return how(held) if held else None


def _cat(values: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(values))
