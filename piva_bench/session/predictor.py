"""All predictions that are asked for at once in one call of the network; shared ones looked up."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.effects import RowEffect
from piva_bench.diffusion.kept import digest, row_digests
from piva_bench.diffusion.touch import Touch, TouchedRows
from piva_bench.errors import UnknownName
from piva_bench.session.noisy import Noisy
from piva_bench.session.query import Prompt, Query
from piva_bench.session.rows import Rows


class Adapters(Protocol):
    """The adapters of a batch, as predictions need them."""

    @property
    def names(self) -> Sequence[str]:
        """Theirs."""

    def active(self, names: Sequence[str], depth: Tensor | None, start: int) -> Sequence[RowEffect]:
        """These adapters, each for all samples, for the batch rows from ``start`` on.

        Args:
            names: adapters.
            depth: [len(names) * R, 1, H, W] of those rows, for adapters of a depth ControlNet.
            start: the first of the rows.
        """


@dataclass(frozen=True, eq=False)
class _Block:
    """R rows of the call: one prediction for every sample and view."""

    noisy: Noisy
    prompt: Prompt
    adapter: str | None
    model: str | None
    image: bool = True
    scale: float | None = None

    @property
    def key(self) -> Hashable:
        return self.noisy.key, self.prompt, self.adapter, self.model, self.image, self.scale


class Predictor:
    """Gathers the queries of all rows, computes equal ones once, and applies guidance.

    Where the denoiser keeps results, the frozen model's predictions on the noisy source are looked up: they
    depend on neither the edit nor the target prompt, so the settings of a sweep have them in common. What is
    kept is the prediction under each prompt, before guidance. Each is computed in a call of its own rows, so
    that all numbers are the same whether it was found or not.

    Args:
        denoiser: the model.
        adapters: the batch's adapters, if the rule has any.

    Attributes:
        evaluations: how many times R rows have been computed, or looked up: what an edit costs does not depend on what
            others happened to compute before.
        differentiated: how many of those were computed with a graph, and so also backward.
    """

    def __init__(self, denoiser: Denoiser, adapters: Adapters | None = None) -> None:
        self.denoiser, self.adapters = denoiser, adapters
        self.evaluations = self.differentiated = 0
        self._rows: Rows | None = None
        self._stacked: dict[Hashable, Condition] = {}
        self._prompt_digests: dict[Hashable, list[bytes]] = {}

    def __call__(
        self, queries: Mapping[str, Query], rows: Rows, touch: Touch | None = None
    ) -> dict[str, Tensor]:
        """Predictions [R, C, h, w] by query name.

        Queries on a leaf (or under a condition that gradients are wanted for) are computed with a graph, after the
        others. Under a touch nothing is looked up or merged: every query has rows of its own.
        """
        if rows is not self._rows:
            self._rows, self._stacked, self._prompt_digests = rows, {}, {}
        for query in queries.values():
            self._check(query)
        wanted = {name: self._blocks(query) for name, query in queries.items()}
        graph = [name for name, query in queries.items() if _wants_graph(query)]
        plain = [name for name in queries if name not in graph]
        found: dict[_Block, Tensor] = {}
        for names in (plain, graph):
            if not names:
                continue
            if touch is not None:
                found |= self._touched(
                    {name: wanted[name] for name in names}, rows, touch, graph=names is graph
                )
            else:
                blocks = [block for name in names for block in wanted[name]]
                found |= self._merged(blocks, rows, graph=names is graph)
        # Leaves need their graph through guidance, too.
        with torch.set_grad_enabled(bool(graph)):
            return {name: _guided([found[b] for b in wanted[name]], q) for name, q in queries.items()}

    def _check(self, query: Query) -> None:
        known = self.adapters.names if self.adapters else ()
        if query.adapter is not None and query.adapter not in known:
            raise UnknownName("adapter", query.adapter, known, "A rule declares its adapters.")
        if query.model is not None and query.model not in self.denoiser.beside:
            raise UnknownName("model beside the main one", query.model, self.denoiser.beside)

    def _blocks(self, query: Query) -> list[_Block]:
        """The rows a query is made of: [conditional], [negative, conditional], or with a pair of scales three."""
        only = _Block(query.noisy, query.prompt, query.adapter, query.model)
        guidance = query.guidance
        if isinstance(guidance, tuple):
            blind = replace(only, prompt="null", image=False)
            return [blind, replace(only, prompt=query.negative), only]
        denoiser = self.denoiser if query.model is None else self.denoiser.beside[query.model]
        if denoiser.distilled_guidance:
            # All rows of a call have a scale or none has; without one the network is given 1.
            return [replace(only, scale=1.0 if guidance is None else guidance)]
        # Guidance 1 is the conditional prediction.
        if guidance in (None, 1) or query.prompt == query.negative:
            return [only]
        return [replace(only, prompt=query.negative), only]

    def _merged(self, blocks: Sequence[_Block], rows: Rows, graph: bool) -> dict[_Block, Tensor]:
        """Predictions by block; equal blocks are computed once."""
        unique = {block.key: block for block in blocks}
        known: dict[Hashable, Tensor] = {}
        if self.denoiser.kept is not None and not graph:
            for key, block in unique.items():
                if block.noisy.of == "source" and block.adapter is None and block.model is None:
                    known[key] = self._shared(block, rows)
        for model in dict.fromkeys(block.model for block in unique.values()):
            rest = [b for key, b in unique.items() if key not in known and b.model == model]
            # Rows with adapters come last, so that the adapters apply to one contiguous range.
            rest.sort(key=lambda block: block.adapter is not None)
            if rest:
                made = self._predict(rest, rows, graph)
                known.update(zip([block.key for block in rest], made, strict=True))
        return {block: known[block.key] for block in blocks}

    def _touched(
        self, wanted: Mapping[str, Sequence[_Block]], rows: Rows, touch: Touch, graph: bool
    ) -> dict[_Block, Tensor]:
        """Predictions by block, each query's under its name to the touch."""
        named: list[tuple[str, _Block]] = []
        for name, blocks in wanted.items():
            *others, conditional = blocks
            labels = ["null"] if len(others) == 1 else ["blind", "null"]
            named += [(f"{name}/{label}", block) for label, block in zip(labels, others, strict=False)]
            named.append((name, conditional))
        named.sort(key=lambda pair: pair[1].adapter is not None)
        names, blocks = [name for name, _ in named], [block for _, block in named]
        made = self._predict(blocks, rows, graph, [TouchedRows(touch, names)])
        return dict(zip(blocks, made, strict=True))

    def _shared(self, block: _Block, rows: Rows) -> Tensor:
        """The predictions of a block from those kept, or computed and kept.

        The key is everything the network is given; the network itself is that of the denoiser that keeps them.
        """
        kept = self.denoiser.kept
        assert kept is not None
        prompt = block.prompt, block.image, block.scale
        if prompt not in self._prompt_digests:
            self._prompt_digests[prompt] = self._condition(block, rows).digests()
        noisy = block.noisy
        given = zip(row_digests(noisy.latents), noisy.t.tolist(), self._prompt_digests[prompt], strict=True)
        keys = [digest(b"prediction", latents, b"%d" % t, words) for latents, t, words in given]
        if (found := kept.get(keys, noisy.latents)) is not None:
            self.evaluations += 1
            return found
        (prediction,) = self._predict([block], rows, graph=False)
        kept.put(keys, prediction)
        return prediction

    def _condition(self, block: _Block, rows: Rows) -> Condition:
        condition = rows.condition(block.prompt, image=block.image, model=block.model)
        if block.scale is None:
            return condition
        return replace(condition, scale=condition.text.new_full((len(condition),), block.scale))

    def _predict(
        self, blocks: Sequence[_Block], rows: Rows, graph: bool, touches: Sequence[RowEffect] = ()
    ) -> tuple[Tensor, ...]:
        effects = [*touches, *self._adapters(blocks, rows)]
        model = blocks[0].model
        denoiser = self.denoiser if model is None else self.denoiser.beside[model]
        with torch.set_grad_enabled(graph):
            noisy = torch.cat([block.noisy.latents for block in blocks])
            t = torch.cat([block.noisy.t for block in blocks])
            output = denoiser.predict_noise(noisy, t, self._stack(blocks, rows), effects).chunk(len(blocks))
        self.evaluations += len(blocks)
        self.differentiated += len(blocks) * graph
        return output

    def _stack(self, blocks: Sequence[_Block], rows: Rows) -> Condition:
        """The conditions of several blocks, kept while the rows stay."""
        key = tuple((block.prompt, block.model, block.image, block.scale) for block in blocks)
        if key in self._stacked:
            return self._stacked[key]
        stacked = Condition.cat([self._condition(block, rows) for block in blocks])
        if all(isinstance(block.prompt, str) for block in blocks):
            self._stacked[key] = stacked
        return stacked

    def _adapters(self, blocks: Sequence[_Block], rows: Rows) -> Sequence[RowEffect]:
        """The adapters of the last blocks; a depth ControlNet sees the picture that their latents were made of."""
        adapted = [block for block in blocks if block.adapter is not None]
        if not adapted or self.adapters is None:
            return ()
        depths = [depth for block in adapted if (depth := rows.depth[block.noisy.of]) is not None]
        return self.adapters.active(
            [block.adapter for block in adapted if block.adapter is not None],
            torch.cat(depths) if depths else None,
            start=(len(blocks) - len(adapted)) * len(blocks[0].noisy.latents),
        )


def _wants_graph(query: Query) -> bool:
    learnt = isinstance(query.prompt, Condition) and query.prompt.requires_grad
    return query.noisy.latents.requires_grad or learnt


def _guided(predictions: Sequence[Tensor], query: Query) -> Tensor:
    """One prediction of a query's blocks."""
    if len(predictions) == 1:
        return predictions[0]
    if isinstance(query.guidance, tuple):
        (text, image), (blind, null, conditional) = query.guidance, predictions
        return blind + image * (null - blind) + text * (conditional - null)
    null, conditional = predictions
    assert isinstance(query.guidance, (int, float))
    return null + query.guidance * (conditional - null)
