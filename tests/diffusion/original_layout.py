"""The reverse of diffusers' conversion: a tiny diffusers folder as one file in the original code base's names.

Written for the tests' tiny model (two UNet levels, three VAE levels, one layer a block).
"""

from pathlib import Path

from safetensors.torch import load_file, save_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    # One layer a level: input_blocks.1 is level 0, .2 its downsampler, .3 level 1.
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    # Two layers a level on the way up; the upsampler follows the last of level 0.
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def _renamed(name: str, table: dict[str, str]) -> str | None:
    for ours, theirs in sorted(table.items(), key=lambda pair: -len(pair[0])):
        if name == ours or name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    return None


def _unet(name: str) -> str:
    new = _renamed(name, UNET)
    assert new, name
    if ".resnets." in name:
        block = next(key for key in UNET if name.startswith(key + "."))
        new = f"{UNET[block]}.{_renamed(name[len(block) + 1 :], RESNET)}"
    return "model.diffusion_model." + new


def _vae(name: str) -> str:
    new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    levels = 3
    parts = new.split(".")
    if parts[1] == "down_blocks":
        kind = "block" if parts[3] == "resnets" else "downsample"
        rest = parts[4:] if kind == "block" else parts[5:]
        new = ".".join(["encoder", "down", parts[2], kind, *rest])
    elif parts[1] == "up_blocks":
        kind = "block" if parts[3] == "resnets" else "upsample"
        rest = parts[4:] if kind == "block" else parts[5:]
        new = ".".join(["decoder", "up", str(levels - 1 - int(parts[2])), kind, *rest])
    elif parts[1] == "mid_block" and parts[2] == "resnets":
        new = ".".join([parts[0], "mid", f"block_{int(parts[3]) + 1}", *parts[4:]])
    elif parts[1] == "mid_block":
        new = f"{parts[0]}.mid.attn_1." + str(_renamed(".".join(parts[4:]), ATTENTION))
    # A down- or upsampler's own name survives: "conv".
    new = new.replace("downsample.weight", "downsample.conv.weight").replace(
        "downsample.bias", "downsample.conv.bias"
    )
    new = new.replace("upsample.weight", "upsample.conv.weight").replace(
        "upsample.bias", "upsample.conv.bias"
    )
    return "first_stage_model." + new


def save_original(folder: Path, file: Path) -> Path:
    """Writes the weights of a diffusers folder to one file, and its configurations beside it."""
    state = {}
    for name, value in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        state[_unet(name)] = value
    for name, value in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        # The original's attention projections are 1x1 convolutions.
        conv = ".attentions." in name and value.ndim == 2
        state[_vae(name)] = value[:, :, None, None].clone() if conv else value
    for name, value in load_file(folder / "text_encoder" / "model.safetensors").items():
        inner = name if name.startswith("text_model.") else f"text_model.{name}"
        state[f"cond_stage_model.transformer.{inner}"] = value
    save_file(state, file)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".txt"):
            target = file.with_suffix("") / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return file
