"""Aliases, single files, and what is said when a model is not there."""

import shutil
from fnmatch import fnmatch

import pytest
import torch

from piva_bench import fetch as fetching
from piva_bench.diffusion import aliases
from piva_bench.diffusion.fingerprints import fingerprint
from piva_bench.diffusion.load import load_denoiser
from piva_bench.errors import ModelError, UnknownName, UserError
from piva_bench.profiles import resolve_model
from tests.diffusion.original_layout import save_original
from tests.tiny_sd import make_tiny_sd


@pytest.fixture
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", str(tmp_path / "evaluators"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(file_download, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    return tmp_path


@pytest.mark.parametrize("name", aliases.ALIASES)
def test_a_model_that_is_not_here_is_one_line_with_command_and_place(name, nothing_cached):
    with pytest.raises(ModelError) as caught:
        resolve_model(name)
    message = str(caught.value)
    assert f"`piva-bench models fetch {name}`" in message
    assert str(nothing_cached / "models" / name) in message
    assert "\n" not in message


def test_a_local_copy_and_the_hub_cache_are_found(nothing_cached, tiny_sd):
    from huggingface_hub.file_download import repo_folder_name

    alias = aliases.ALIASES["sd-1.5"]
    folder = repo_folder_name(repo_id=alias.repository, repo_type="model")
    snapshot = nothing_cached / "hub" / folder / "snapshots" / alias.revision
    shutil.copytree(tiny_sd, snapshot)
    assert resolve_model("sd-1.5") == snapshot
    assert load_denoiser(resolve_model("sd-1.5")).prediction_type == "epsilon"
    shutil.rmtree(snapshot / "vae")  # an interrupted download is no model
    with pytest.raises(ModelError, match="fetch sd-1.5"):
        resolve_model("sd-1.5")
    own = nothing_cached / "models" / "sd-1.5"
    shutil.copytree(tiny_sd, own)
    assert resolve_model("sd-1.5") == own


def test_aliases_are_pinned_to_commits():
    for alias in aliases.ALIASES.values():
        assert len(alias.revision) == 40
        int(alias.revision, 16)
        assert not alias.repository.startswith(
            ("runwayml/", "stabilityai/stable-diffusion-2")
        )  # gone from the hub


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_single_file_is_the_folder_it_was_made_of(tmp_path, prediction_type, dtype):
    folder = make_tiny_sd(tmp_path / "sd", prediction_type=prediction_type)
    file = save_original(folder, tmp_path / "tiny.safetensors")
    assert resolve_model(str(file)) == file
    one, other = (load_denoiser(path, dtype=dtype) for path in (folder, file))
    assert other.prediction_type == prediction_type
    assert other.unet.dtype == other.vae.dtype == other.text_encoder.dtype == dtype
    for name in ("unet", "vae", "text_encoder"):
        expected, got = getattr(one, name).state_dict(), getattr(other, name).state_dict()
        assert set(expected) == set(got)
        assert all(torch.equal(expected[key], got[key]) for key in expected), name
    assert torch.equal(one.condition(["a red cup"]).text, other.condition(["a red cup"]).text)


def test_a_single_file_has_a_fingerprint_of_weights_and_configuration(tmp_path, tiny_sd):
    file = save_original(tiny_sd, tmp_path / "tiny.safetensors")
    before = fingerprint(file)
    assert before == fingerprint(file) == load_denoiser(file).fingerprint
    config = tmp_path / "tiny" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("epsilon", "v_prediction"))
    assert fingerprint(file) != before


def test_what_is_wrong_with_a_single_file_is_one_line(tmp_path, tiny_sd, monkeypatch):
    file = save_original(tiny_sd, tmp_path / "tiny.safetensors")

    def refusal():
        with pytest.raises(ModelError) as caught:
            load_denoiser(file)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    shutil.move(tmp_path / "tiny", tmp_path / "elsewhere")
    assert "PIVA_BENCH_MODEL_CONFIG" in refusal()
    monkeypatch.setenv("PIVA_BENCH_MODEL_CONFIG", str(tmp_path / "elsewhere"))
    assert load_denoiser(file).resolution == 32
    content = file.read_bytes()
    file.write_bytes(content[:1000])
    assert "Cannot load" in refusal()
    pickled = tmp_path / "tiny.ckpt"
    pickled.write_bytes(b"")
    with pytest.raises(ModelError, match="no .safetensors file"):
        resolve_model(str(pickled))


def test_fetch_without_a_network_is_one_line(nothing_cached):
    for name in ("sd-1.5", "dino-vitb8"):
        with pytest.raises(UserError) as caught:
            fetching.fetch(name)
        assert str(caught.value).startswith(f"Cannot fetch {name} from ")
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownName, match="sd-1.5"):
        fetching.fetch("sd-15")


def test_fetch_takes_the_pinned_revision_and_safetensors_only(monkeypatch, tmp_path):
    import huggingface_hub
    import torch.hub

    asked = []

    def snapshot_download(repository, revision, allow_patterns):
        asked.append((repository, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert fetching.fetch("sd-1.4") == tmp_path
    ((repository, revision, patterns),) = asked
    assert (repository, revision) == ("CompVis/stable-diffusion-v1-4", aliases.ALIASES["sd-1.4"].revision)
    assert patterns == list(aliases.FILES)
    for alias in aliases.PUBLISHED.values():
        endings = (".json", ".txt", ".model", ".safetensors")
        assert all(pattern.endswith(endings) and "fp16" not in pattern for pattern in alias.files)
        assert not any(
            fnmatch("text_encoder_3/model.fp16-00001-of-00002.safetensors", p) for p in alias.files
        )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    calls = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: calls.append((a, k)))
    fetching.fetch("lpips-vgg")
    assert calls[0][1]["hash_prefix"] == "397923af"
