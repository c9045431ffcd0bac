"""Models with random weights of a known shape: what a step costs does not depend on what a model has learnt."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from piva_bench.diffusion.stable_diffusion import StableDiffusion

START, END = "<|startoftext|>", "<|endoftext|>"
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "sd-1.5": {
        # unet/config.json and vae/config.json of Stable Diffusion 1.5, as far as they differ from the classes' own.
        "unet": {"sample_size": 64, "cross_attention_dim": 768},
        "vae": {
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
            "sample_size": 512,
        },
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    },
}  # fmt: skip


def random_denoiser(
    shape: str, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> StableDiffusion:
    """A denoiser of a shape in ``SHAPES`` with random weights, made in memory; it makes no pictures worth seeing."""
    config = SHAPES[shape]
    tokenizer = _byte_tokenizer()
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**config["unet"])
        vae = AutoencoderKL(**config["vae"])
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.eos_token_id,
                **config["text"],
            )
        )
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return StableDiffusion(
        unet.to(device, dtype), vae.to(device, dtype), text.to(device, dtype), tokenizer,
        alphas_cumprod=(1 - betas).cumprod(0), prediction_type="epsilon", path=Path(f"random {shape}"),
    )  # fmt: skip


def _byte_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without merges: a token for each printable character."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer(
            vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77,
            bos_token=START, eos_token=END, pad_token=END, unk_token=END,
        )  # fmt: skip
