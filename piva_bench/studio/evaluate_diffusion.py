"""Does the embedded model obey its prompts? Judged by the attribute classifier, which has seen renders only."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from piva_bench.metrics.studio_classifier import StudioClassifier, to_input
from piva_bench.studio.captions import Wording, caption
from piva_bench.studio.model_card import update_report
from piva_bench.studio.render import Renderer
from piva_bench.studio.scene import Scene, composition_key, random_scene, training_scenes
from piva_bench.studio.train_autoencoder import to_input as vae_input
from piva_bench.studio.vocabulary import COLOURLESS, HEADS

GUIDANCE_SCALE = 5.0
STEPS = 50
ETA = 0.5
"""How much fresh noise DDIM adds, between none (0) and DDPM's (1); chosen on the prompts of seeds 1 and 2."""


def evaluation_scenes(count: int, training_count: int, seed: int = 0) -> list[Scene]:
    """Scenes of compositions that are not among the first ``training_count`` training scenes."""
    known = {composition_key(scene) for scene in training_scenes(0, training_count, ())}
    rng = random.Random(f"studio-evaluation-{seed}")
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, all_sides=False)
        if composition_key(scene) not in known:
            scenes.append(scene)
    return scenes


@torch.inference_mode()
def sample_pictures(
    folder: Path, prompts: list[str], guidance_scale: float, eta: float = 0.0, seed: int = 0
) -> np.ndarray:
    """One picture a prompt by DDIM: uint8 [N, H, W, 3]. Each prompt's noise depends on its number alone."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for start in range(0, len(prompts), 25):
        batch = prompts[start : start + 25]
        size = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        pictures.append(
            pipeline(
                batch, num_inference_steps=STEPS, guidance_scale=guidance_scale, eta=eta, height=size, width=size,
                generator=[torch.Generator().manual_seed(seed * 100_003 + start + n) for n in range(len(batch))],
                output_type="np",
            ).images
        )  # fmt: skip
    return np.rint(np.concatenate(pictures) * 255).astype(np.uint8)


@torch.inference_mode()
def round_trips(vae_folder: Path, images: np.ndarray) -> np.ndarray:
    """The pictures encoded and decoded again: uint8 [N, H, W, 3]."""
    vae = AutoencoderKL.from_pretrained(vae_folder).eval()
    parts = []
    for start in range(0, len(images), 50):
        x = vae_input(images[start : start + 50])
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        parts.append(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def obedience(classifier: StudioClassifier, images: np.ndarray, scenes: list[Scene]) -> dict[str, float]:
    """Share of pictures in which the classifier reads each attribute as the scene has it."""
    logits = classifier(to_input(images))
    report = {}
    for head, names in HEADS.items():
        read = logits[head].argmax(1).tolist()
        right = [
            names[r] == scene.attributes[head]
            for r, scene in zip(read, scenes, strict=True)
            if not (head in ("color", "material", "print") and scene.style in COLOURLESS)
            and not (head == "color" and scene.color is None)
        ]
        report[head] = round(float(np.mean(right)), 3)
    return report


def contact_sheet(images: np.ndarray, columns: int = 20, zoom: int = 1) -> Image.Image:
    """The pictures in rows, enlarged without smoothing."""
    rows = -(-len(images) // columns)
    padded = np.zeros((rows * columns, *images.shape[1:]), np.uint8)
    padded[: len(images)] = images
    _, h, w, _ = padded.shape
    sheet = padded.reshape(rows, columns, h, w, 3).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, 3)
    picture = Image.fromarray(sheet)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def evaluate(
    folder: Path,
    classifier_folder: Path,
    training_count: int,
    count: int = 200,
    sheet: Path | None = None,
    guidance_scale: float = GUIDANCE_SCALE,
    eta: float = ETA,
    seed: int = 0,
) -> dict[str, Any]:
    """Sample ``count`` held-out prompts and report the accuracy of every attribute.

    Seed 0 is what the model's card tells of, and is written there; prompts of other seeds are for choosing by.
    """
    scenes = evaluation_scenes(count, training_count, seed)
    rng = random.Random("studio-evaluation-wording" + (f"-{seed}" if seed else ""))
    prompts = [caption(scene, Wording.random(rng)) for scene in scenes]
    images = sample_pictures(folder, prompts, guidance_scale, eta, seed)
    if sheet is not None:
        contact_sheet(images).save(sheet)
    renderer = Renderer(images.shape[1])
    renders = np.stack([renderer.render(scene).image for scene in scenes])
    classifier = StudioClassifier.load(classifier_folder)
    report = {
        "prompts": count, "sampler": f"DDIM {STEPS}, eta {eta:g}", "guidance_scale": guidance_scale,
        "accuracy": obedience(classifier, images, scenes),
        "accuracy_renders": obedience(classifier, renders, scenes),
        "accuracy_round_trips": obedience(classifier, round_trips(folder / "vae", renders), scenes),
    }  # fmt: skip
    if seed == 0:
        update_report(folder, evaluation=report)
    return report
