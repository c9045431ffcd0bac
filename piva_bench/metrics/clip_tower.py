"""A CLIP in open_clip's own folder form: ``open_clip_config.json`` beside ``open_clip_model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from piva_bench.errors import ModelError
from piva_bench.metrics.protocol import Pixels
from piva_bench.metrics.weights import load_state

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
TOGETHER = 16
"""Pictures in one pass: a ViT-L/14 takes some 25 MB a picture, and a turntable has 120."""


class ClipTower(nn.Module):
    """An open_clip model with its preprocessing and OpenAI's tokenizer.

    Args:
        config: the content of ``open_clip_config.json``.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        model_cfg = dict(config["model_cfg"])
        if "hf_tokenizer_name" in model_cfg.get("text_cfg", {}):
            raise ModelError("its text tower needs a tokenizer from the hub; choose a CLIP with OpenAI's.")
        custom = model_cfg.pop("custom_text", False)
        self.model = (CustomTextCLIP if custom else CLIP)(**model_cfg)
        self.tokenizer = SimpleTokenizer(context_length=self.model.context_length)
        given = {"size": self.model.visual.image_size, **config.get("preprocess_cfg", {})}
        known = {name: value for name, value in given.items() if name in PreprocessCfg.__dataclass_fields__}
        self._transform = image_transform_v2(PreprocessCfg(**known), is_train=False)
        self.description = json.dumps({"model": model_cfg, "preprocess": known}, sort_keys=True, default=str)

    @classmethod
    def load(cls, folder: Path) -> ClipTower:
        """Reads a folder.

        Raises:
            ModelError: a file is missing, torn or another model's.
        """
        try:
            tower = cls(json.loads((folder / CONFIG).read_text()))
            state = load_state(folder / WEIGHTS)
            tower.model.load_state_dict(
                {name: v.float() if v.is_floating_point() else v for name, v in state.items()}
            )
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AssertionError, ModelError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"{folder} holds no open_clip model that can be read: {reason}") from error
        return tower.float().eval().requires_grad_(False)

    @torch.inference_mode()
    def encode_images(self, pictures: Sequence[Pixels]) -> Tensor:
        """Unit embeddings [N, D] of uint8 pictures [H, W, 3], with the model's own preprocessing."""
        parts = []
        for start in range(0, len(pictures), TOGETHER):
            few = [
                self._transform(Image.fromarray(picture)) for picture in pictures[start : start + TOGETHER]
            ]
            parts.append(self.model.encode_image(torch.stack(few), normalize=True))
        return torch.cat(parts)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings [N, D] of texts."""
        return self.model.encode_text(self.tokenizer(list(texts)), normalize=True)
