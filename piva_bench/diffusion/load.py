"""Which denoiser a model is: chosen by what its folder says."""

from __future__ import annotations

from pathlib import Path

import torch

from piva_bench.diffusion.checkpoint import model_class
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.rectified_flow import Flux, StableDiffusion3
from piva_bench.diffusion.stable_diffusion import InstructPix2Pix, StableDiffusion

CLASSES: dict[str, type[Denoiser]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionInstructPix2PixPipeline": InstructPix2Pix,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
}
"""By diffusers' pipelines, as ``model_index.json`` names them."""


def load_denoiser(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Denoiser:
    """Loads a folder in diffusers' layout or a single file, from disk, safetensors only.

    Raises:
        ModelError: one line that says what is missing, torn or unsuitable.
    """
    path = Path(path)
    return CLASSES[model_class(path, CLASSES)].load(path, torch.device(device), dtype)
