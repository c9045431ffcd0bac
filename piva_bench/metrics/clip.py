"""A small CLIP: an open_clip model with open_clip's tokenizer on a compacted vocabulary.

The folder is in open_clip's own form: ``open_clip_model.safetensors`` (fp16) and ``open_clip_config.json``
with ``model_cfg`` and ``preprocess_cfg``. One thing is added: ``model_cfg.text_cfg.vocab_size`` counts only
the tokens that the training captions use, and ``token_ids`` lists them. The full table of 49,408 tokens would
be 95 % of the file and never trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from piva_bench.errors import ModelError

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
PAD, UNKNOWN = 0, 1


class CompactTokenizer:
    """open_clip's byte-pair tokenizer, its token numbers mapped onto the few that are in use.

    Row 0 is padding, row 1 stands for every token not in ``token_ids``, then the tokens in order. The order
    keeps the end-of-text token the greatest, which is how open_clip finds the end of a caption.

    Args:
        token_ids: numbers in the full vocabulary, with start- and end-of-text; made by :meth:`tokens_of`.
        context_length: tokens per caption; longer ones are cut, keeping the end-of-text token.
    """

    def __init__(self, token_ids: Sequence[int], context_length: int) -> None:
        self.token_ids = tuple(sorted(set(token_ids)))
        self._full = SimpleTokenizer(context_length=context_length)
        self._row = torch.full((self._full.vocab_size,), UNKNOWN)
        self._row[list(self.token_ids)] = torch.arange(len(self.token_ids)) + UNKNOWN + 1
        self._row[PAD] = PAD

    @staticmethod
    def tokens_of(texts: Iterable[str]) -> list[int]:
        """Every token that the texts use, with start- and end-of-text."""
        full = SimpleTokenizer()
        # The byte-pair encoding never spans a space, so each distinct word needs encoding only once.
        words = {word for text in texts for word in text.split()}
        used = {token for word in words for token in full.encode(word)}
        return sorted(used | {full.sot_token_id, full.eot_token_id})

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return len(self.token_ids) + UNKNOWN + 1

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token rows, int64 [N, context_length]."""
        return self._row[self._full(list(texts))]


def fp32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state as it is computed with: floating point widened to fp32, counters as they are."""
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


class SmallClip(torch.nn.Module):
    """An open_clip model with its tokenizer and preprocessing.

    Args:
        config: the content of ``open_clip_config.json``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.model = CLIP(**config["model_cfg"])
        self.tokenizer = CompactTokenizer(config["token_ids"], self.model.context_length)
        preprocess = config["preprocess_cfg"]
        self.size: int = preprocess["size"]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(preprocess["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess["std"]).view(3, 1, 1), persistent=False)

    def preprocess(self, images: np.ndarray | Sequence[np.ndarray]) -> Tensor:
        """uint8 pictures [N, H, W, 3] as float [N, 3, size, size] in [0, 1], area-resized, not normalised."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = F.interpolate(pixels, (self.size, self.size), mode="area")
        return pixels

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """Unit embeddings [N, D] of float pictures in [0, 1], [N, 3, size, size]."""
        return self.model.encode_image((pixels - self.mean) / self.std, normalize=True)

    @torch.inference_mode()
    def encode_images(self, images: np.ndarray | Sequence[np.ndarray]) -> Tensor:
        """Unit embeddings [N, D] of uint8 pictures [N, H, W, 3]."""
        return self.embed_pixels(self.preprocess(images))

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings [N, D] of texts."""
        return self.model.encode_text(self.tokenizer(texts), normalize=True)

    def save(self, directory: Path, report: Mapping[str, Any]) -> None:
        """Write weights (fp16) and configuration, with a report of the training beside it."""
        directory.mkdir(parents=True, exist_ok=True)
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.model.state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, directory / WEIGHTS)
        (directory / CONFIG).write_text(json.dumps({**self.config, **report}, indent=1) + "\n")

    @classmethod
    def load(cls, directory: Path) -> SmallClip:
        """Read a saved model, ready to encode (fp32, evaluation mode).

        Raises:
            ModelError: a file is missing or does not fit the configuration.
        """
        try:
            clip = cls(json.loads((directory / CONFIG).read_text()))
            clip.model.load_state_dict(fp32(load_file(directory / WEIGHTS)))
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"no usable CLIP in {directory}: {reason}") from error
        return clip.eval()
