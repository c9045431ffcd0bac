"""A Stable Diffusion in one .safetensors file, as the original code base and most tools save it.

Such a file holds weights alone. The configurations and the tokenizer come from a folder in diffusers' layout
(the weights in it, if any, are not read): the one that ``PIVA_BENCH_MODEL_CONFIG`` names, or a folder beside
the file with its name without the suffix.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piva_bench.errors import ModelError

if TYPE_CHECKING:
    import torch

CONFIG_VARIABLE = "PIVA_BENCH_MODEL_CONFIG"
CONFIG_FILES = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
)


def config_folder(file: Path) -> Path:
    """The folder with a single file's configurations.

    Raises:
        ModelError: there is none, or it lacks some.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    folder = Path(named).expanduser() if named else file.with_suffix("")
    missing = [name for name in CONFIG_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{file.name} is weights alone: its configurations and tokenizer (a diffusers folder of the same "
            f"family; weights are not needed) belong into {file.with_suffix('')}, or name a folder with "
            f"{CONFIG_VARIABLE}. {folder} lacks {', '.join(missing)}."
        )
    return folder


def load_networks(file: Path, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    """UNet, autoencoder and text encoder of a single file.

    Raises:
        ModelError: the file is torn, or does not hold a Stable Diffusion of the folder's configurations.
    """
    # Here, so that a file's fingerprint needs no library.
    from diffusers import StableDiffusionPipeline

    folder = config_folder(file)
    try:
        pipeline: Any = StableDiffusionPipeline.from_single_file(
            str(file), config=str(folder), torch_dtype=dtype, local_files_only=True,
            safety_checker=None, feature_extractor=None, image_encoder=None,
        )  # fmt: skip
    except Exception as error:  # whatever diffusers meets in a foreign file
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(f"Cannot load {file} with the configurations of {folder}: {cause}") from error
    networks = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder")}
    for name, network in networks.items():
        # Weights that the file lacks stay without a value.
        if any(value.is_meta for value in network.parameters()):
            raise ModelError(f"{file} lacks weights of the {name} that {folder / name} describes.")
    return networks


def files(file: Path) -> Iterator[tuple[str, Path]]:
    """The files that a single-file model is read from, by name: the weights and its configurations."""
    yield "weights", file
    folder = config_folder(file)
    for part in ("unet", "vae", "text_encoder", "scheduler", "tokenizer"):
        for path in sorted((folder / part).iterdir()):
            if path.suffix in (".json", ".txt"):
                yield f"{part}/{path.name}", path
