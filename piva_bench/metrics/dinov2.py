"""DINO-I: how alike DINOv2 finds two pictures, by the mean of its tokens (Nelipot-Lee/VoxHammer, image_metrics.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Dinov2Model

from piva_bench.errors import ModelError
from piva_bench.metrics.protocol import Pixels

SHORT, CROP = 256, 224
"""Side that a picture is scaled to, and of the square that is cut out of its middle: preprocessor_config.json of
facebook/dinov2-base."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Dinov2(nn.Module):
    """A DINOv2 of the transformers library.

    Args:
        model: the network.
    """

    def __init__(self, model: Dinov2Model) -> None:
        super().__init__()
        self.model = model.float().eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> Dinov2:
        """Reads a folder in transformers' format, safetensors only.

        Raises:
            ModelError: a file is missing or torn.
        """
        try:
            return cls(Dinov2Model.from_pretrained(folder, use_safetensors=True, local_files_only=True))
        except Exception as error:  # transformers and safetensors raise a dozen types here
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"{folder} holds no DINOv2 that can be read: {reason}") from error

    @torch.inference_mode()
    def similarities(self, first: Sequence[Pixels], second: Sequence[Pixels]) -> list[float]:
        """Cosines of uint8 pictures [H, W, 3] two by two."""
        found = []
        for pair in zip(first, second, strict=True):
            one, other = self._mean_tokens(pair)
            found.append(float(torch.cosine_similarity(one, other, dim=0)))
        return found

    def _mean_tokens(self, pictures: Sequence[Pixels]) -> Tensor:
        """Mean over the last layer's tokens, the class token among them, [N, D]."""
        batch = torch.stack([_prepared(picture) for picture in pictures])
        return self.model(pixel_values=batch).last_hidden_state.mean(dim=1)


def _prepared(picture: Pixels) -> Tensor:
    image = Image.fromarray(picture)
    scale = SHORT / min(image.size)
    size = (int(image.width * scale), int(image.height * scale))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
    image = image.crop((left, top, left + CROP, top + CROP))
    values = (np.asarray(image, np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)
