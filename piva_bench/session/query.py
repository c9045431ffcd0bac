"""What a method can ask for: one prediction for every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, Union

if TYPE_CHECKING:
    from piva_bench.diffusion.condition import Condition
    from piva_bench.session.noisy import Noisy

PROMPTS = ("source", "target", "null", "instruction")
"""Names of the prompts that each sample has: two captions, the empty prompt, the edit as an order."""


@dataclass(frozen=True)
class Words:
    """A free text as a prompt: the same for all rows, or one a row."""

    text: str | tuple[str, ...]


Prompt: TypeAlias = Union[str, Words, "Condition"]
"""A name of ``PROMPTS``, free text, or a condition made by the method (null-text inversion learns one)."""


@dataclass(frozen=True, eq=False)
class Query:
    """One noise prediction for every row.

    Attributes:
        noisy: what is predicted on. On a ``leaf()`` the prediction is computed with a graph, in a call of its own
            after that of all other queries.
        prompt: what conditions the prediction.
        guidance: w of classifier-free guidance, eps(negative) + w (eps(prompt) - eps(negative)); None for the plain
            conditional prediction. A pair (w_text, w_image) for models that see the picture to edit
            (InstructPix2Pix, eq. 3 of arXiv 2211.09800).
        negative: what guidance leads away from.
        adapter: name of the adapter to predict with; None for the frozen model.
        model: name of a model beside the main one (``MethodCard.models``); None for the main one.
    """

    noisy: Noisy
    prompt: Prompt
    guidance: float | tuple[float, float] | None = None
    negative: Prompt = "null"
    adapter: str | None = None
    model: str | None = None
