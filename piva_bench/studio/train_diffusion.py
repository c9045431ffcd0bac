"""Training the embedded text-to-image model: a ``UNet2DConditionModel`` and its ``CLIPTextModel``, jointly."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from piva_bench.studio.data_parallel import leave_the_rest_to_the_first
from piva_bench.studio.ema import WithAverage
from piva_bench.studio.model_card import REPORT, update_report
from piva_bench.studio.shards import captions_of, held_out, load_masks, load_shards
from piva_bench.studio.timed_training import earlier_training, half_precision, save_atomically, say, train_for
from piva_bench.studio.tokenizer import MAX_LENGTH, build_tokenizer
from piva_bench.studio.train_autoencoder import to_input
from piva_bench.studio.train_text import train_text
from piva_bench.studio.vocabulary import COLOURLESS

TEXT_WIDTH = 128
UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (64, 128, 192),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "cross_attention_dim": TEXT_WIDTH,
    "norm_num_groups": 16,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "resnet_time_scale_shift": "scale_shift",
}
"""Besides cross-attention, the caption reaches every residual block as one pooled vector that scales and shifts
its channels (DeepFloyd IF's ``TextTimeEmbedding``): what the object is concerns the whole picture."""
TEXT: dict[str, Any] = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 4 * TEXT_WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_LENGTH,
    "projection_dim": TEXT_WIDTH,
}
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""Stable Diffusion's schedule (``scheduler_config.json`` of SD 1.x)."""
BATCH = 16
LEARNING_RATE = 5e-4
CAPTION_DROPOUT = 0.1
AVERAGE_DECAY = 0.999
TEXT_MINUTES = 5.0
"""Reading lessons before the first picture, see :mod:`piva_bench.studio.train_text`."""
NOISY_SHARE = 0.7
"""Share of timesteps drawn from the noisier half, where the text decides what the picture shows."""
OBJECT_WEIGHT = 3.0
"""Weight of the loss inside the object's mask: a fifth of the picture, and much harder than the rest."""
MATERIAL_WEIGHT = 2.5
"""How many times as often a picture is drawn that shows marble, metal or wood: each is rarer in the renders than plain
surfaces, and drawn with its rate alone they come out plain too often."""
POSE_WEIGHT = 2.5
"""Likewise for things that lie or stand on their heads: a fifth of the renders, and what the generator heeds
least of all words (.63 of 38 prompts of seed 1, where upright ones are read at .98)."""
HARD_OBJECTS = {
    "boots", "cactus", "fire_extinguisher", "forklift", "guitar", "lamp", "piano", "rocking_horse", "teddy_bear",
}  # fmt: skip
HARD_OBJECT_WEIGHT = 1.7
"""Likewise for the objects that come out as another one oftenest (.62 of 71 prompts of seed 1; the others .95)."""
LARGEST_TIMESTEP_WEIGHT = 20.0
"""Cap of the loss's weight 1 / abar_t, which makes it the loss of v-prediction (arXiv 2202.00512, appendix D): the
plain loss hardly sees an error at the noise levels where the caption decides on the object's shape."""


class TextToNoise(nn.Module):
    """Text encoder and UNet as one network: tokens and noisy latents in, noise prediction out."""

    def __init__(self, vocabulary: int, start: int, end: int) -> None:
        super().__init__()
        marks = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
        self.text = CLIPTextModel(CLIPTextConfig(vocab_size=vocabulary, **marks, **TEXT))
        self.unet = UNet2DConditionModel(**UNET)

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Noise prediction [N, C, h, w] for latents, timesteps [N] and token ids [N, L]."""
        states = self.text(tokens).last_hidden_state
        return self.unet(noisy, t, states, return_dict=False)[0]


@torch.inference_mode()
def encode_all(vae_folder: Path, images: np.ndarray, cache: Path) -> Tensor:
    """Scaled latents (fp16) of every picture, every second one mirrored, kept in ``cache`` between runs.

    A mirrored set is a set: nothing in a caption says left or right.
    """
    vae = AutoencoderKL.from_pretrained(vae_folder).eval()
    encoder = hashlib.sha256()  # of the encoder alone: another decoder reads the same latents
    for name, tensor in vae.state_dict().items():
        if not name.startswith(("decoder", "post_quant")):
            encoder.update(tensor.numpy().tobytes())
    if cache.exists():
        kept = torch.load(cache, weights_only=True)
        if kept["encoder"] == encoder.hexdigest() and len(kept["latents"]) == len(images):
            return kept["latents"]
    parts = []
    for start in range(0, len(images), 64):
        x = to_input(images[start : start + 64])
        x[1::2] = x[1::2].flip(-1)
        parts.append((vae.encode(x).latent_dist.mean * vae.config.scaling_factor).half())
        if start % 6400 == 0:
            say(f"encoded {start} of {len(images)}")
    latents = torch.cat(parts)
    save_atomically({"encoder": encoder.hexdigest(), "latents": latents}, cache)
    return latents


def object_weights(masks: np.ndarray, size: int) -> Tensor:
    """Weight of the loss at each latent position: fp16 [N, 1, size, size], mirrored as the latents are."""
    coverage = F.adaptive_avg_pool2d(torch.from_numpy(masks).float()[:, None], size)
    coverage[1::2] = coverage[1::2].flip(-1)
    return (1 + (OBJECT_WEIGHT - 1) * coverage).half()


def drawing_rates(scenes: list[dict[str, Any]]) -> np.ndarray:
    """Relative rate at which each picture is drawn: float64 [N]; see MATERIAL_WEIGHT and what follows it.

    Args:
        scenes: of the shards; pencil and sepia hide a material, so they are drawn at the ordinary rate.
    """
    shown = [s["scene"]["material"] != "plain" and s["scene"]["style"] not in COLOURLESS for s in scenes]
    turned = [s["scene"]["pose"] != "upright" for s in scenes]
    hard = [s["scene"]["object"] in HARD_OBJECTS for s in scenes]
    rates = np.where(shown, MATERIAL_WEIGHT, 1.0) * np.where(turned, POSE_WEIGHT, 1.0)
    return rates * np.where(hard, HARD_OBJECT_WEIGHT, 1.0)


def draw_timesteps(generator: torch.Generator, count: int) -> Tensor:
    """Stratified over the batch, so that every batch sees easy and hard noise levels; see NOISY_SHARE."""
    u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    quiet = 1 - NOISY_SHARE
    u = torch.where(u < quiet, u / quiet * 0.5, 0.5 + (u - quiet) / NOISY_SHARE * 0.5)
    return (u * 1000).long().clamp(0, 999)


def timestep_weights(alphas_cumprod: Tensor) -> Tensor:
    """Weights [N, 1, 1, 1] of the loss at timesteps of these abar [N]; see LARGEST_TIMESTEP_WEIGHT."""
    return (1 / alphas_cumprod).clamp(max=LARGEST_TIMESTEP_WEIGHT).view(-1, 1, 1, 1)


def weighted_loss(predicted: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error of a noise prediction."""
    return (weight * (predicted.float() - noise).square()).mean() / weight.mean()


def train(
    renders: Path, model_folder: Path, minutes: float, seed: int = 0, resume: bool = True
) -> dict[str, Any]:
    """Train on the shards in ``renders`` and complete the diffusers folder that holds the autoencoder.

    Args:
        renders: folder of the shards; the checkpoint lies in its ``training`` folder.
        model_folder: receives unet, text_encoder, tokenizer, scheduler and model_index.json beside ``vae``.
        minutes: budget, earlier runs counted.
        seed: of weights and batches.
        resume: go on from the checkpoint, or without one from the weights in ``model_folder``.

    Returns the report: steps and minutes, those before a start from weights included, pictures, the held-out loss.
    """
    images, scenes = load_shards(renders)
    evaluation = held_out(images)
    trainable, kept = np.flatnonzero(~evaluation), np.flatnonzero(evaluation)
    latents = encode_all(model_folder / "vae", images, renders / "training" / "latents.pt")
    weights = object_weights(load_masks(renders), latents.shape[-1])
    tokenizer = build_tokenizer(model_folder / "tokenizer")
    tokens = _tokenise(tokenizer, scenes)
    rates = drawing_rates(scenes)[trainable]
    rates /= rates.sum()
    null = torch.tensor(tokenizer("", padding="max_length", max_length=MAX_LENGTH)["input_ids"])

    torch.manual_seed(seed)
    net = TextToNoise(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    checkpoint = renders / "training" / "diffusion.pt"
    earlier = (0, 0.0)
    if not (resume and checkpoint.exists()):
        earlier = _head_start(net, tokenizer, renders, model_folder if resume else None, seed)
    model = WithAverage(net, AVERAGE_DECAY)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = DDIMScheduler(**SCHEDULE)
    say(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {len(trainable)} pictures")

    def loss_of(network: nn.Module, rows: np.ndarray, generator: torch.Generator, dropout: float) -> Tensor:
        clean = latents[torch.from_numpy(rows)].float()
        choice = torch.randint(tokens.shape[1], (len(rows),), generator=generator)
        words = tokens[torch.from_numpy(rows), choice].long()
        words[torch.rand(len(rows), generator=generator) < dropout] = null
        noise = torch.randn(clean.shape, generator=generator)
        t = draw_timesteps(generator, len(rows))[torch.randperm(len(rows), generator=generator)]
        noisy = schedule.add_noise(clean, noise, t)
        weight = weights[torch.from_numpy(rows)].float() * timestep_weights(schedule.alphas_cumprod[t])
        return weighted_loss(network(noisy, t, words), noise, weight)

    def held_out_loss() -> float:
        with torch.inference_mode():
            generator = torch.Generator().manual_seed(1)
            batches = [kept[i : i + 64] for i in range(0, min(len(kept), 512), 64)]
            return float(np.mean([loss_of(model.average, b, generator, 0.0).item() for b in batches]))

    def loss_at(step: int) -> Tensor:
        model.update()
        if step % 1000 == 0 and step:
            say(f"held-out loss of the averaged weights {held_out_loss():.4f}")
            _save(model, tokenizer, model_folder)
        rows = np.random.default_rng((seed, step)).choice(trainable, BATCH, p=rates)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with half_precision():
            return loss_of(net, rows, generator, CAPTION_DROPOUT)

    steps, seconds = train_for(
        minutes,
        model=model,
        optimizer=optimizer,
        loss_at=loss_at,
        earlier=earlier,
        checkpoint=checkpoint,
        signature={"unet": str(UNET), "text": str(TEXT), "seed": seed},
        resume=resume,
    )
    processes = leave_the_rest_to_the_first()
    _save(model, tokenizer, model_folder)
    report = {
        "pictures": len(trainable), "steps": steps, "batch_size": BATCH * processes, "minutes": round(seconds / 60, 1),
        "held_out_loss": round(held_out_loss(), 4),
    }  # fmt: skip
    update_report(model_folder, diffusion=report)
    say(str(report))
    return report


def _head_start(
    net: TextToNoise, tokenizer: Any, renders: Path, model_folder: Path | None, seed: int
) -> tuple[int, float]:
    """Weights to begin with: those in ``model_folder`` if it has any, else a text encoder that can read.

    Returns steps and seconds that are behind them.
    """
    if model_folder is not None and (model_folder / "unet").exists():
        say(f"no checkpoint: starting from the weights in {model_folder}")
        net.unet.load_state_dict(UNet2DConditionModel.from_pretrained(model_folder / "unet").state_dict())
        net.text.load_state_dict(CLIPTextModel.from_pretrained(model_folder / "text_encoder").state_dict())
        return earlier_training(json.loads((model_folder / REPORT).read_text()).get("diffusion", {}))
    train_text(net.text, tokenizer, MAX_LENGTH, renders / "training" / "text.pt", TEXT_MINUTES, seed)
    return 0, 0.0


def _tokenise(tokenizer: Any, scenes: list[dict[str, Any]]) -> Tensor:
    """Token ids of five captions of every picture: int16 [N, 5, MAX_LENGTH]."""
    captions = [(captions_of(scene) * 5)[:5] for scene in scenes]
    flat = [caption for five in captions for caption in five]
    ids = tokenizer(flat, padding="max_length", max_length=MAX_LENGTH, truncation=True)["input_ids"]
    return torch.tensor(ids, dtype=torch.int16).view(len(scenes), 5, MAX_LENGTH)


def _save(model: WithAverage, tokenizer: Any, folder: Path) -> None:
    """The averaged weights as an ordinary Stable Diffusion folder in fp16."""
    average = copy.deepcopy(model.average).half().eval()
    assert isinstance(average, TextToNoise)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float16),
        text_encoder=average.text, tokenizer=tokenizer, unet=average.unet, scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    fresh = folder.with_name(folder.name + ".new")
    pipeline.save_pretrained(fresh, safe_serialization=True)
    for part in ("unet", "text_encoder", "tokenizer", "scheduler"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (fresh / part).replace(folder / part)
    # Left as float16, a plain `from_pretrained` would load the text encoder in half and the UNet in full.
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    index = json.loads((fresh / "model_index.json").read_text())
    index.pop("_name_or_path", None)
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    shutil.rmtree(fresh)
