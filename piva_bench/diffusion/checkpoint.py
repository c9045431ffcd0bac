"""Reading a Stable Diffusion, a folder in diffusers' layout or a single file: offline, safetensors only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from piva_bench.diffusion import single_file
from piva_bench.diffusion.fingerprints import FOLDERS
from piva_bench.diffusion.kinds import check_kind
from piva_bench.errors import ModelError

NETWORKS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
PREDICTION_TYPES = ("epsilon", "v_prediction")


def model_class(path: Path, known: Iterable[str]) -> str:
    """The pipeline class of a model: what a folder's ``model_index.json`` says, Stable Diffusion where it has none.

    Raises:
        ModelError: a class that is not among ``known``.
    """
    try:
        name = json.loads((path / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        # Folders of parts and single files; what else is wrong with them shows when the parts are read.
        return "StableDiffusionPipeline"
    if name not in known:
        raise ModelError(f"{path} is a model of diffusers' {name}; known are {', '.join(known)}.")
    return str(name)


def load_parts(
    path: Path, device: torch.device, dtype: torch.dtype, sees_source: bool = False
) -> dict[str, Any]:
    """The arguments of ``StableDiffusion`` (without ``path``) from a folder or a single .safetensors file.

    Args:
        path: of the model.
        device: where it runs.
        dtype: precision of its networks.
        sees_source: whether the UNet takes the picture to edit beside the noisy latents.

    Raises:
        ModelError: one line that says what is missing, torn or unsuitable.
    """
    check_kind(path)
    if path.is_file():
        folder = single_file.config_folder(path)
        with quiet():
            networks = single_file.load_networks(path, dtype)
        parts: dict[str, Any] = {name: network.to(device) for name, network in networks.items()}
    else:
        folder = path
        parts = _load_networks(path, device, dtype)
    parts["tokenizer"] = _load_tokenizer(folder / "tokenizer")
    scheduler = _load_schedule(folder / "scheduler")
    parts["alphas_cumprod"] = scheduler.alphas_cumprod
    parts["prediction_type"] = scheduler.config.prediction_type
    _check_fit(path, parts, 2 if sees_source else 1)
    return parts


def _load_networks(path: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if not path.is_dir():
        raise ModelError(f"There is no model folder at {path}; pass one with --model.")
    missing = [name for name in FOLDERS if not (path / name).is_dir()]
    if missing:
        raise ModelError(
            f"{path} is not a Stable Diffusion folder in diffusers' layout: it lacks {', '.join(missing)}."
        )
    with quiet():
        return {
            name: load_network(network, path / name, dtype).to(device) for name, network in NETWORKS.items()
        }


def load_network(network: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network of a diffusers or transformers class from its folder: safetensors only, every weight in its place.

    Raises:
        ModelError: one line that says what is missing or torn.
    """
    weights = sorted(file.name for file in folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"{folder} holds no .safetensors weights; other formats are not read, convert them first."
        )
    # Hub snapshots fetched in half precision only have files called *.fp16.safetensors.
    variant = "fp16" if all(".fp16" in name for name in weights) else None
    model, info = read(
        folder,
        lambda: network.from_pretrained(
            folder, torch_dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        ),
    )  # fmt: skip
    lacking = [*info["missing_keys"], *info.get("mismatched_keys", ())]
    if lacking:
        raise ModelError(
            f"The weights in {folder} do not fit its config.json: {len(lacking)} tensors are missing or "
            f"misshapen, for example {lacking[0]}; fetch or save the model again."
        )
    return model


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    # Without its files transformers makes an empty tokenizer and says nothing.
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ModelError(
            f"{folder} holds neither tokenizer.json nor vocab.json; fetch or save the model again."
        )
    return read(folder, lambda: CLIPTokenizer.from_pretrained(folder, local_files_only=True))


def _load_schedule(folder: Path) -> DDPMScheduler:
    """The noise schedule, whichever of diffusers' samplers the folder names: they share its configuration."""
    config = read(folder, lambda: DDPMScheduler.load_config(folder, local_files_only=True))
    if "beta_schedule" not in config:
        raise ModelError(
            f"{folder} holds no diffusion schedule with betas (flow matching?); use a diffusion model."
        )
    return read(folder, lambda: DDPMScheduler.from_config(config))


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries draw one for every model they load, into the middle of our output."""
    libraries = [x for x in (transformers_logging, diffusers_logging) if x.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()


def read(folder: Path, load: Callable[[], Any]) -> Any:
    """Runs a library's loader; whatever it raises becomes one line that names the folder."""
    try:
        return load()
    except (
        Exception
    ) as error:  # the libraries raise a dozen types here, safetensors one that is an Exception only
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(f"Cannot load {folder}: {cause}; fetch or save the model again.") from error


def _check_fit(path: Path, parts: dict[str, Any], pictures: int) -> None:
    """Refuses models whose parts do not work together, before an edit does; the UNet takes so many latents."""
    unet, vae, text_encoder = parts["unet"], parts["vae"], parts["text_encoder"]
    if parts["prediction_type"] not in PREDICTION_TYPES:
        raise ModelError(
            f"{path} predicts '{parts['prediction_type']}'; known are {' and '.join(PREDICTION_TYPES)}."
        )
    if unet.config.in_channels != pictures * vae.config.latent_channels:
        raise ModelError(
            f"{path}: the UNet takes {unet.config.in_channels} channels, the autoencoder makes "
            f"{vae.config.latent_channels}; this is not a text-to-image model."
        )
    words, known = len(parts["tokenizer"]), text_encoder.config.vocab_size
    if words > known:
        raise ModelError(f"{path}: the tokenizer has {words} words, the text encoder knows {known}.")
    if unet.config.cross_attention_dim != text_encoder.config.hidden_size:
        raise ModelError(
            f"{path}: the UNet reads embeddings of width {unet.config.cross_attention_dim}, the text "
            f"encoder makes {text_encoder.config.hidden_size}; the parts belong to different models."
        )
