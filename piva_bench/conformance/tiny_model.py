"""A random Stable Diffusion small enough to check code on: 32 px, latents 8 x 8 x 4, 0.3 M weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from piva_bench.method import EditTask

START, END = "<|startoftext|>", "<|endoftext|>"


def make_tiny_sd(path: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Saves the model to ``path`` (diffusers' layout, safetensors) and returns it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=24,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=32,
        )
        tokenizer = make_tokenizer(path / "words")
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=24,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                projection_dim=24,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        # A random text encoder hardly tells prompts apart; stronger embeddings make the prompts matter.
        text_encoder.get_input_embeddings().weight.data.mul_(20)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(path, safe_serialization=True)
    return path


def make_tiny_ip2p(model: Path, path: Path) -> Path:
    """Saves the tiny model to ``path`` with a random UNet that also takes a picture's latents, and returns it."""
    shutil.copytree(model, path)
    config = {**UNet2DConditionModel.load_config(model / "unet"), "in_channels": 8}
    shutil.rmtree(path / "unet")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        UNet2DConditionModel.from_config(config).save_pretrained(path / "unet")
    index = json.loads((path / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionInstructPix2PixPipeline"
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer on a vocabulary of the printable ASCII characters and two merges."""
    letters = [chr(code) for code in range(33, 127)]
    merges = ["t h", "th e</w>"]
    words = [*letters, *(letter + "</w>" for letter in letters), "th", "the</w>", START, END]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77,
        bos_token=START, eos_token=END, pad_token=END, unk_token=END,
    )  # fmt: skip


def make_tasks(count: int, *, seed: int = 0) -> list[EditTask]:
    """Edits of random 32 px pictures; each has prompts of its own."""
    generator = torch.Generator().manual_seed(seed)
    words = ["cup", "boat", "lamp", "drum", "vase"]
    return [
        EditTask(
            f"sample-{index}",
            torch.rand(3, 32, 32, generator=generator) * 2 - 1,
            source_prompt=f"a red {words[index % len(words)]}",
            target_prompt=f"a blue {words[index % len(words)]} on grass",
        )
        for index in range(count)
    ]
