"""What kind of model lies at a path, told from its configurations and tensor names before anything is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from piva_bench.errors import ModelError

WANTED = "give the folder or file of a whole text-to-image Stable Diffusion"

_LARGEST_HEADER = 100 * 2**20
"""Of a safetensors file, as the library itself has it."""

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor names with their shapes."""


def check_kind(path: Path) -> None:
    """Refuses models of kinds that no method here can edit with.

    What cannot be read is passed over: whoever loads it says what is torn or missing.

    Raises:
        ModelError: one line that names the kind.
    """
    kind = _kind_of_file(tensor_shapes(path)) if path.is_file() else _kind_of_folder(path)
    if kind:
        raise ModelError(f"{path} is {kind}: {WANTED}.")


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The header of a safetensors file; empty where there is none that can be read."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LARGEST_HEADER:
                return {}
            header = json.loads(stream.read(length))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _kind_of_folder(folder: Path) -> str | None:
    if not folder.is_dir() or (folder / "transformer").is_dir():
        return None
    if not (folder / "unet").is_dir():
        return _kind_of_part(folder)
    unet, vae = (_config(folder / name / "config.json") for name in ("unet", "vae"))
    if unet.get("addition_embed_type") == "text_time" or (folder / "text_encoder_2").is_dir():
        return _SDXL
    # "text" alone is made of the prompt's own embeddings; the embedded model has it.
    if (name := unet.get("addition_embed_type")) not in (None, "text"):
        return f"a model whose UNet wants more embeddings than the prompt's ('{name}', as of DeepFloyd IF or Kandinsky)"
    if unet.get("class_embed_type") or unet.get("num_class_embeds"):
        return _LABELS
    if unet.get("encoder_hid_dim_type") not in (None, "text_proj"):
        return f"a model whose UNet wants a picture's embedding ('{unet['encoder_hid_dim_type']}')"
    name = unet.get("_class_name", "UNet2DConditionModel")
    if name != "UNet2DConditionModel":
        return f"a model with a {name}, not the UNet2DConditionModel of Stable Diffusion"
    predicted, latent = unet.get("out_channels"), vae.get("latent_channels")
    if isinstance(predicted, int) and isinstance(latent, int) and predicted != latent:
        return _of_outputs(predicted, latent)
    return None


def _of_outputs(predicted: int, latent: int) -> str:
    learned = " and so a variance beside the noise (learned variance)" if predicted == 2 * latent else ""
    return f"a model whose UNet predicts {predicted} channels for latents of {latent}{learned}"


def _kind_of_part(folder: Path) -> str | None:
    """Of a folder without a UNet's: a part of a model, or something to be added to one."""
    if (folder / "adapter_config.json").is_file():
        return _LORA
    name = _config(folder / "config.json").get("_class_name")
    if name:
        return f"a part of a model alone (diffusers' {name})"
    kinds = {
        kind for file in sorted(folder.glob("*.safetensors")) if (kind := _kind_of_file(tensor_shapes(file)))
    }
    return kinds.pop() if len(kinds) == 1 else None


_SDXL = "an SDXL model, whose UNet wants a second text encoder's embeddings and picture sizes"
_LABELS = (
    "a class-conditional model (as upscalers and unCLIP are), whose UNet wants a label beside the prompt"
)
_LORA = "a LoRA, an addition to a model"
_FLOW = "a flow model (SD3 or FLUX) in one file, which is read as a diffusers folder only"

_ANYWHERE = {
    ".lora_": _LORA, "lora_unet_": _LORA, "lora_te": _LORA, ".lora.": _LORA, "_lora.": _LORA, "hada_w1": _LORA,
    "lokr_w1": _LORA, "joint_blocks.": _FLOW, "double_blocks.": _FLOW,
}  # fmt: skip
"""Parts of tensor names that only these have."""

_ADDITIONS = {
    ("control_model.", "controlnet_", "input_hint_block."): "a ControlNet, an addition to a model",
    (
        "emb_params",
        "string_to_param",
        "clip_l",
        "clip_g",
    ): "a textual inversion, an embedding to be added to a model",
    ("conditioner.embedders.",): _SDXL,
    ("model.diffusion_model.label_emb.",): _LABELS,
}
"""Beginnings of tensor names that no whole Stable Diffusion has."""

_PARTS = {
    (
        "model.diffusion_model.",
        "down_blocks.",
        "input_blocks.",
        "unet.",
    ): "a UNet alone, without an autoencoder",
    ("encoder.", "decoder.", "first_stage_model."): "an autoencoder alone",
    ("text_model.", "cond_stage_model."): "a text encoder alone",
}
"""Beginnings of tensor names by which a file is a part of one, if it is no whole."""


def _kind_of_file(shapes: Shapes) -> str | None:
    """Of a single file by its tensors' names; None for a Stable Diffusion, and for what is not known."""

    def first(table: Mapping[tuple[str, ...], str]) -> str | None:
        return next(
            (kind for marks, kind in table.items() if any(name.startswith(marks) for name in shapes)), None
        )

    if marked := next(
        (kind for mark, kind in _ANYWHERE.items() if any(mark in name for name in shapes)), None
    ):
        return marked
    if addition := first(_ADDITIONS):
        return addition
    if len(shapes) == 1 and all(len(shape) <= 2 for shape in shapes.values()):
        return _ADDITIONS["emb_params", "string_to_param", "clip_l", "clip_g"]  # as diffusers saves one
    outputs = shapes.get("model.diffusion_model.out.2.weight", ())
    latent = shapes.get("first_stage_model.post_quant_conv.weight", ())
    if outputs and latent and outputs[0] != latent[0]:
        return _of_outputs(outputs[0], latent[0])
    whole = all(
        any(name.startswith(part) for name in shapes)
        for part in ("model.diffusion_model.", "first_stage_model.")
    )
    return None if whole else first(_PARTS)


def _config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
