"""All noise predictions of a step in one UNet call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.rule import Query


@dataclass(frozen=True)
class _Block:
    """B rows of the call, one per sample."""

    noisy: Tensor
    t: Tensor
    prompt: str
    adapter: str | None

    @property
    def key(self) -> tuple[int, int, str, str | None]:
        return id(self.noisy), id(self.t), self.prompt, self.adapter


class Scorer:
    """Gathers the queries of all samples, computes equal ones once, and applies guidance.

    Args:
        denoiser: the model.
        embeds: text embeddings [B, L, D] by prompt name.
        adapters: the batch's adapters, if the rule has any.
    """

    def __init__(
        self, denoiser: Denoiser, embeds: dict[str, Tensor], adapters: AdapterTrainer | None
    ) -> None:
        self.denoiser, self.embeds, self.adapters = denoiser, embeds, adapters
        self._stacked: dict[tuple[str, ...], Tensor] = {}

    def __call__(self, queries: dict[str, Query], t: Tensor) -> tuple[dict[str, Tensor], int]:
        """Predictions [B, C, h, w] by query name, and the number of UNet rows computed per sample.

        Args:
            queries: what to predict.
            t: timesteps [B] of queries that have none.
        """
        wanted = {name: self._blocks(query, t) for name, query in queries.items()}
        unique = {block.key: block for blocks in wanted.values() for block in blocks}
        # Rows with adapters come last, so that the adapters apply to one contiguous range.
        blocks = sorted(unique.values(), key=lambda block: block.adapter is not None)
        predictions = dict(zip([block.key for block in blocks], self._predict(blocks), strict=True))
        results = {}
        for name, query in queries.items():
            *null, conditional = (predictions[block.key] for block in wanted[name])
            results[name] = (
                null[0] + query.guidance * (conditional - null[0])
                if null and query.guidance is not None
                else conditional
            )
        return results, len(blocks)

    def _blocks(self, query: Query, t: Tensor) -> list[_Block]:
        """The rows a query is made of: [conditional], or [null, conditional] under guidance."""
        t = t if query.t is None else query.t
        # Guidance 1 is the conditional prediction.
        guided = query.guidance not in (None, 1) and query.prompt != "null"
        prompts = ("null", query.prompt) if guided else (query.prompt,)
        return [_Block(query.noisy, t, prompt, query.adapter) for prompt in prompts]

    def _predict(self, blocks: Sequence[_Block]) -> tuple[Tensor, ...]:
        prompts = tuple(block.prompt for block in blocks)
        if prompts not in self._stacked:
            self._stacked[prompts] = torch.cat([self.embeds[prompt] for prompt in prompts])
        noisy = torch.cat([block.noisy for block in blocks])
        names = [block.adapter for block in blocks if block.adapter is not None]
        lora = None
        if names:
            assert self.adapters is not None, "the rule queries an adapter it does not declare"
            lora = self.adapters.rows(names, start=(len(blocks) - len(names)) * len(blocks[0].noisy))
        predicted = self.denoiser.predict_noise(
            noisy, torch.cat([block.t for block in blocks]), self._stacked[prompts], lora
        )
        return predicted.chunk(len(blocks))
