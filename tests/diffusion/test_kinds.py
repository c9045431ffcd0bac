"""Models of other kinds are named before anything is computed."""

import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from safetensors.torch import load_file, save_file

from piva_bench.diffusion.checkpoint import load_parts
from piva_bench.diffusion.kinds import check_kind
from piva_bench.diffusion.load import load_denoiser
from piva_bench.errors import ModelError
from tests.diffusion.original_layout import save_original

UNET = {
    "sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 2,
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 24,
}  # fmt: skip


@pytest.fixture
def folder(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "model")


def refusal(path) -> str:
    """The one line, the same from loading and from laying out a run; before any weight is read."""
    with pytest.raises(ModelError) as caught:
        check_kind(path)
    with pytest.raises(ModelError) as loading:
        load_denoiser(path)
    assert str(caught.value) == str(loading.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "text-to-image Stable Diffusion" in str(caught.value)
    return str(caught.value)


SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 40,
}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (SDXL, "an SDXL model"),
        ({"addition_embed_type": "image", "encoder_hid_dim": 24}, "'image', as of DeepFloyd IF"),
        ({"num_class_embeds": 10}, "a class-conditional model"),
        ({"class_embed_type": "timestep"}, "a class-conditional model"),
        (
            {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 24},
            "a picture's embedding ('image_proj')",
        ),
        ({"out_channels": 8}, "predicts 8 channels for latents of 4 and so a variance beside the noise"),
        ({"out_channels": 3}, "predicts 3 channels for latents of 4"),
    ],
)
def test_unets_that_want_or_predict_something_else(folder, changes, kind):
    UNet2DConditionModel(**UNET | changes).save_pretrained(folder / "unet")
    assert kind in refusal(folder)


def test_a_unet_without_text(folder):
    UNet2DModel(
        block_out_channels=(16, 32), norm_num_groups=8, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2, sample_size=8, in_channels=4, out_channels=4,
    ).save_pretrained(folder / "unet")  # fmt: skip
    assert "a model with a UNet2DModel" in refusal(folder)


def test_a_folder_with_two_text_encoders(folder):
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
    assert "an SDXL model" in refusal(folder)


def test_folders_of_parts_and_additions(folder, tmp_path):
    assert "a part of a model alone (diffusers' UNet2DConditionModel)" in refusal(folder / "unet")
    assert "a part of a model alone (diffusers' AutoencoderKL)" in refusal(folder / "vae")
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text("{}")
    assert "is a LoRA" in refusal(tmp_path / "peft")
    (tmp_path / "lora").mkdir()
    save_file(
        {"unet.a.lora_A.weight": torch.zeros(2)}, tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    )
    assert "is a LoRA" in refusal(tmp_path / "lora")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], "a LoRA"),
        (["unet.down_blocks.0.attentions.0.to_q.lora_A.weight", "text_encoder.x.lora_B.weight"], "a LoRA"),
        (["down_blocks.0.attentions.0.processor.to_q_lora.down.weight"], "a LoRA"),
        (["lora_unet_mid.hada_w1_a", "lora_unet_mid.hada_w1_b"], "a LoRA"),
        (["emb_params"], "a textual inversion"),
        (["<my-cup>"], "a textual inversion"),
        (["clip_l", "clip_g"], "a textual inversion"),
        (["control_model.input_blocks.0.0.weight", "control_model.x"], "a ControlNet"),
        (["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.x", "conv_in.weight"], "a ControlNet"),
        (["conditioner.embedders.1.model.x", "model.diffusion_model.label_emb.0"], "an SDXL model"),
        (["model.diffusion_model.joint_blocks.0.x", "first_stage_model.x"], "a flow model"),
        (["double_blocks.0.img_attn.qkv.weight", "img_in.weight"], "a flow model"),
        (["model.diffusion_model.label_emb.weight", "first_stage_model.x"], "a class-conditional model"),
        (["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], "a UNet alone"),
        (["model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.x"], "a UNet alone"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "an autoencoder alone"),
        (["text_model.embeddings.token_embedding.weight", "text_model.x"], "a text encoder alone"),
    ],
)
def test_files_of_other_things(tmp_path, names, kind):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "thing.safetensors")
    assert kind in refusal(tmp_path / "thing.safetensors")


def test_whole_models_are_let_through(folder, tmp_path):
    check_kind(folder)
    check_kind(save_original(folder, tmp_path / "model.safetensors"))
    # What others may learn to read: InstructPix2Pix's UNet, which sees the source beside the latents, and transformers.
    UNet2DConditionModel(**UNET | {"in_channels": 8}).save_pretrained(folder / "unet")
    check_kind(folder)
    (tmp_path / "flow" / "transformer").mkdir(parents=True)
    (tmp_path / "flow" / "text_encoder_2").mkdir()
    check_kind(tmp_path / "flow")


def test_twice_the_output_channels_in_one_file(folder, tmp_path):
    file = save_original(folder, tmp_path / "single.safetensors")
    state = load_file(file)
    assert "first_stage_model.post_quant_conv.weight" in state
    state["model.diffusion_model.out.2.weight"] = state["model.diffusion_model.out.2.weight"].repeat(
        2, 1, 1, 1
    )
    save_file(state, file)
    assert "predicts 8 channels for latents of 4" in refusal(file)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", b"\x03" + bytes(7) + b'"a"']
)
def test_torn_files_are_the_loaders_matter(tmp_path, content):
    (tmp_path / "torn.safetensors").write_bytes(content)
    check_kind(tmp_path / "torn.safetensors")


def test_it_is_said_before_weights_are_read_or_a_run_begins(cli, bench, tmp_path):
    shutil.copytree(bench / "model", tmp_path / "model")
    config = tmp_path / "model" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | SDXL))
    for file in (tmp_path / "model").rglob("*.safetensors"):
        file.write_bytes(b"never read")
    code, _, err = cli("run", "-m", "dds", "--model", tmp_path / "model", "-o", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "an SDXL model" in err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="an SDXL model"):
        load_parts(tmp_path / "model", torch.device("cpu"), torch.float32)


def test_the_embedded_model_is_none_of_these():
    from piva_bench.paths import embedded_model_dir

    check_kind(embedded_model_dir())
