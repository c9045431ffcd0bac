"""Does the embedded InstructPix2Pix do what it is told, and nothing else? Judged by the attribute classifier."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from piva_bench.metrics.studio_classifier import StudioClassifier, to_input
from piva_bench.studio.edit_mask import fault
from piva_bench.studio.edit_pairs import EDIT_TYPES, TURNING, Shown, may_be_shown, reserved
from piva_bench.studio.edits import random_edit
from piva_bench.studio.evaluate_diffusion import contact_sheet, round_trips
from piva_bench.studio.model_card import update_instruction_report
from piva_bench.studio.render import Renderer
from piva_bench.studio.scene import Scene, random_scene
from piva_bench.studio.vocabulary import COLOURLESS, HEADS

STEPS = 50
GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE = 7.5, 1.5
"""Of the official command line (timothybrooks/instruct-pix2pix, edit_cli.py)."""


def evaluation_edits(count: int, held_out: Collection[str], renderer: Renderer, seed: int = 0) -> list[Shown]:
    """Fair edits to compositions that are reserved, all types in turn.

    Args:
        count: how many.
        held_out: composition keys of the sets that methods are measured on, which this measurement leaves alone.
        renderer: photographs both sides.
        seed: which edits.
    """
    rng = random.Random(f"ip2p-evaluation-{seed}")
    found: list[Shown] = []
    while len(found) < count:
        kind = EDIT_TYPES[len(found) % len(EDIT_TYPES)]
        base = random_scene(rng, all_sides=kind not in TURNING)
        spec = random_edit(kind, base, rng, rng.randrange(10_000))
        if not reserved(spec.target) or not may_be_shown(spec, held_out):
            continue
        shown = Shown(spec, renderer.render(spec.source), renderer.render(spec.target))
        if fault(spec.source, spec.target, shown.before, shown.after) is None:
            found.append(shown)
    return found


@torch.inference_mode()
def edited_pictures(
    folder: Path,
    sources: np.ndarray,
    orders: Sequence[str],
    guidance_scale: float,
    image_guidance_scale: float,
) -> np.ndarray:
    """Each picture edited by diffusers' own pipeline: uint8 [N, H, W, 3]; noise depends on its number alone."""
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    parts = []
    for start in range(0, len(orders), 25):
        batch = slice(start, start + 25)
        pictures = [Image.fromarray(source) for source in sources[batch]]
        parts.append(
            pipeline(
                list(orders[batch]), image=pictures, num_inference_steps=STEPS, guidance_scale=guidance_scale,
                image_guidance_scale=image_guidance_scale, output_type="np",
                generator=[torch.Generator().manual_seed(start + n) for n in range(len(pictures))],
            ).images
        )  # fmt: skip
    return np.rint(np.concatenate(parts) * 255).astype(np.uint8)


def _counts(head: str, scene: Scene) -> bool:
    """Whether a picture of the scene shows what the head reads."""
    if head in ("color", "material", "print") and scene.style in COLOURLESS:
        return False
    return head != "color" or scene.color is not None


@torch.inference_mode()
def judge(
    classifier: StudioClassifier, images: np.ndarray, edits: Sequence[tuple[Scene, Scene]]
) -> tuple[list[bool | None], float]:
    """For each picture whether all that was to change reads as in the target (None where nothing of it can be read);
    and the share of all else that reads as in the source.

    Args:
        classifier: of attributes.
        images: uint8 [N, H, W, 3], edited.
        edits: source and target of each.
    """
    logits = classifier(to_input(images))
    read = {head: [names[n] for n in logits[head].argmax(1).tolist()] for head, names in HEADS.items()}
    followed: list[bool | None] = []
    kept: list[bool] = []
    for row, (source, target) in enumerate(edits):
        seen = [head for head in HEADS if _counts(head, target)]
        wanted = [head for head in seen if source.attributes[head] != target.attributes[head]]
        right = {head: read[head][row] == target.attributes[head] for head in seen}
        followed.append(all(right[head] for head in wanted) if wanted else None)
        kept += [right[head] for head in seen if head not in wanted]
    return followed, float(np.mean(kept))


def _psnr(images: np.ndarray, true: np.ndarray) -> float | None:
    """Mean over pictures, in dB; None for the true pictures themselves."""
    error = ((images.astype(float) - true.astype(float)) ** 2).mean((1, 2, 3))
    return None if not error.all() else round(float((10 * np.log10(255**2 / error)).mean()), 2)


def evaluate(
    folder: Path,
    classifier_folder: Path,
    held_out: Collection[str],
    count: int = 200,
    sheet: Path | None = None,
    guidance_scale: float = GUIDANCE_SCALE,
    image_guidance_scale: float = IMAGE_GUIDANCE_SCALE,
    seed: int = 0,
) -> dict[str, Any]:
    """Have ``count`` held-out instructions carried out, and report how many were.

    Seed 0 is what the model's card tells of, and is written there; instructions of other seeds are for choosing by.

    Args:
        folder: of the embedded InstructPix2Pix.
        classifier_folder: of the attribute classifier.
        held_out: see `evaluation_edits`.
        count: instructions.
        sheet: where to put a contact sheet: source, edit and exact edit, row by row.
        guidance_scale: of the text.
        image_guidance_scale: of the picture.
        seed: which instructions.
    """
    renderer = Renderer(64)
    shown = evaluation_edits(count, held_out, renderer, seed)
    sources = np.stack([one.before.image for one in shown])
    true = np.stack([one.after.image for one in shown])
    edits = [(one.spec.source, one.spec.target) for one in shown]
    orders = [one.spec.instruction for one in shown]
    images = edited_pictures(folder, sources, orders, guidance_scale, image_guidance_scale)
    if sheet is not None:
        contact_sheet(np.stack([sources, images, true], axis=1).reshape(-1, *images.shape[1:]), 18, 2).save(
            sheet
        )
    classifier = StudioClassifier.load(classifier_folder)
    rows: dict[str, dict[str, float | None]] = {}
    pictures = {"edits": images, "exact edits": true, "round trips": round_trips(folder / "vae", true)}
    for name, found in {**pictures, "source": sources}.items():
        followed, kept = judge(classifier, found, edits)
        share = float(np.mean([one for one in followed if one is not None]))
        rows[name] = {"followed": round(share, 3), "kept": round(kept, 3), "psnr": _psnr(found, true)}
    by_type: dict[str, list[bool]] = defaultdict(list)
    for one, done in zip(shown, judge(classifier, images, edits)[0], strict=True):
        if done is not None:
            by_type[one.spec.edit_type].append(done)
    report = {
        "instructions": count, "sampler": f"DDIM {STEPS}", "guidance_scale": guidance_scale,
        "image_guidance_scale": image_guidance_scale, "rows": rows,
        "by_type": {name: [round(float(np.mean(done)), 3), len(done)] for name, done in sorted(by_type.items())},
    }  # fmt: skip
    if seed == 0:
        update_instruction_report(folder, evaluation=report)
    return report
