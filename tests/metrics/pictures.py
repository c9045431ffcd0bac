"""Pictures and small evaluators for the metrics' tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from skimage import data
from skimage.transform import resize

from piva_bench.metrics.clip import UNKNOWN, CompactTokenizer, SmallClip
from piva_bench.metrics.studio_classifier import StudioClassifier
from piva_bench.studio.train_clip import model_config
from piva_bench.studio.vocabulary import HEADS

PROMPTS = ("a photo of a horse on grass", "a photo of a red horse on grass")


def photograph(side: int = 64) -> np.ndarray:
    """A real picture: a photograph from scikit-image's wheel, area-reduced."""
    return (resize(data.astronaut(), (side, side), anti_aliasing=True) * 255).round().astype(np.uint8)


def noisy(picture: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, picture.shape)
    return (picture + noise).round().clip(0, 255).astype(np.uint8)


def save_evaluators(root: Path) -> None:
    """Evaluators of the real classes with random weights."""
    torch.manual_seed(0)
    tokens = CompactTokenizer.tokens_of([*PROMPTS, "front side back"])
    config = model_config(tokens, len(tokens) + UNKNOWN + 1)
    config["model_cfg"]["vision_cfg"] |= {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
    config["model_cfg"]["text_cfg"] |= {"width": 32, "heads": 2, "layers": 1}
    SmallClip(config).save(root / "clip", {})
    StudioClassifier(HEADS, widths=(8, 8, 8, 8)).save(root / "classifier", {})
