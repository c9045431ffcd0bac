"""Training the depth ControlNet of the embedded model: the model itself stays as it is."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from piva_bench.diffusion.controlnet import DepthControl, depth_picture
from piva_bench.diffusion.stable_diffusion import StableDiffusion
from piva_bench.studio.data_parallel import leave_the_rest_to_the_first
from piva_bench.studio.ema import WithAverage
from piva_bench.studio.model_card import REPORT, write_control_card
from piva_bench.studio.shards import captions_of, held_out, load_depth, load_masks, load_shards
from piva_bench.studio.timed_training import earlier_training, half_precision, say, train_for
from piva_bench.studio.train_diffusion import (
    draw_timesteps,
    encode_all,
    object_weights,
    timestep_weights,
    weighted_loss,
)

CONDITIONING = (16, 32, 96, 256)
"""Widths of the layers that read the depth map (diffusers' own, from ControlNet's ``hint_block``); as many are used
as bring it down to the size of the latents."""
BATCH = 16
LEARNING_RATE = 3e-4
"""Assumed; a tenth of what the model itself learns with would be ControlNet's 1e-5 against SD's 1e-4."""
CAPTION_DROPOUT = 0.5
"""As in the ControlNet paper (arXiv 2302.05543, section 3.3): half the captions are dropped, so that depth is read."""
AVERAGE_DECAY = 0.999


def control_for(unet: Any, factor: int) -> ControlNetModel:
    """A ControlNet that changes nothing yet: the UNet's encoder, between convolutions of zeros.

    Args:
        unet: diffusers' UNet2DConditionModel.
        factor: how many times as large as the latents the depth maps are.
    """
    # Not ControlNetModel.from_unet: it forgets the number of heads that read the caption (diffusers 0.42).
    known = inspect.signature(ControlNetModel).parameters
    config = {name: value for name, value in unet.config.items() if name in known}
    net = ControlNetModel(**config, conditioning_embedding_out_channels=CONDITIONING[: factor.bit_length()])
    missing = net.load_state_dict(unet.state_dict(), strict=False).missing_keys
    assert all(name.startswith("controlnet_") for name in missing), "the UNet's encoder is copied whole"
    return net


class Lessons:
    """Noisy latents, captions and depth maps of the training pictures, and the loss on them.

    Args:
        renders: folder of the shards.
        denoiser: the model that is to be controlled.
    """

    def __init__(self, renders: Path, denoiser: StableDiffusion) -> None:
        images, scenes = load_shards(renders)
        evaluation = held_out(images)
        self.trainable, self.kept = np.flatnonzero(~evaluation), np.flatnonzero(evaluation)
        self.denoiser = denoiser
        self.captions = [captions_of(scene) for scene in scenes]
        self.latents = encode_all(denoiser.path / "vae", images, renders / "training" / "latents.pt")
        self.weights = object_weights(load_masks(renders), self.latents.shape[-1])
        self.depth = torch.from_numpy(load_depth(renders, len(images)))[:, None]
        self.depth[1::2] = self.depth[1::2].flip(-1)  # as the latents are

    def loss(
        self,
        control: nn.Module | None,
        rows: np.ndarray,
        generator: torch.Generator,
        dropout: float = 0.0,
        depth_of: np.ndarray | None = None,
    ) -> Tensor:
        """Mean squared error of the noise prediction, weighted as in the model's own training.

        Args:
            control: the ControlNet; without one the model predicts by itself.
            rows: which pictures.
            generator: of noise, timesteps and captions; equal states give equal lessons.
            dropout: share of captions that are left out.
            depth_of: whose depth maps are shown, by default the pictures' own.
        """
        index, count = torch.from_numpy(rows), len(rows)
        clean = self.latents[index].float()
        choice, kept = torch.rand(2, count, generator=generator).numpy()
        words = [
            self.captions[row][int(c * len(self.captions[row]))] if k >= dropout else ""
            for row, c, k in zip(rows, choice, kept, strict=True)
        ]
        noise = torch.randn(clean.shape, generator=generator)
        t = draw_timesteps(generator, count)[torch.randperm(count, generator=generator)]
        noisy, states = self.denoiser.schedule.add_noise(clean, noise, t), self._read(words)
        added: dict[str, Any] = {}
        if control is not None:
            depth = self.depth[index if depth_of is None else torch.from_numpy(depth_of)].float()
            down, middle = control(
                noisy,
                t,
                encoder_hidden_states=states,
                controlnet_cond=depth_picture(depth),
                return_dict=False,
            )
            added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        predicted = self.denoiser.unet(noisy, t, encoder_hidden_states=states, **added, return_dict=False)[0]
        weight = self.weights[index].float() * timestep_weights(self.denoiser.schedule.alpha_sigma(t)[0] ** 2)
        return weighted_loss(predicted, noise, weight)

    @torch.no_grad()
    def _read(self, words: list[str]) -> Tensor:
        tokenizer, encoder = self.denoiser.tokenizer, self.denoiser.text_encoder
        length = encoder.config.max_position_embeddings
        tokens = tokenizer(
            words, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return encoder(tokens.input_ids)[0]

    @torch.inference_mode()
    def report(self, control: nn.Module) -> dict[str, float]:
        """Losses on the same held-out pictures: with their depth, with another picture's, and without depth."""
        batches = [self.kept[i : i + 64] for i in range(0, min(len(self.kept), 512), 64)]

        def mean(control: nn.Module | None, shift: int = 0) -> float:
            generator = torch.Generator().manual_seed(1)
            losses = [self.loss(control, b, generator, depth_of=np.roll(b, shift)).item() for b in batches]
            return round(float(np.mean(losses)), 4)

        return {"depth": mean(control), "other_depth": mean(control, shift=1), "no_depth": mean(None)}


def train(
    renders: Path, model_folder: Path, out: Path, minutes: float, seed: int = 0, resume: bool = True
) -> dict[str, Any]:
    """Train on the shards in ``renders`` and write the ControlNet to ``out``.

    Args:
        renders: folder of the shards and their depth; the checkpoint lies in its ``training`` folder.
        model_folder: the model to be controlled, a Stable Diffusion folder.
        out: receives a ControlNet in diffusers' layout, fp16, and its card.
        minutes: budget, earlier runs counted.
        seed: of weights and batches.
        resume: go on from the checkpoint, or without one from the weights in ``out``, which may have been trained
            for an earlier version of the model.

    Returns the report: steps, those before a start from weights included, pictures and held-out losses.

    Raises:
        DataError: no readable shards, or no depth beside them.
        ModelError: the checkpoint belongs to another model or seed, or training diverged.
    """
    denoiser = StableDiffusion.load(model_folder, torch.device("cpu"), torch.float32)
    lessons = Lessons(renders, denoiser)
    torch.manual_seed(seed)
    net = control_for(denoiser.unet, lessons.depth.shape[-1] // lessons.latents.shape[-1])
    checkpoint = renders / "training" / f"{out.name}.pt"
    earlier = (0, 0.0)
    past = json.loads((out / REPORT).read_text()) if resume and (out / REPORT).exists() else {}
    if past and not checkpoint.exists():
        say(f"no checkpoint: starting from the weights in {out}")
        shipped = DepthControl.from_pretrained(out)
        shipped.check_shape(denoiser)
        net.load_state_dict(shipped.net.state_dict())
        earlier = earlier_training(past)
    model = WithAverage(net, AVERAGE_DECAY)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    say(
        f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {len(lessons.trainable)} pictures"
    )

    def loss_at(step: int) -> Tensor:
        model.update()
        if step % 1000 == 0 and step:
            say(f"held-out losses of the averaged weights {lessons.report(model.average)}")
            _save(model, out)
        rows = np.random.default_rng((seed, step)).choice(lessons.trainable, BATCH)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with half_precision():
            return lessons.loss(net, rows, generator, CAPTION_DROPOUT)

    steps, seconds = train_for(
        minutes,
        model=model,
        optimizer=optimizer,
        loss_at=loss_at,
        earlier=earlier,
        checkpoint=checkpoint,
        signature={"model": denoiser.fingerprint, "seed": seed},
        resume=resume,
    )
    processes = leave_the_rest_to_the_first()
    report = {
        "pictures": len(lessons.trainable), "steps": steps, "batch_size": BATCH * processes,
        "minutes": round(seconds / 60, 1),
        "model": denoiser.fingerprint,
        "began_with": past.get("began_with", past.get("model", denoiser.fingerprint)),
        "held_out_loss": lessons.report(_save(model, out)),
    }  # fmt: skip
    write_control_card(out, report)
    say(str(report))
    return report


def _save(model: WithAverage, folder: Path) -> nn.Module:
    """Writes the averaged weights in fp16, and returns what they are after that rounding."""
    average: Any = copy.deepcopy(model.average).half().eval()
    fresh = folder.with_name(folder.name + ".new")
    average.save_pretrained(fresh, safe_serialization=True)
    folder.mkdir(parents=True, exist_ok=True)
    for file in fresh.iterdir():
        file.replace(folder / file.name)
    shutil.rmtree(fresh)
    shipped: nn.Module = average.float()
    return shipped
