"""Training the embedded InstructPix2Pix (arXiv 2211.09800): the embedded model, shown a picture and told an order.

Its UNet takes the latents of the picture to edit as further channels, whose weights begin at zero, so that training
begins with the text-to-image model (section 3.2). Unlike there the text encoder learns too: it has read captions,
never orders.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextModel

from piva_bench.diffusion.fingerprints import fingerprint
from piva_bench.studio.data_parallel import leave_the_rest_to_the_first
from piva_bench.studio.edit_pairs import training_edits
from piva_bench.studio.ema import WithAverage
from piva_bench.studio.instructions import training_instruction
from piva_bench.studio.model_card import REPORT, update_instruction_report
from piva_bench.studio.shards import Pairs, held_out, load_pairs
from piva_bench.studio.timed_training import earlier_training, half_precision, say, train_for
from piva_bench.studio.tokenizer import MAX_LENGTH, build_tokenizer
from piva_bench.studio.train_diffusion import (
    SCHEDULE,
    draw_timesteps,
    encode_all,
    object_weights,
    timestep_weights,
    weighted_loss,
)

BATCH = 16
LEARNING_RATE = 5e-4
"""Assumed; InstructPix2Pix keeps the rate that Stable Diffusion was trained with, and this is the embedded model's."""
DROPOUT = 0.05
"""Share of rows without the instruction, without the picture, and without both, each (section 3.2.1)."""
AVERAGE_DECAY = 0.999
WORDS = 4000
"""Edits whose instructions make the vocabulary."""


class Instructed(nn.Module):
    """Text encoder and UNet as one network: tokens, the picture to edit and noisy latents in, noise prediction out."""

    def __init__(self, text: Any, unet: Any) -> None:
        super().__init__()
        self.text, self.unet = text, unet

    def forward(self, noisy: Tensor, image: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Noise prediction [N, C, h, w].

        Args:
            noisy: scaled latents of the edit under noise [N, C, h, w].
            image: unscaled latents of the source [N, C, h, w]; zeros where it is not shown.
            t: timesteps [N].
            tokens: ids [N, L].
        """
        states = self.text(tokens).last_hidden_state
        return self.unet(torch.cat([noisy, image], dim=1), t, states, return_dict=False)[0]


def widened(unet: Any) -> Any:
    """A UNet that takes as many further channels as it has, and does not heed them yet."""
    net = UNet2DConditionModel.from_config({**unet.config, "in_channels": 2 * unet.config.in_channels})
    state = unet.state_dict()
    weight = state["conv_in.weight"]
    net.load_state_dict({**state, "conv_in.weight": torch.cat([weight, torch.zeros_like(weight)], dim=1)})
    return net


def vocabulary_texts() -> list[str]:
    """Instructions that hold every word they are made of."""
    rng = random.Random("studio-instructions")
    edits = training_edits(rng, ())
    specs = [spec for spec, _ in zip(edits, range(WORDS), strict=False)]
    return [
        text
        for spec in specs
        for text in (training_instruction(spec.source, spec.target, rng), spec.instruction)
    ]


def dropped(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Which rows go without their text, and which without their picture: bool [N] each; see DROPOUT."""
    chance = torch.rand(count, generator=generator)
    # One number a row: the share between DROPOUT and twice that lacks both.
    return chance < 2 * DROPOUT, (chance >= DROPOUT) & (chance < 3 * DROPOUT)


class Lessons:
    """Noisy edits, their sources and their orders, and the loss on them.

    Args:
        pairs: pictures and edits.
        vae_folder: the autoencoder of both.
        tokenizer: of the orders.
        cache: folder where latents are kept between runs.
    """

    def __init__(self, pairs: Pairs, vae_folder: Path, tokenizer: Any, cache: Path) -> None:
        evaluation = held_out(pairs.sources)
        self.trainable, self.kept = np.flatnonzero(~evaluation), np.flatnonzero(evaluation)
        self.targets = encode_all(vae_folder, pairs.targets, cache / "pair-targets.pt")
        self.sources = encode_all(vae_folder, pairs.sources, cache / "pair-sources.pt")
        self._unscale = 1 / AutoencoderKL.load_config(vae_folder)["scaling_factor"]
        self.weights = object_weights(pairs.masks, self.targets.shape[-1])
        self.tokens = _tokenise(tokenizer, [edit["instructions"] for edit in pairs.edits])
        self._null = _tokenise(tokenizer, [[""]])[0, 0].long()
        self._schedule = DDIMScheduler(**SCHEDULE)

    def loss(self, network: nn.Module, rows: np.ndarray, generator: torch.Generator, drop: bool) -> Tensor:
        """Mean squared error of the noise prediction, weighted as in the embedded model's training, the edited region
        in the place of the object.

        Args:
            network: as `Instructed`.
            rows: which pairs.
            generator: of noise, timesteps and wordings; equal states give equal lessons.
            drop: whether some rows go without text or picture.
        """
        index, count = torch.from_numpy(rows), len(rows)
        clean, image = self.targets[index].float(), self.sources[index].float() * self._unscale
        choice = torch.randint(self.tokens.shape[1], (count,), generator=generator)
        words = self.tokens[index, choice].long()
        no_text, no_image = dropped(generator, count)
        if drop:
            words[no_text] = self._null
            image[no_image] = 0
        noise = torch.randn(clean.shape, generator=generator)
        t = draw_timesteps(generator, count)[torch.randperm(count, generator=generator)]
        noisy = self._schedule.add_noise(clean, noise, t)
        weight = self.weights[index].float() * timestep_weights(self._schedule.alphas_cumprod[t])
        return weighted_loss(network(noisy, image, t, words), noise, weight)

    @torch.inference_mode()
    def held_out_loss(self, network: nn.Module) -> float:
        """On pairs that are not trained on, with text and picture."""
        generator = torch.Generator().manual_seed(1)
        batches = [self.kept[i : i + 64] for i in range(0, min(len(self.kept), 512), 64)]
        return float(np.mean([self.loss(network, rows, generator, drop=False).item() for rows in batches]))


def train(
    renders: Path, model_folder: Path, out: Path, minutes: float, seed: int = 0, resume: bool = True
) -> dict[str, Any]:
    """Train on the pairs in ``renders`` and write the model to ``out``.

    Args:
        renders: folder of the shards of pairs; the checkpoint lies in its ``training`` folder.
        model_folder: the text-to-image model that it begins as, a Stable Diffusion folder.
        out: receives a folder that ``StableDiffusionInstructPix2PixPipeline`` opens, fp16, and its card.
        minutes: budget, earlier runs counted.
        seed: of batches.
        resume: go on from the checkpoint, or without one from the weights in ``out``.

    Returns the report: steps and minutes, those before a start from weights included, pairs, held-out loss, pace.

    Raises:
        DataError: no readable pairs.
        ModelError: the checkpoint belongs to another model or seed, or training diverged.
    """
    pairs = load_pairs(renders)
    tokenizer = build_tokenizer(renders / "training" / "ip2p-tokenizer", vocabulary_texts())
    lessons = Lessons(pairs, model_folder / "vae", tokenizer, renders / "training")
    del pairs
    checkpoint = renders / "training" / f"{out.name}.pt"
    past = (
        json.loads((out / REPORT).read_text()).get("training", {})
        if resume and (out / REPORT).exists()
        else {}
    )
    begins_with = out if past and not checkpoint.exists() else model_folder
    torch.manual_seed(seed)
    net = _network(begins_with, len(tokenizer))
    earlier = (0, 0.0)
    if begins_with == out:
        say(f"no checkpoint: starting from the weights in {out}")
        earlier = earlier_training(past)
    model = WithAverage(net, AVERAGE_DECAY)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    count = sum(parameter.numel() for parameter in net.parameters())
    say(f"{count / 1e6:.2f} M parameters, {len(lessons.trainable)} pairs")

    def loss_at(step: int) -> Tensor:
        model.update()
        if step % 1000 == 0 and step:
            say(f"held-out loss of the averaged weights {lessons.held_out_loss(model.average):.4f}")
            _save(model, tokenizer, model_folder, out)
        rows = np.random.default_rng((seed, step)).choice(lessons.trainable, BATCH)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with half_precision():
            return lessons.loss(net, rows, generator, drop=True)

    base = fingerprint(model_folder)
    steps, seconds = train_for(
        minutes,
        model=model,
        optimizer=optimizer,
        loss_at=loss_at,
        earlier=earlier,
        checkpoint=checkpoint,
        signature={"model": base, "words": len(tokenizer), "seed": seed},
        resume=resume,
    )
    processes = leave_the_rest_to_the_first()
    _save(model, tokenizer, model_folder, out)
    report = {
        "pairs": len(lessons.trainable), "steps": steps, "batch_size": BATCH * processes,
        "minutes": round(seconds / 60, 1),
        "pictures_a_second": round(steps * BATCH * processes / max(seconds, 1e-9), 1),
        "began_with": past.get("began_with", base),
        "held_out_loss": round(lessons.held_out_loss(model.average), 4),
    }  # fmt: skip
    update_instruction_report(out, training=report)
    say(str(report))
    return report


def _network(folder: Path, vocabulary: int) -> Instructed:
    """The text-to-image model in a folder, widened and with room for new words; or an InstructPix2Pix as it is."""
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    # New words begin where known ones lie (transformers draws them from the known ones' mean and covariance).
    text.resize_token_embeddings(vocabulary)
    return Instructed(text, unet if unet.config.in_channels > unet.config.out_channels else widened(unet))


def _tokenise(tokenizer: Any, orders: Sequence[Sequence[str]]) -> Tensor:
    """Token ids of the wordings of every edit: int16 [N, wordings, MAX_LENGTH]."""
    flat = [order for wordings in orders for order in wordings]
    ids = tokenizer(flat, padding="max_length", max_length=MAX_LENGTH, truncation=True)["input_ids"]
    return torch.tensor(ids, dtype=torch.int16).view(len(orders), -1, MAX_LENGTH)


def _save(model: WithAverage, tokenizer: Any, base: Path, out: Path) -> None:
    """The averaged weights as an ordinary InstructPix2Pix folder in fp16, with the base model's autoencoder."""
    average = copy.deepcopy(model.average).half().eval()
    assert isinstance(average, Instructed)
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float16),
        text_encoder=average.text, tokenizer=tokenizer, unet=average.unet, scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    fresh = out.with_name(out.name + ".new")
    pipeline.save_pretrained(fresh, safe_serialization=True)
    # Left as float16, a plain `from_pretrained` would load the text encoder in half and the UNet in full.
    config = fresh / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    index = json.loads((fresh / "model_index.json").read_text())
    index.pop("_name_or_path", None)
    (fresh / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    for part in fresh.iterdir():
        place = out / part.name
        if place.is_dir():
            shutil.rmtree(place)
        part.replace(place)
    shutil.rmtree(fresh)
