"""The rows of a batch: what is edited, under which prompts, with which random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from piva_bench.diffusion.condition import Condition
from piva_bench.errors import UnknownName
from piva_bench.session.noise import BatchNoise
from piva_bench.session.query import PROMPTS, Prompt, Words

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser


@dataclass(frozen=True)
class Observation:
    """What is looked at: R rows, sample by sample and in each sample view by view.

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
        instructions: one a row, "" where there is none; empty where the rows have none.
        blended_words: for each row pairs of a source's and a target prompt's word that the edit is about.
        edit_types: one a row.
        mask: [R, 1, H, W] in {0, 1}, 1 where the edit belongs; only for methods whose card says ``uses_mask``.
    """

    latents: Tensor
    source_latents: Tensor
    names: tuple[str, ...]
    source_prompts: tuple[str, ...]
    target_prompts: tuple[str, ...]
    depth: Tensor | None = None
    source_depth: Tensor | None = None
    instructions: tuple[str, ...] = ()
    blended_words: tuple[tuple[tuple[str, str], ...], ...] = ()
    edit_types: tuple[str, ...] = ()
    mask: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """Rows with all that predictions need.

    Attributes:
        seen: the latents, prompts and depth.
        draws: random numbers, by row.
        denoiser: the model.
    """

    seen: Observation
    draws: BatchNoise
    denoiser: Denoiser
    _conditions: dict[tuple[str, Prompt, bool], Condition] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Tensor]:
        """Latents [R, C, h, w] by name: what adapters learn."""
        return {"source": self.seen.source_latents, "edit": self.seen.latents}

    @property
    def depth(self) -> dict[str, Tensor | None]:
        """Depth [R, 1, H, W] by the same names."""
        return {"source": self.seen.source_depth, "edit": self.seen.depth}

    def condition(self, prompt: Prompt, *, image: bool = True, model: str | None = None) -> Condition:
        """The condition of all rows.

        Args:
            prompt: its name, free text, or a condition, which is returned.
            image: whether a model that sees the picture to edit is shown it.
            model: name of a model beside the main one.

        Raises:
            UnknownName: no prompt of that name.
        """
        if isinstance(prompt, Condition):
            return prompt
        key = (model or "", prompt, image)
        if key not in self._conditions:
            denoiser = self.denoiser if model is None else self.denoiser.beside[model]
            shown = None
            if denoiser.sees_source:
                shown = self.seen.source_latents * (1.0 if image else 0.0)
            # Not inference tensors, even if the caller is in that mode: gradients pass through what reads them.
            with torch.inference_mode(False), torch.no_grad():
                self._conditions[key] = denoiser.condition(self._texts(prompt), shown)
        return self._conditions[key]

    def _texts(self, prompt: str | Words) -> Sequence[str]:
        count = len(self.seen.names)
        if isinstance(prompt, Words):
            return [prompt.text] * count if isinstance(prompt.text, str) else prompt.text
        texts = {
            "source": self.seen.source_prompts,
            "target": self.seen.target_prompts,
            "null": ("",) * count,
            "instruction": self.seen.instructions or ("",) * count,
        }
        if prompt not in texts:
            raise UnknownName("prompt", prompt, PROMPTS, "Free text is Words(...).")
        return texts[prompt]

    @classmethod
    def of(cls, seen: Observation, denoiser: Denoiser, seed: int) -> Rows:
        """The rows of an observation."""
        return cls(seen, BatchNoise(seed, seen.names, denoiser.device), denoiser)


def view_names(sample_id: str, views: Sequence[int]) -> tuple[str, ...]:
    """Names of a sample's rows: ``sample/view3``."""
    return tuple(f"{sample_id}/view{view}" for view in views)
