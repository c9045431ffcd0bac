"""All noise predictions of a step in one UNet call; those on the noisy source once for all edits that share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.kept import digest, row_digests
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.parameterization import Rows
from piva_bench.distillation.rule import Query


@dataclass(frozen=True)
class _Block:
    """R rows of the call, one per sample and view."""

    noisy: Tensor
    t: Tensor
    prompt: str
    adapter: str | None

    @property
    def key(self) -> tuple[int, int, str, str | None]:
        return id(self.noisy), id(self.t), self.prompt, self.adapter


class Scorer:
    """Gathers the queries of all samples, computes equal ones once, and applies guidance.

    Where the denoiser keeps results, the frozen prior's predictions on the noisy source are looked up: they
    depend on neither the edit nor the target prompt, so the settings of a sweep have them in common. What is
    kept is the prediction under each prompt, before guidance. Each is computed in a call of its own rows, so
    that all numbers are the same whether it was found or not.

    Args:
        denoiser: the model.
        adapters: the batch's adapters, if the rule has any.
    """

    def __init__(self, denoiser: Denoiser, adapters: AdapterTrainer | None) -> None:
        self.denoiser, self.adapters = denoiser, adapters
        self._rows: Rows | None = None
        self._sources: set[int] = set()
        self._stacked: dict[tuple[str, ...], Tensor] = {}
        self._prompt_digests: dict[str, list[bytes]] = {}

    def __call__(
        self, queries: dict[str, Query], t: Tensor, rows: Rows, sources: Iterable[Tensor] = ()
    ) -> tuple[dict[str, Tensor], int]:
        """Predictions [R, C, h, w] by query name, and how many times R rows were computed.

        Args:
            queries: what to predict.
            t: timesteps [R] of queries that have none.
            rows: prompts and depth of the rows.
            sources: the noisy sources of the step, whose predictions other edits may share.
        """
        if rows is not self._rows:
            self._rows, self._stacked, self._prompt_digests = rows, {}, {}
        self._sources = {id(noisy) for noisy in sources}
        wanted = {name: self._blocks(query, t) for name, query in queries.items()}
        unique = {block.key: block for blocks in wanted.values() for block in blocks}
        predictions: dict[tuple[int, int, str, str | None], Tensor] = {}
        computed = 0
        if self.denoiser.kept is not None:
            for block in unique.values():
                if id(block.noisy) in self._sources and block.adapter is None:
                    predictions[block.key], made = self._shared(block, rows)
                    computed += made
        # Rows with adapters come last, so that the adapters apply to one contiguous range.
        blocks = [block for block in unique.values() if block.key not in predictions]
        blocks.sort(key=lambda block: block.adapter is not None)
        if blocks:
            keys = [block.key for block in blocks]
            predictions.update(zip(keys, self._predict(blocks, rows), strict=True))
        results = {}
        for name, query in queries.items():
            *null, conditional = (predictions[block.key] for block in wanted[name])
            results[name] = (
                null[0] + query.guidance * (conditional - null[0])
                if null and query.guidance is not None
                else conditional
            )
        return results, computed + len(blocks)

    def _shared(self, block: _Block, rows: Rows) -> tuple[Tensor, bool]:
        """The predictions of a block from those kept, or computed and kept; and whether they were computed.

        The key is everything the network is given; the network itself is that of the denoiser that keeps them.
        """
        kept = self.denoiser.kept
        assert kept is not None
        if block.prompt not in self._prompt_digests:
            self._prompt_digests[block.prompt] = row_digests(rows.embeds[block.prompt])
        given = zip(
            row_digests(block.noisy), block.t.tolist(), self._prompt_digests[block.prompt], strict=True
        )
        keys = [digest(b"prediction", noisy, b"%d" % t, prompt) for noisy, t, prompt in given]
        if (found := kept.get(keys, block.noisy)) is not None:
            return found, False
        (prediction,) = self._predict([block], rows)
        kept.put(keys, prediction)
        return prediction, True

    def _blocks(self, query: Query, t: Tensor) -> list[_Block]:
        """The rows a query is made of: [conditional], or [null, conditional] under guidance."""
        t = t if query.t is None else query.t
        # Guidance 1 is the conditional prediction.
        guided = query.guidance not in (None, 1) and query.prompt != "null"
        prompts = ("null", query.prompt) if guided else (query.prompt,)
        return [_Block(query.noisy, t, prompt, query.adapter) for prompt in prompts]

    def _predict(self, blocks: Sequence[_Block], rows: Rows) -> tuple[Tensor, ...]:
        prompts = tuple(block.prompt for block in blocks)
        if prompts not in self._stacked:
            self._stacked[prompts] = torch.cat([rows.embeds[prompt] for prompt in prompts])
        noisy, t = torch.cat([block.noisy for block in blocks]), torch.cat([block.t for block in blocks])
        adapted = [block for block in blocks if block.adapter is not None]
        if not adapted:
            return self.denoiser.predict_noise(noisy, t, self._stacked[prompts]).chunk(len(blocks))
        assert self.adapters is not None, "the rule queries an adapter it does not declare"
        given = [rows.depth[self._shows(block)] for block in adapted]
        depths = [depth for depth in given if depth is not None]
        active = self.adapters.active(
            [block.adapter for block in adapted if block.adapter is not None],
            torch.cat(depths) if depths else None,
            start=(len(blocks) - len(adapted)) * len(blocks[0].noisy),
        )
        return self.denoiser.predict_noise(noisy, t, self._stacked[prompts], *active).chunk(len(blocks))

    def _shows(self, block: _Block) -> str:
        """Whose depth conditions an adapter: that of the picture the noisy latents were made from."""
        return "source" if id(block.noisy) in self._sources else "edit"
