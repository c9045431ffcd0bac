"""CLIPScore as torchmetrics computes it: transformers' CLIP, scale 0 to 100, never below 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from piva_bench.errors import ModelError
from piva_bench.metrics.protocol import Pixels

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipScore(nn.Module):
    """A CLIP of the transformers library behind CLIPScore.

    Args:
        model: the network.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        vision = model.config.vision_config
        self.size = int(vision.image_size)
        self.architecture = (
            f"CLIP depth {vision.num_hidden_layers} width {vision.hidden_size} patch {vision.patch_size} "
            f"input {vision.image_size}"
        )

    @classmethod
    def load(cls, folder: Path) -> ClipScore:
        """Reads a folder in transformers' format, safetensors only.

        Raises:
            ModelError: a file is missing or torn.
        """
        # Without its files transformers makes an empty tokenizer and says nothing.
        if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
            raise ModelError(f"{folder} holds no tokenizer (tokenizer.json, or vocab.json and merges.txt).")
        try:
            model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers and safetensors raise a dozen types here
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"{folder} holds no CLIP that can be read: {reason}") from error
        return cls(model.float(), tokenizer)

    def preprocess(self, picture: Pixels) -> Tensor:
        """CLIP's own preprocessing of a uint8 picture [H, W, 3]: short side to size, bicubic, centre crop."""
        image = Image.fromarray(picture)
        width, height = image.size
        short = min(width, height)
        image = image.resize(
            (int(self.size * width / short), int(self.size * height / short)), Image.Resampling.BICUBIC
        )
        left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
        image = image.crop((left, top, left + self.size, top + self.size))
        values = (np.asarray(image, dtype=np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)

    @torch.inference_mode()
    def score(self, picture: Pixels, text: str) -> float:
        """100 max(cos, 0) of a picture and a text.

        A text longer than the model's context is cut without its end-of-text token, as torchmetrics does.
        """
        tokens = self.tokenizer(text, return_tensors="pt")
        length = self.model.config.text_config.max_position_embeddings
        ids, mask = tokens["input_ids"][:, :length], tokens["attention_mask"][:, :length]
        image = _vector(self.model.get_image_features(self.preprocess(picture)[None]))
        words = _vector(self.model.get_text_features(ids, mask))
        return max(100 * float(torch.cosine_similarity(image, words)[0]), 0.0)


def _vector(features: object) -> Tensor:
    """The embedding, which newer versions of transformers wrap into an output object."""
    return features if isinstance(features, Tensor) else features.pooler_output  # type: ignore[attr-defined]
