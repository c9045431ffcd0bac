"""A head start for the embedded text encoder: reading scenes off captions, before it ever sees a picture.

Learned through the UNet alone, a small text encoder takes most of the training to find out which word belongs to
what ("a red cup next to a blue ball"). From captions alone it learns that in minutes: for every attribute of the
scene a query attends to the encoder's states, as the UNet's cross attention will, and must name the attribute.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piva_bench.studio.captions import Wording, caption
from piva_bench.studio.scene import Scene, training_scenes
from piva_bench.studio.timed_training import say, train_for
from piva_bench.studio.vocabulary import COLORS, HEADS, VIEWS

QUESTIONS: dict[str, tuple[str, ...]] = {**HEADS, "second_color": ("none", *COLORS), "view": tuple(VIEWS)}
BATCH = 64
LEARNING_RATE = 1e-3


def answers(scene: Scene) -> list[int]:
    """The class of every question about a scene."""
    truth = {**scene.attributes, "second_color": scene.second_color or "none", "view": scene.view}
    return [names.index(truth[question]) for question, names in QUESTIONS.items()]


class Reader(nn.Module):
    """A text encoder and, for every question, a query that attends to its states and a linear answer.

    Args:
        text: encoder with ``last_hidden_state`` [N, L, D].
        width: D.
    """

    def __init__(self, text: Any, width: int) -> None:
        super().__init__()
        self.text = text
        self.queries = nn.Parameter(torch.randn(len(QUESTIONS), width) / width**0.5)
        self.keys = nn.Linear(width, width)
        self.answers = nn.ModuleList(nn.Linear(width, len(names)) for names in QUESTIONS.values())

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Logits [N, classes] for every question, from token ids [N, L]."""
        states = self.text(tokens).last_hidden_state
        scores = torch.einsum("qd,nld->nql", self.queries, self.keys(states)) / states.shape[-1] ** 0.5
        read = torch.einsum("nql,nld->nqd", scores.softmax(-1), states)
        return [answer(read[:, n]) for n, answer in enumerate(self.answers)]


def train_text(
    text: Any, tokenizer: Any, length: int, checkpoint: Path, minutes: float, seed: int = 0
) -> dict[str, float]:
    """Teach ``text`` in place for ``minutes``; returns the share of right answers on new scenes.

    Only compositions that training pictures may show are read about.
    """
    scenes = training_scenes(seed + 1, 20_000, ())
    kept = scenes[:1000]
    labels = torch.tensor([answers(scene) for scene in scenes])
    reader = Reader(text, text.config.hidden_size)
    optimizer = torch.optim.AdamW(reader.parameters(), LEARNING_RATE, weight_decay=0.01)

    def tokens_of(rows: list[int], rng: random.Random) -> Tensor:
        texts = [caption(scenes[row], Wording.random(rng)) for row in rows]
        return torch.tensor(tokenizer(texts, padding="max_length", max_length=length)["input_ids"])

    def loss_at(step: int) -> Tensor:
        rng = random.Random(f"text-{seed}-{step}")
        rows = [rng.randrange(len(kept), len(scenes)) for _ in range(BATCH)]
        logits = reader(tokens_of(rows, rng))
        return torch.stack([F.cross_entropy(one, labels[rows, n]) for n, one in enumerate(logits)]).sum()

    train_for(
        minutes,
        model=reader,
        optimizer=optimizer,
        loss_at=loss_at,
        checkpoint=checkpoint,
        signature={"questions": str(QUESTIONS), "width": text.config.hidden_size, "seed": seed},
        resume=True,
    )
    with torch.inference_mode():
        logits = reader(tokens_of(list(range(len(kept))), random.Random("text-evaluation")))
    right = {
        q: (logits[n].argmax(1) == labels[: len(kept), n]).float().mean() for n, q in enumerate(QUESTIONS)
    }
    report = {question: round(float(share), 3) for question, share in right.items()}
    say(f"text encoder reads {report}")
    return report
