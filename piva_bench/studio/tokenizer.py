"""The studio's own vocabulary as a ``CLIPTokenizer``: every word of the captions is one token."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from piva_bench.studio.captions import training_caption
from piva_bench.studio.scene import random_scene

MAX_LENGTH = 48
"""Tokens of a prompt; the longest caption of the studio has about 45 with start and end."""
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(out: Path, more: Iterable[str] = ()) -> CLIPTokenizer:
    """Learn byte-pair merges until every caption word is whole, and save the tokenizer's files to ``out``.

    Single bytes stay in the vocabulary, so any text has tokens, if not a meaning.

    Args:
        out: folder.
        more: texts whose words are to be whole, too. Their tokens come after all others, whose numbers stay.
    """
    rng = random.Random("studio-tokenizer")
    captions = [training_caption(random_scene(rng), rng) for _ in range(20_000)]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=30_000,
        min_frequency=1,
        end_of_word_suffix="</w>",
        initial_alphabet=letters,
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    learned = json.loads(bpe.to_str())["model"]["merges"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in learned]
    # CLIP's own order: bytes, bytes that end a word, merges, then the two marks.
    words = sorted(letters)
    words += [f"{w}</w>" for w in words]
    words += [a + b for a, b in merges]
    vocabulary = {word: n for n, word in enumerate([*dict.fromkeys(words), START, END])}
    for word in sorted({word for text in more for word in re.findall(r"[a-z]+", text.lower())}):
        for pair in _joins(word, merges):
            merges.append(pair)
            vocabulary.setdefault("".join(pair), len(vocabulary))
    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = CLIPTokenizer(
        vocab=str(out / "vocab.json"), merges=str(out / "merges.txt"), model_max_length=MAX_LENGTH,
        bos_token=START, eos_token=END, unk_token=END, pad_token=END,
    )  # fmt: skip
    tokenizer.save_pretrained(out)
    return tokenizer


def _joins(word: str, merges: Sequence[tuple[str, ...]]) -> list[tuple[str, str]]:
    """The merges that make a word whole, from left to right, when all merges known so far have been made."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    while len(pieces) > 1:
        rank, place = min((ranks.get(pair, len(ranks)), n) for n, pair in enumerate(pairwise(pieces)))
        if rank == len(ranks):
            break
        pieces[place : place + 2] = ["".join(pieces[place : place + 2])]
    joins = []
    while len(pieces) > 1:
        joins.append((pieces[0], pieces[1]))
        pieces[:2] = ["".join(pieces[:2])]
    return joins
