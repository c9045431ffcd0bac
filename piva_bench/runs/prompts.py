"""How much of a prompt a model's text encoder reads. What is longer is cut without a word by every pipeline."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piva_bench.data.fields import short
from piva_bench.data.sample import Sample, UnreadableSample

SHOWN = 5
"""Cut prompts that are named, at most."""


T5_LENGTHS = {"StableDiffusion3Pipeline": 256, "FluxPipeline": 512}
"""Tokens that diffusers' pipelines have T5 read: their ``max_sequence_length``."""

FEWEST_WORDS = 20
"""A tokenizer that knows fewer words spells them all."""


@dataclass(frozen=True)
class PromptReader:
    """A text encoder's tokenizer, and the number of tokens that it reads, those of beginning and end included."""

    tokenizer: Any
    length: int

    @classmethod
    def of_model(cls, path: Path) -> PromptReader | None:
        """That of a folder or single file, without loading the model; of several text encoders the one that reads most.

        None where there is none that can be read: whoever loads the model is told what is missing.
        """
        from piva_bench.diffusion import single_file

        try:
            folder = single_file.config_folder(path) if path.is_file() else path
            parts = [
                part
                for part in ("", "_2", "_3")
                if (folder / f"text_encoder{part}" / "config.json").is_file()
            ]
            return max((cls._of_part(folder, part) for part in parts), key=lambda reader: reader.length)
        except Exception:  # what transformers meets in a torn tokenizer is of a dozen types
            return None

    @classmethod
    def _of_part(cls, folder: Path, part: str) -> PromptReader:
        from transformers import AutoTokenizer, CLIPTokenizer

        config = json.loads((folder / f"text_encoder{part}" / "config.json").read_bytes())
        place = folder / f"tokenizer{part}"
        if config.get("model_type") == "t5":
            pipeline = json.loads((folder / "model_index.json").read_bytes())["_class_name"]
            return cls(AutoTokenizer.from_pretrained(place, local_files_only=True), T5_LENGTHS[pipeline])
        tokenizer = CLIPTokenizer.from_pretrained(place, local_files_only=True)
        return cls(tokenizer, min(tokenizer.model_max_length, int(config["max_position_embeddings"])))

    def tokens(self, prompt: str) -> list[int]:
        """All tokens of a prompt, with those of beginning and end."""
        return list(self.tokenizer(prompt, verbose=False).input_ids)

    def cut_off(self, prompt: str) -> str:
        """The end of a prompt that is not read, as the tokenizer spells it; empty if all of it is read."""
        tokens = self.tokens(prompt)
        # The last token that is read marks the end.
        return (
            str(self.tokenizer.decode(tokens[self.length - 1 : -1])).strip()
            if len(tokens) > self.length
            else ""
        )

    def spelled(self, prompt: str) -> list[str]:
        """Words of a prompt that the vocabulary lacks: the tokenizer splits them into letters."""
        whole = [word for word in self.tokenizer.get_vocab() if len(word.removesuffix("</w>")) > 2]
        if len(whole) < FEWEST_WORDS:
            return []  # a vocabulary of letters: nothing can be said
        words = dict.fromkeys(re.findall(r"[A-Za-z]{3,}", prompt))
        return [word for word in words if len(self.tokenizer.tokenize(word)) > max(2, len(word) / 2)]

    def alike(self, source: str, target: str) -> bool:
        """Whether two prompts differ only in what is cut off."""
        one, other = self.tokens(source), self.tokens(target)
        kept = self.length - 1
        return one != other and max(len(one), len(other)) > self.length and one[:kept] == other[:kept]


def cut_notes(samples: Iterable[Sample], reader: PromptReader) -> list[str]:
    """A line for each of the first prompts that are not read to their end, and one for the others."""
    lines = list(_cut_lines(samples, reader))
    more = [f"{len(lines) - SHOWN} more prompts are cut"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def cut_line(what: str, prompt: str, reader: PromptReader) -> str | None:
    """What is cut off a prompt, in one line; None if nothing is."""
    cut = reader.cut_off(prompt)
    return (
        f"{what} is longer than the {reader.length} tokens the model reads: {short(cut)} is cut off"
        if cut
        else None
    )


def unknown_line(what: str, prompt: str, reader: PromptReader) -> str | None:
    """Which words of a prompt the model does not know, in one line; None if it knows all."""
    words = reader.spelled(prompt)
    return (
        f"{what}: the model does not know {', '.join(map(short, words))} and reads letters" if words else None
    )


def same_fault(source: str, target: str, reader: PromptReader) -> str | None:
    """Why two prompts ask for nothing as the model reads them; None if they do not."""
    if not reader.alike(source, target):
        return None
    return (
        f"source and target prompt differ only beyond the {reader.length} tokens the model reads (target: "
        f"{short(reader.cut_off(target))} is cut off): shorten them, or say first what changes"
    )


def marked(samples: Iterable[Sample], reader: PromptReader) -> list[Sample]:
    """The samples, with an `UnreadableSample` in place of each whose prompts differ only in what is cut off."""
    return [_marked(sample, reader) for sample in samples]


def _marked(sample: Sample, reader: PromptReader) -> Sample:
    fault = next((fault for pair in sample.prompt_pairs() if (fault := same_fault(*pair, reader))), None)
    if fault is None or isinstance(sample, UnreadableSample):
        return sample
    return UnreadableSample.instead_of(sample, f"sample {short(sample.id)}: {fault}")


def _cut_lines(samples: Iterable[Sample], reader: PromptReader) -> Iterator[str]:
    for sample in samples:
        for name, prompt in zip(("source", "target"), sample.prompt_pairs()[0], strict=True):
            if line := cut_line(f"sample {short(sample.id)}: the {name} prompt", prompt, reader):
                yield line
