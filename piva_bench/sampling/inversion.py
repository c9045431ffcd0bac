"""From a picture to the noise that samples it again, and what keeps the way back from drifting.

An editor of two branches starts both from the noise that DDIM's inversion leads to, and hopes that the source's branch
comes back to the source. Under guidance it does not; the inversions here differ in what they do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from piva_bench.session.query import Prompt, Query
from piva_bench.session.session import Session

InversionName = Literal["ddim", "negative_prompt", "null_text", "direct"]

INNER_STEPS = 10
"""Steps of Adam for each timestep of null-text inversion (cure-lab/PnPInversion @ 07f97f4, models/p2p/inversion.py)."""


def ddim_inversion(
    session: Session, grid: list[int], prompt: Prompt = "source", guidance: float | None = None
) -> list[Tensor]:
    """DDIM run backwards from the source (arXiv 2010.02502, section 4.3; PnPInversion models/p2p/inversion.py).

    Each step takes the prediction at the latents it leaves for that at the timestep it goes to. Where the denoiser
    keeps results, editors that invert the same source under the same prompt on the same grid compute it once.

    Args:
        session: of the edits.
        grid: timesteps from the noisiest down, as ``Schedule.grid`` gives them.
        prompt: under which the source is inverted.
        guidance: of the predictions; None as in most methods, because guided inversions drift.

    Returns:
        The latents [R, C, h, w] at each timestep of the grid, in the grid's order.
    """
    latents, t = session.source_latents, None
    way: list[Tensor] = []
    for to in reversed(grid):
        noisy = session.at("source", latents, to)
        eps = session.predict({"source": Query(noisy, prompt, guidance)})["source"]
        latents, t = session.schedule.ddim(latents, eps, t, to), to
        way.append(latents)
    return way[::-1]


@dataclass(frozen=True)
class Inversion:
    """A source's way to noise, and how an editor comes back along it.

    Attributes:
        way: the source's latents [R, C, h, w] at each timestep of the grid, and last the source itself.
        negatives: for each timestep what guidance leads away from, in all branches.
        exact: whether the source's branch is put back on the way after every step.
    """

    way: Sequence[Tensor]
    negatives: Sequence[Prompt]
    exact: bool

    def source(self, index: int, moved: Tensor) -> Tensor:
        """The source's branch after step ``index``, where sampling has moved it to ``moved``."""
        return self.way[index + 1] if self.exact else moved


def invert(
    session: Session, grid: list[int], name: InversionName, guidance: float, prompt: Prompt = "source"
) -> Inversion:
    """The source's inversion under a prompt; the way is DDIM's, without guidance, in all of them.

    - ``ddim``: nothing is done; the source's branch drifts as far as guidance carries it.
    - ``negative_prompt`` (arXiv 2305.16807): guidance leads away from the source's own prompt, so the source's branch
      is the inversion's prediction again.
    - ``null_text`` (arXiv 2211.09794): the empty prompt's embeddings are learnt for each timestep, see ``null_texts``.
    - ``direct`` (PnP inversion, arXiv 2310.01506): the source's branch is put back on the way after every step.

    Args:
        session: of the edits; of a method that ``differentiates`` for ``null_text``.
        grid: timesteps from the noisiest down.
        name: which.
        guidance: w of the editor's source branch, which null texts are learnt for.
        prompt: of the source's branch.
    """
    way = [*ddim_inversion(session, grid, prompt), session.source_latents]
    negatives: Sequence[Prompt] = [prompt if name == "negative_prompt" else "null"] * len(grid)
    if name == "null_text":
        negatives = null_texts(session, grid, way, guidance, prompt)
    return Inversion(way, negatives, exact=name == "direct")


def null_texts(
    session: Session, grid: list[int], way: Sequence[Tensor], guidance: float, prompt: Prompt
) -> list[Prompt]:
    """Null-text inversion: for each timestep the embedding for "" under which guidance keeps to the way.

    min over e_t of mean (ddim(x_t, e_t + w (eps(x_t, c) - e_t)) - way_(t-1))^2 by Adam, e from the timestep before;
    the rate, the number of steps and where a row stops early are the official code's. A row that has stopped stays
    as it is while others go on.
    """
    null = session.condition("null")
    latents, learnt = way[0], list[Prompt]()
    for index, (t, to) in enumerate(session.schedule.moves(grid)):
        noisy = session.at("source", latents, t)
        conditional = session.predict({"source": Query(noisy, prompt)})["source"]
        text = null.text.clone()
        optimizer = torch.optim.Adam([text.requires_grad_()], lr=1e-2 * (1 - index / 100))
        open_rows = torch.ones(len(text), 1, 1, dtype=torch.bool, device=text.device)
        for _ in range(INNER_STEPS):
            before = text.detach().clone()
            empty = session.predict({"null": Query(noisy, replace(null, text=text))})["null"]
            with torch.enable_grad():
                eps = empty + guidance * (conditional - empty)
                distance = session.schedule.ddim(latents, eps, t, to) - way[index + 1]
                loss = distance.square().flatten(1).mean(dim=1)
                (text.grad,) = torch.autograd.grad(loss.sum(), text)
            optimizer.step()
            text.data = torch.where(open_rows, text.data, before)
            open_rows = open_rows & (loss.detach() >= 1e-5 + 2e-5 * index).view(-1, 1, 1)
            if not bool(open_rows.any()):
                break
        null = replace(null, text=text.detach())
        eps = session.predict({"source": Query(noisy, prompt, guidance, negative=null)})["source"]
        latents = session.schedule.ddim(latents, eps, t, to)
        learnt.append(null)
    return learnt
