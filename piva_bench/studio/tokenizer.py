"""The studio's own vocabulary as a ``CLIPTokenizer``: every word of the captions is one token."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from piva_bench.studio.captions import training_caption
from piva_bench.studio.scene import random_scene

MAX_LENGTH = 48
"""Tokens of a prompt; the longest caption of the studio has about 45 with start and end."""
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(out: Path) -> CLIPTokenizer:
    """Learn byte-pair merges until every caption word is whole, and save the tokenizer's files to ``out``.

    Single bytes stay in the vocabulary, so any text has tokens, if not a meaning.
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
    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = CLIPTokenizer(
        vocab=str(out / "vocab.json"), merges=str(out / "merges.txt"), model_max_length=MAX_LENGTH,
        bos_token=START, eos_token=END, unk_token=END, pad_token=END,
    )  # fmt: skip
    tokenizer.save_pretrained(out)
    return tokenizer
