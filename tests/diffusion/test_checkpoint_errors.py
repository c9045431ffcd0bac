import json
import shutil

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from piva_bench.diffusion.load import load_denoiser
from piva_bench.errors import ModelError
from tests.tiny_sd import make_tokenizer


@pytest.fixture
def folder(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "model")


def refusal(folder) -> str:
    with pytest.raises(ModelError) as caught:
        load_denoiser(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def edit_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_no_folder(tmp_path):
    assert "no model folder" in refusal(tmp_path / "nowhere")


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "unet").mkdir()
    assert "lacks vae, text_encoder, tokenizer, scheduler" in refusal(tmp_path)


@pytest.mark.parametrize("network", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("length", [0, 7, 5000])
def test_torn_weights(folder, network, length):
    file = next((folder / network).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:length])
    assert network in refusal(folder)


def test_weights_in_another_format(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    torch.save(load_file(file), folder / "unet" / "diffusion_pytorch_model.bin")
    file.unlink()
    assert "no .safetensors weights" in refusal(folder)


@pytest.mark.parametrize("network", ["unet", "vae", "text_encoder"])
def test_incomplete_weights(folder, network):
    file = next((folder / network).glob("*.safetensors"))
    weights = load_file(file)
    weights.pop(sorted(weights)[-1])
    save_file(weights, file, metadata={"format": "pt"})
    assert network in refusal(folder)


def test_weights_of_another_shape(folder):
    edit_json(folder / "unet" / "config.json", cross_attention_dim=40)
    assert "unet" in refusal(folder)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_broken_configuration(folder, name, content):
    (folder / name / "config.json").write_text(content)
    assert name in refusal(folder)


def test_a_broken_schedule(folder):
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    assert "scheduler" in refusal(folder)


def test_no_tokenizer_files(folder):
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    assert "tokenizer" in refusal(folder)


def test_a_tokenizer_of_another_model(folder):
    edit_json(folder / "text_encoder" / "config.json", vocab_size=50)
    file = folder / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("token_embedding.weight"))
    save_file(weights | {name: weights[name][:50].clone()}, file, metadata={"format": "pt"})
    assert "the text encoder knows 50" in refusal(folder)


def test_vocabulary_and_merges_serve_as_well_as_tokenizer_json(folder, denoiser):
    # The layout of Stable Diffusion's own repositories.
    for file in (folder / "tokenizer").iterdir():
        if file.name != "tokenizer_config.json":
            file.unlink()
    make_tokenizer(folder / "tokenizer")
    prompts = ["the thing", "A red cup, 3 boats!"]
    loaded = load_denoiser(folder)
    torch.testing.assert_close(loaded.condition(prompts).text, denoiser.condition(prompts).text)


def test_a_prediction_type_we_do_not_convert(folder):
    edit_json(folder / "scheduler" / "scheduler_config.json", prediction_type="sample")
    assert "'sample'" in refusal(folder)


def test_a_flow_matching_model(folder):
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    assert "flow matching" in refusal(folder)


def test_parts_of_different_models(folder, tmp_path):
    denoiser = load_denoiser(folder)
    config = dict(denoiser.unet.config) | {"cross_attention_dim": 32}
    type(denoiser.unet).from_config(config).save_pretrained(folder / "unet")
    assert "width 32" in refusal(folder)


@pytest.mark.parametrize("shape", [(1, 3, 30, 32), (1, 1, 32, 32), (3, 32, 32), (1, 4, 32, 32)])
def test_pictures_the_networks_do_not_take(denoiser, shape):
    with pytest.raises(ModelError, match="multiples of 4"):
        denoiser.encode_images(torch.zeros(shape))


def test_weights_saved_in_half_precision_load_with_and_without_the_suffix(folder):
    for network in ("unet", "vae", "text_encoder"):
        file = next((folder / network).glob("*.safetensors"))
        halved = {name: value.half() for name, value in load_file(file).items()}
        save_file(halved, file, metadata={"format": "pt"})
    plain = load_denoiser(folder)
    assert plain.unet.dtype == plain.vae.dtype == plain.text_encoder.dtype == torch.float32
    for network in ("unet", "vae", "text_encoder"):
        file = next((folder / network).glob("*.safetensors"))
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    suffixed = load_denoiser(folder)
    assert torch.equal(plain.unet.conv_in.weight, suffixed.unet.conv_in.weight)
