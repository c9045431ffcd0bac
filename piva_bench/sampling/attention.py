"""Attention swapped between two branches, and edits kept to what attends to their words (arXiv 2208.01626)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from piva_bench.diffusion.touch import Features, Site
from piva_bench.sampling.words import align, find
from piva_bench.session.session import Session


class AttentionSwap:
    """Gives the query "target" the attention probabilities of the query "source".

    Args:
        session: of the edits.
        most: self attention is swapped where there are no more tokens than this.
    """

    def __init__(self, session: Session, most: int) -> None:
        self._session, self._most = session, most
        self._maps: tuple[Tensor, Tensor] | None = None

    def __call__(self, site: Site, rows: Mapping[str, Features], *, cross: bool, own: bool) -> None:
        """At one site: cross attention for words that both prompts share, self attention as a whole."""
        if site.side != "in":
            return
        source, target = rows["source"], rows["target"]
        if site.kind == "self" and own and source.q.shape[2] <= self._most:
            target.probabilities = source.probabilities
        if site.kind == "cross" and cross:
            if self._maps is None:
                self._maps = align(self._session, source.k.shape[2])
            maps, shared = self._maps
            theirs = torch.einsum("rhnm,rmk->rhnk", source.probabilities, maps.to(source.q.dtype))
            shared = shared[:, None, None].to(source.q.dtype)
            target.probabilities = shared * theirs + (1 - shared) * target.probabilities


class LocalBlend:
    """Where either branch attends to the blended words, from all cross attention seen so far.

    Rows without blended words are blended nowhere: their mask is 1 everywhere.

    Args:
        session: of the edits.
        most: the finest attention that has no more tokens than this is looked at.
    """

    def __init__(self, session: Session, most: int) -> None:
        self._session, self._most = session, most
        self._words: dict[str, Tensor] = {}
        self._seen: dict[int, dict[str, Tensor]] = {}

    def look(self, site: Site, rows: Mapping[str, Features]) -> None:
        """Adds one site's attention to the maps."""
        if (site.kind, site.side) != ("cross", "in"):
            return
        for name in ("source", "target"):
            features = rows[name]
            if (tokens := features.q.shape[2]) > self._most:
                continue
            if name not in self._words:
                self._words[name] = self._find(name, features.k.shape[2])
            heat = torch.einsum("rhnm,rm->rn", features.probabilities.float(), self._words[name])
            maps = self._seen.setdefault(tokens, {})
            maps[name] = maps.get(name, 0) + heat

    def mask(self, threshold: float) -> Tensor:
        """[R, 1, h, w] 1 where the edit may be."""
        maps = self._seen[max(self._seen)]
        height, width = self._session.latents.shape[-2:]
        mask = torch.zeros(len(self._session.names), 1, height, width, device=self._session.latents.device)
        for name, heat in maps.items():
            shrunk = (height * width // heat.shape[1]) ** 0.5
            grid = max_pool2d(heat.view(len(heat), 1, round(height / shrunk), -1), 3, stride=1, padding=1)
            grid = interpolate(grid, (height, width))
            share = grid / grid.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
            known = self._words[name].any(dim=1).view(-1, 1, 1, 1)
            mask = torch.maximum(mask, ((share > threshold) | ~known).to(mask.dtype))
        return mask

    def _find(self, name: str, length: int) -> Tensor:
        session, side = self._session, 0 if name == "source" else 1
        prompts = session.source_prompts if name == "source" else session.target_prompts
        rows = zip(prompts, session.blended_words, strict=True)
        return torch.stack(
            [find(session, text, [pair[side] for pair in pairs], length) for text, pairs in rows]
        )
