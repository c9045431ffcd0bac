"""Attention swapped between two branches, and edits kept to what attends to their words (arXiv 2208.01626)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d, pad

from piva_bench.diffusion.touch import Features, Site
from piva_bench.sampling.words import align, blended_tokens
from piva_bench.session.session import Session


class AttentionSwap:
    """Gives the query "target" the attention probabilities of the query "source".

    Args:
        session: of the edits.
        most: self attention is swapped where there are no more tokens than this.
        swapped: whether words that stand in each other's place share attention; see ``align``.
        reweight: factor on the attention to the target's blended words, while cross attention is the source's. It is
            not normalised again, as in the official code.
    """

    def __init__(self, session: Session, most: int, *, swapped: bool, reweight: float) -> None:
        self._session, self._most, self._swapped, self._reweight = session, most, swapped, reweight
        self._maps: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, site: Site, rows: Mapping[str, Features], *, cross: bool, own: bool) -> None:
        """At one site: cross attention for words that both prompts share, self attention as a whole."""
        if site.side != "in":
            return
        source, target = rows["source"], rows["target"]
        if site.kind == "self" and own and source.q.shape[2] <= self._most:
            target.probabilities = source.probabilities
        if site.kind == "cross" and cross:
            maps, shared, factors = (one.to(source.q.dtype) for one in self._found(source.k.shape[2]))
            theirs = torch.einsum("rhnm,rmk->rhnk", source.probabilities, maps)
            shared, factors = shared[:, None, None], factors[:, None, None]
            target.probabilities = (shared * theirs + (1 - shared) * target.probabilities) * factors

    def _found(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """What corresponds to what [R, source, target], what is shared [R, target], and factors [R, target]."""
        if self._maps is None:
            words = blended_tokens(self._session, "target", length)
            maps = align(self._session, length, swapped=self._swapped)
            self._maps = *maps, 1 + (self._reweight - 1) * words
        return self._maps


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
        names: tuple[Literal["source", "target"], ...] = ("source", "target")
        for name in names:
            features = rows[name]
            if (tokens := features.q.shape[2]) > self._most:
                continue
            if name not in self._words:
                self._words[name] = blended_tokens(self._session, name, features.k.shape[2])
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


class PromptHeat:
    """How much each place attends to the words of the target prompt, in one call (LEDITS++, arXiv 2311.16711, eq. 10).

    Cross attention of the finest layers with no more places than 16 x 16, averaged over layers and heads, summed over
    the prompt's tokens, and smoothed by a 3 x 3 Gaussian as in the official code.

    Args:
        session: of the edits.
    """

    _MOST = 256

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[int, list[Tensor]] = {}

    def look(self, site: Site, features: Features) -> None:
        """Adds one site's attention."""
        if (
            (site.kind, site.side) != ("cross", "in")
            or site.part == "mid"
            or features.q.shape[2] > self._MOST
        ):
            return
        words = torch.zeros(len(features.q), features.k.shape[2], device=features.q.device)
        for row, prompt in zip(words, self._session.target_prompts, strict=True):
            row[1 : len(self._session.token_ids(prompt)) - 1] = 1
        heat = torch.einsum("rhnm,rm->rn", features.probabilities.float(), words) / features.q.shape[1]
        self._seen.setdefault(heat.shape[1], []).append(heat)

    def mask(self, quantile: float) -> Tensor:
        """[R, 1, h, w] 1 where the heat is above this quantile of its picture."""
        session = self._session
        heat = torch.stack(self._seen[max(self._seen)]).mean(dim=0)
        height, width = session.latents.shape[-2:]
        rows = round(height / (height * width / heat.shape[1]) ** 0.5)
        grid = pad(heat.view(len(heat), 1, rows, -1), (1, 1, 1, 1), mode="reflect")
        side = torch.tensor([-1.0, 0.0, -1.0], device=heat.device).exp()
        kernel = side[:, None] * side / side.sum() ** 2
        return interpolate(above(conv2d(grid, kernel[None, None]), quantile), (height, width)).to(
            session.latents
        )


def above(values: Tensor, quantile: float) -> Tensor:
    """1 where values [R, 1, h, w] reach this quantile of their row, else 0."""
    bound = values.float().flatten(1).quantile(quantile, dim=1).view(-1, 1, 1, 1)
    return (values >= bound).to(values.dtype)
