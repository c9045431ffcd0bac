"""Training the embedded autoencoder: diffusers' ``AutoencoderKL``, factor 4, on studio renders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from piva_bench.studio.data_parallel import leave_the_rest_to_the_first
from piva_bench.studio.ema import WithAverage
from piva_bench.studio.model_card import update_report
from piva_bench.studio.shards import held_out, load_masks, load_shards
from piva_bench.studio.timed_training import say, train_for

CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 8,
    "block_out_channels": (16, 48, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "sample_size": 64,
    "mid_block_add_attention": False,
}
CROP = 32
BATCH_CROPS, BATCH_WHOLE = 8, 3
"""Three steps in four look at crops round the object (four times as many for the price), one at whole pictures."""
BATCH_SIZE = f"{BATCH_CROPS} crops or {BATCH_WHOLE} pictures"
LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-4
OBJECT_WEIGHT = 3.0
"""Objects are where edits happen and where the detail is: their pixels count this much more."""
EDGE_WEIGHT = 0.5
EVALUATED = 512


def to_input(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(out: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 and squared error, and L1 of horizontal and vertical differences (which keep edges sharp).

    The squared term gets colours right early; the absolute ones keep fine detail worth its while.
    """
    error = (((out - target).abs() + 2 * (out - target).square()) * weight).mean()
    for axis in (2, 3):
        error = (
            error
            + EDGE_WEIGHT
            * ((out - target).diff(dim=axis).abs() * weight.narrow(axis, 1, weight.shape[axis] - 1)).mean()
        )
    return error


@torch.inference_mode()
def psnr(vae: AutoencoderKL, images: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Round-trip PSNR in dB, per picture then averaged: whole picture, and inside the object mask."""
    whole, inside = [], []
    for start in range(0, len(images), 64):
        x = to_input(images[start : start + 64])
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        error = ((y - x) / 2).square().mean(1)
        mask = torch.from_numpy(masks[start : start + 64])
        whole += (-10 * error.mean((1, 2)).log10()).tolist()
        kept = mask.sum((1, 2)) > 0
        inside += (-10 * ((error * mask).sum((1, 2))[kept] / mask.sum((1, 2))[kept]).log10()).tolist()
    return {"psnr": round(float(np.mean(whole)), 2), "psnr_object": round(float(np.mean(inside)), 2)}


@torch.inference_mode()
def latent_scale(vae: AutoencoderKL, images: np.ndarray) -> float:
    """1 / standard deviation of the latents: what diffusers calls ``scaling_factor``."""
    latents = torch.cat(
        [vae.encode(to_input(images[i : i + 64])).latent_dist.mean for i in range(0, len(images), 64)]
    )
    return float(1 / latents.std())


def object_weight(mask: Tensor) -> Tensor:
    """Weight of each pixel [N, 1, H, W]: the object and the pixel round it count OBJECT_WEIGHT times."""
    return 1 + (OBJECT_WEIGHT - 1) * F.max_pool2d(mask, 3, 1, 1)


def _batch(
    images: np.ndarray, masks: np.ndarray, trainable: np.ndarray, rng: np.random.Generator, whole: bool
) -> tuple[Tensor, Tensor]:
    """Pictures [N, 3, H, W] and masks [N, 1, H, W]: whole, or windows centred on a pixel of the object."""
    pictures, covers = [], []
    for row in rng.choice(trainable, BATCH_WHOLE if whole else BATCH_CROPS):
        window = (row, slice(None), slice(None))
        if not whole:
            places = np.argwhere(masks[row])
            y, x = places[rng.integers(len(places))] if len(places) else rng.integers(0, 64, 2)
            top, left = (int(np.clip(v - CROP // 2, 0, 64 - CROP)) for v in (y, x))
            window = (row, slice(top, top + CROP), slice(left, left + CROP))
        pictures.append(images[window])
        covers.append(masks[window])
    x, mask = to_input(np.stack(pictures)), torch.from_numpy(np.stack(covers)).float()[:, None]
    return (x.flip(-1), mask.flip(-1)) if rng.random() < 0.5 else (x, mask)


def train(renders: Path, out: Path, minutes: float, seed: int = 0, resume: bool = True) -> dict[str, Any]:
    """Train on the shards in ``renders`` for ``minutes`` and save a diffusers folder to ``out``.

    Returns the report: steps and held-out round-trip PSNR of the shipped fp16 weights.
    """
    images, _ = load_shards(renders)
    masks = load_masks(renders)
    evaluation = held_out(images)
    trainable, kept = np.flatnonzero(~evaluation), np.flatnonzero(evaluation)[:EVALUATED]
    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG)
    with torch.no_grad():
        # Start almost without posterior noise: at unit variance it drowns the untrained latents.
        vae.quant_conv.bias[CONFIG["latent_channels"] :] = -6.0
        # Residual blocks start as the identity: the picture passes from the first step on.
        for name, parameter in vae.named_parameters():
            if ".conv2." in name:
                parameter.zero_()
    model: Any = WithAverage(vae, decay=0.995)
    optimizer = torch.optim.AdamW(vae.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4)

    def loss_at(step: int) -> Tensor:
        model.update()
        x, mask = _batch(images, masks, trainable, np.random.default_rng((seed, step)), whole=step % 4 == 3)
        posterior = vae.encode(x).latent_dist
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        noise = torch.randn(posterior.mean.shape, generator=generator)
        y = vae.decode(posterior.mean + posterior.std * noise).sample
        if step % 500 == 0 and step:
            say(f"round trip {psnr(model.average, images[kept[:128]], masks[kept[:128]])}")
        loss = reconstruction_loss(y, x, object_weight(mask))
        return loss + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()

    steps, seconds = train_for(
        minutes,
        model=model,
        optimizer=optimizer,
        loss_at=loss_at,
        checkpoint=renders / "training" / "autoencoder.pt",
        signature={"config": str(CONFIG), "seed": seed},
        resume=resume,
    )
    processes = leave_the_rest_to_the_first()
    shipped = model.average.eval().half().float()
    shipped.register_to_config(scaling_factor=latent_scale(shipped, images[trainable[:2048]]))
    shipped.half().save_pretrained(out, safe_serialization=True)
    report = {
        "pictures": len(trainable), "steps": steps, "batch_size": BATCH_SIZE * processes,
        "minutes": round(seconds / 60, 1), **psnr(shipped.float(), images[kept], masks[kept]),
    }  # fmt: skip
    update_report(out.parent, autoencoder=report)
    say(str(report))
    return report


def refine_decoder(
    renders: Path, out: Path, minutes: float, seed: int = 0, resume: bool = True
) -> dict[str, Any]:
    """Train only the decoder of the autoencoder in ``out`` further: its latents, and models of them, stay valid.

    Takes and returns what :func:`train` does.
    """
    images, _ = load_shards(renders)
    masks = load_masks(renders)
    evaluation = held_out(images)
    trainable, kept = np.flatnonzero(~evaluation), np.flatnonzero(evaluation)[:EVALUATED]
    vae = AutoencoderKL.from_pretrained(out)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    model: Any = WithAverage(vae, decay=0.998)
    optimizer = torch.optim.AdamW(
        [p for p in vae.parameters() if p.requires_grad],
        LEARNING_RATE / 2,
        betas=(0.9, 0.99),
        weight_decay=1e-4,
    )

    def loss_at(step: int) -> Tensor:
        model.update()
        x, mask = _batch(
            images, masks, trainable, np.random.default_rng((seed, 1, step)), whole=step % 4 == 3
        )
        with torch.no_grad():
            latents = vae.encode(x).latent_dist.mean
        if step % 500 == 0:
            say(f"round trip {psnr(model.average, images[kept[:128]], masks[kept[:128]])}")
        return reconstruction_loss(vae.decode(latents).sample, x, object_weight(mask))

    steps, seconds = train_for(
        minutes,
        model=model,
        optimizer=optimizer,
        loss_at=loss_at,
        checkpoint=renders / "training" / "decoder.pt",
        signature={"config": str(CONFIG), "seed": seed},
        resume=resume,
    )
    processes = leave_the_rest_to_the_first()
    shipped = model.average.eval().half()
    shipped.save_pretrained(out, safe_serialization=True)
    report = {
        "pictures": len(trainable), "steps": steps, "batch_size": BATCH_SIZE * processes,
        "minutes": round(seconds / 60, 1),
        **psnr(shipped.float(), images[kept], masks[kept]),
    }  # fmt: skip
    update_report(out.parent, decoder=report)
    say(str(report))
    return report
