"""Small random models of the paper protocols' real classes, saved where the protocols look for them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torchvision
from open_clip.model import CLIP
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from tests.tiny_sd import make_tokenizer

OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 64},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.26, 0.27], "interpolation": "bicubic"},
}


def save_dino(folder: Path, size: int = 224) -> None:
    folder.mkdir(parents=True)
    vit = VisionTransformer(
        img_size=size, patch_size=8, embed_dim=64, depth=2, num_heads=1, num_classes=0, init_values=None
    )
    for value in vit.parameters():
        torch.nn.init.normal_(value, std=0.1)
    save_file(vit.state_dict(), folder / "model.safetensors")


def save_clip(folder: Path) -> None:
    tokenizer = make_tokenizer(folder)
    side = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **side, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**side, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def save_dinov2(folder: Path) -> None:
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder, safe_serialization=True)


def save_trunk(folder: Path, network: str) -> None:
    """A trunk with random weights under a name that promises no hash."""
    folder.mkdir(parents=True)
    more = {"init_weights": False} if network == "vgg16" else {}  # its own takes seconds, on layers not kept
    model = getattr(torchvision.models, network)(weights=None, **more)
    features = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("features.")}
    save_file(features, folder / "model.safetensors")


def save_open_clip(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP))
    save_file(
        {k: v.contiguous() for k, v in CLIP(**OPEN_CLIP["model_cfg"]).state_dict().items()},
        folder / "open_clip_model.safetensors",
    )


def save_paper_models(root: Path) -> Path:
    """All of them, in the layout of PIVA_BENCH_EVALUATORS."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_dino(root / "dino-vitb8")
        save_clip(root / "clip-vit-l14")
        save_dinov2(root / "dinov2-base")
        save_trunk(root / "lpips-squeeze", "squeezenet1_1")
        save_trunk(root / "lpips-alex", "alexnet")
        save_trunk(root / "lpips-vgg", "vgg16")
        save_open_clip(root / "openclip-vit-l14")
        save_open_clip(root / "openclip-vit-b32")
    return root
