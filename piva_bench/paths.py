"""Where the embedded data lies, and where paths lead."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
TUNING = Path("results/tuning")
"""Where ``piva-bench tune`` writes, below the working directory."""


def absolute(path: Path) -> Path:
    """The path without links and dots. Links that lead in a circle stay: whoever opens the file is told of them."""
    return Path(os.path.realpath(path))


def data_root() -> Path:
    """The embedded datasets and models: ``datasets/`` of a checkout, else the copy inside the wheel."""
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "datasets").is_dir():
        return checkout / "datasets"
    return _PACKAGE / "_embedded"


def tuning_dir() -> Path:
    """What the defaults of profiles were tuned by: ``results/tuning`` of a checkout, else the copy inside the wheel."""
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / TUNING
    return _PACKAGE / "_tuning"


def embedded_model_dir() -> Path:
    """The embedded latent diffusion model, an ordinary diffusers folder."""
    return data_root() / "models" / "studio-sd"


def studio_depth_dir() -> Path:
    """The depth ControlNet of the embedded model."""
    return data_root() / "models" / "studio-depth"


def studio_ip2p_dir() -> Path:
    """The embedded InstructPix2Pix, an ordinary diffusers folder."""
    return data_root() / "models" / "studio-ip2p"


def studio_clip_dir() -> Path:
    """The CLIP trained on studio captions."""
    return data_root() / "models" / "studio-clip"


def studio_classifier_dir() -> Path:
    """The attribute classifier trained on studio renders."""
    return data_root() / "models" / "studio-classifier"
