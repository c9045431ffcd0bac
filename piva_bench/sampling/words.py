"""Which token of one prompt is which of another."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

import torch
from torch import Tensor

from piva_bench.session.session import Session


def align(session: Session, length: int, *, swapped: bool) -> tuple[Tensor, Tensor]:
    """How the target prompt's tokens follow from the source prompt's, for every row.

    Equal tokens correspond, as in prompt-to-prompt's "refine"; what is new has no counterpart.

    Args:
        session: of the edits.
        length: tokens of the text encoder, padding included.
        swapped: whether runs of equal length that stand in each other's place (a word swapped for another) correspond
            as well: prompt-to-prompt's "replace".

    Returns:
        [R, source tokens, target tokens], 1 where they correspond; and [R, target tokens], 1 for those that do.
    """
    device = session.latents.device
    maps = torch.zeros(len(session.names), length, length, device=device)
    for row, (source, target) in enumerate(zip(session.source_prompts, session.target_prompts, strict=True)):
        before, after = session.token_ids(source), session.token_ids(target)
        for tag, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if tag == "equal" or (swapped and tag == "replace" and j - i == m - k):
                for offset in range(j - i):
                    maps[row, i + offset, k + offset] = 1
        # Padding corresponds to padding.
        for place in range(max(len(before), len(after)), length):
            maps[row, place, place] = 1
    return maps, maps.sum(dim=1)


def find(session: Session, prompt: str, words: Sequence[str], length: int) -> Tensor:
    """[length] 1 at the tokens of these words in a prompt."""
    found, tokens = torch.zeros(length, device=session.latents.device), session.token_ids(prompt)
    for word in words:
        ids = session.token_ids(word)[1:-1]
        for place in range(len(tokens) - len(ids) + 1 if ids else 0):
            if tokens[place : place + len(ids)] == ids:
                found[place : place + len(ids)] = 1
    return found


def blended_tokens(session: Session, branch: Literal["source", "target"], length: int) -> Tensor:
    """[R, length] 1 at the tokens of the words that each edit is about, in its source or target prompt."""
    side = 0 if branch == "source" else 1
    prompts = session.source_prompts if branch == "source" else session.target_prompts
    rows = zip(prompts, session.blended_words, strict=True)
    return torch.stack([find(session, text, [pair[side] for pair in pairs], length) for text, pairs in rows])
