"""pnp-v1 against torchmetrics, transformers and closed forms; each quirk of the official calculator by itself."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchmetrics.functional.image.lpips import _LPIPS
from transformers import CLIPModel, ViTConfig, ViTModel

from piva_bench.errors import ModelError
from piva_bench.metrics.clip_score import ClipScore
from piva_bench.metrics.dino import Dino, self_similarity
from piva_bench.metrics.evaluators import EVALUATORS, locate
from piva_bench.metrics.lpips_model import FILES, Lpips
from piva_bench.metrics.pnp_v1 import protocol as pnp
from piva_bench.metrics.protocol import MetricProtocol, Pair
from tests.metrics.pictures import PROMPTS, noisy, photograph


@pytest.fixture(scope="module")
def protocol(paper_models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIVA_BENCH_EVALUATORS", str(paper_models))
        return pnp.PnpV1()


@pytest.fixture
def pair():
    source = photograph()
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:40, 20:50] = True
    return Pair(source, noisy(source, 12), None, mask, *PROMPTS)


@pytest.fixture
def saved_as_is(monkeypatch):
    """Without the JPEG round trip, so that closed forms hold to the last digit."""
    monkeypatch.setattr(pnp, "as_saved", lambda picture: picture)


def tensor(picture):
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255


def test_it_is_a_protocol_with_a_value_for_every_metric(protocol, pair):
    assert isinstance(protocol, MetricProtocol)
    scores = protocol.score(pair)
    assert set(scores.values) == set(protocol.descriptors)
    assert not scores.undefined
    assert protocol.score(pair) == scores
    assert protocol.fingerprint.startswith(
        pnp.UNOFFICIAL
    )  # a tiny DINO is not ViT-B/8, and is said not to be


def test_quirk_the_edit_goes_through_jpeg(protocol, pair):
    same = dataclasses.replace(pair, edited=pair.source)
    scores = protocol.score(same).values
    buffer = io.BytesIO()
    Image.fromarray(pair.source).save(buffer, "JPEG")
    compressed = np.asarray(Image.open(buffer)).astype(float)
    assert scores["mse"] == pytest.approx(((compressed - pair.source) ** 2).mean() / 255**2, rel=1e-4)
    assert scores["mse"] > 0
    # An edit that already is such a JPEG hardly changes when it is saved again.
    again = np.asarray(pnp.as_saved(compressed.astype(np.uint8))).astype(float)
    assert ((again - compressed) ** 2).mean() < 0.1 * ((compressed - pair.source) ** 2).mean()


def test_an_edit_out_of_a_jpeg_file_is_not_compressed_again(protocol, pair):
    buffer = io.BytesIO()
    Image.fromarray(pair.edited).save(buffer, "JPEG")
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    saved = dataclasses.replace(pair, edited=decoded, edited_is_jpeg=True)
    scores = protocol.score(saved)
    assert scores.values["mse"] == pytest.approx(((decoded / 255 - pair.source / 255) ** 2).mean(), rel=1e-5)
    # The same picture before it was saved comes to the same numbers.
    assert scores == protocol.score(pair)
    twice = protocol.score(dataclasses.replace(saved, edited_is_jpeg=False)).values
    assert twice["mse"] != scores.values["mse"]


def test_what_is_not_reproduced_is_as_small_as_the_docstring_says(protocol):
    """Cutting values off to the level below, as the official scripts do, against rounding them."""
    source = photograph(128)
    exact = np.clip(source + np.random.default_rng(3).normal(0, 12, source.shape), 0, 255)
    rounded, cut = exact.round().astype(np.uint8), exact.astype(np.uint8)
    errors = [
        protocol.score(Pair(source, edited, None, None, *PROMPTS)).values["mse"] * 1e4
        for edited in (rounded, cut)
    ]
    assert 0 < abs(errors[1] - errors[0]) < 0.12


def test_quirk_a_panel_of_the_official_strip_is_compressed_as_if_alone(pair):
    panels = [photograph(512), noisy(photograph(512), 20)]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(panels, axis=1)).save(buffer, "JPEG")
    strip = np.asarray(Image.open(buffer))
    # Up to the decoder's chroma filter, which looks one pixel over the edge.
    assert (strip[:, 514:] == pnp.as_saved(panels[1])[:, 2:]).all()


def test_quirk_the_outer_ring_belongs_to_the_edit_region(protocol, pair):
    ringed = pair.mask.copy()
    ringed[0] = ringed[-1] = ringed[:, 0] = ringed[:, -1] = True
    assert protocol.score(pair) == protocol.score(dataclasses.replace(pair, mask=ringed))
    assert (pnp.with_border(pair.mask) == ringed).all()
    bare = protocol.score(dataclasses.replace(pair, mask=np.zeros((64, 64), bool)))
    assert not bare.undefined  # because of the ring an edit region is never empty
    assert bare.values["mse_edit_part"] > 0


@pytest.mark.usefixtures("saved_as_is")
def test_quirk_masked_errors_are_averaged_over_the_whole_frame(protocol, pair):
    keep = ~pnp.with_border(pair.mask)
    squares = (pair.source.astype(float) - pair.edited) ** 2 / 255**2
    scores = protocol.score(pair).values
    whole = squares[keep].sum() / (64 * 64 * 3)
    assert scores["mse_unedit_part"] == pytest.approx(whole, rel=1e-5)
    assert scores["psnr_unedit_part"] == pytest.approx(-10 * np.log10(whole), rel=1e-5)
    assert scores["mse_unedit_part"] < 0.9 * squares[keep].mean()


def plain_ssim(first, second):
    """The SSIM map of Wang et al., by scipy; borders mirrored as torchmetrics does."""
    from scipy.ndimage import gaussian_filter

    def blur(values):
        return gaussian_filter(values, (1.5, 1.5, 0), truncate=3.5, mode="mirror")

    one, other = blur(first), blur(second)
    variances = blur(first**2) - one**2 + blur(second**2) - other**2
    covariance = blur(first * second) - one * other
    luminance = (2 * one * other + 0.01**2) / (one**2 + other**2 + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)


@pytest.mark.usefixtures("saved_as_is")
def test_quirk_ssim_is_that_of_the_blacked_out_frames(protocol, pair):
    keep = ~pnp.with_border(pair.mask)
    similarity = plain_ssim(*(picture / 255 * keep[..., None] for picture in (pair.source, pair.edited)))
    ours = protocol.score(pair).values["ssim_unedit_part"]
    assert ours == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-4)
    assert ours > similarity[keep].mean() + 0.01


@pytest.mark.usefixtures("saved_as_is")
@pytest.mark.parametrize("metric", ["ssim", "ssim_unedit_part", "ssim_edit_part"])
def test_quirk_ssim_leaves_out_five_pixels_at_each_border(protocol, pair, metric):
    """Noise in the border alone: the whole map's mean, which newer torchmetrics returns, is far off."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    edited = pair.edited.copy()
    edited[:5] = noisy(pair.source, 120)[:5]
    region = {
        "ssim": 1,
        "ssim_unedit_part": ~pnp.with_border(pair.mask),
        "ssim_edit_part": pnp.with_border(pair.mask),
    }
    kept = np.broadcast_to(region[metric], (64, 64))[..., None]
    similarity = plain_ssim(pair.source / 255 * kept, edited / 255 * kept)
    ours = protocol.score(dataclasses.replace(pair, edited=edited)).values[metric]
    assert ours == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-4)
    if metric == "ssim":
        whole = structural_similarity_index_measure(
            tensor(pair.source)[None], tensor(edited)[None], data_range=1.0
        )
        assert ours > float(whole) + 0.02


def test_the_fingerprint_names_the_libraries_that_decide_numbers(protocol, monkeypatch):
    def fingerprint():
        return pnp.PnpV1(protocol._dino, protocol._clip, protocol._lpips).fingerprint

    assert fingerprint() == protocol.fingerprint
    tokenizer = protocol._clip.tokenizer
    protocol._clip.tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 1})
    assert fingerprint() != protocol.fingerprint
    protocol._clip.tokenizer = tokenizer
    real = pnp.versions
    monkeypatch.setattr(pnp, "versions", lambda *names: [*real(*names)[:-1], "torchmetrics 1.4.0"])
    assert fingerprint() != protocol.fingerprint
    monkeypatch.setattr(pnp, "versions", real)
    monkeypatch.setattr(pnp.features, "version", lambda name: "1.0")
    assert fingerprint() != protocol.fingerprint


def torchmetrics_lpips(state):
    """torchmetrics' own LPIPS with its own heads, on our trunk."""
    model = _LPIPS(pretrained=True, net="squeeze", pnet_rand=True, eval_mode=True)
    model.net.load_state_dict({n: state["features." + n.split(".", 2)[2]] for n in model.net.state_dict()})
    return model


@pytest.mark.usefixtures("saved_as_is")
def test_quirk_lpips_squeeze_sees_minus_one_in_the_hole(protocol, pair, paper_models):
    from safetensors.torch import load_file

    reference = torchmetrics_lpips(load_file(paper_models / "lpips-squeeze" / "model.safetensors"))
    keep = torch.from_numpy(~pnp.with_border(pair.mask))
    with torch.no_grad():
        holes = [(tensor(picture) * keep)[None] * 2 - 1 for picture in (pair.source, pair.edited)]
        zeros = [((tensor(picture) * 2 - 1) * keep)[None] for picture in (pair.source, pair.edited)]
        expected, otherwise = float(reference(*holes)), float(reference(*zeros))
        whole = float(reference(*(tensor(p)[None] * 2 - 1 for p in (pair.source, pair.edited))))
    scores = protocol.score(pair).values
    assert scores["lpips_unedit_part"] == pytest.approx(expected, rel=1e-4)
    assert scores["lpips_unedit_part"] != pytest.approx(otherwise, rel=1e-3)
    assert scores["lpips"] == pytest.approx(whole, rel=1e-4)


def hugging_face_keys(dino, values):
    """The last keys by transformers' ViT with the same weights."""
    state, (width, _, patch, _) = dino.vit.state_dict(), dino.vit.patch_embed.proj.weight.shape
    depth = len(dino.vit.blocks)
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 64, intermediate_size=4 * width,
        image_size=dino.size, patch_size=patch, layer_norm_eps=1e-6, attn_implementation="eager",
    )  # fmt: skip
    model = ViTModel(config, add_pooling_layer=False).eval()
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
        "layernorm.weight": "norm.weight",
        "layernorm.bias": "norm.bias",
    }
    target = model.state_dict()
    found = {ours: state[theirs] for ours, theirs in names.items()}
    keys = []
    for name in target:
        if name in found:
            continue
        layer = next(int(part) for part in name.split(".") if part.isdigit())
        block, kind = f"blocks.{layer}.", name.rsplit(".", 1)[1]
        if any(f".{side}" in name for side in ("query", "key", "value", "q_proj", "k_proj", "v_proj")):
            index = next(
                i
                for i, side in enumerate("qkv")
                if any(f".{word}." in name for word in ((("query", "key", "value")[i]), f"{side}_proj"))
            )
            found[name] = state[f"{block}attn.qkv.{kind}"].chunk(3)[index]
            if index == 1 and layer == depth - 1:
                keys.append(name.rsplit(".", 1)[0])
        elif "layernorm_before" in name or "layernorm_after" in name:
            found[name] = state[f"{block}norm{1 if 'before' in name else 2}.{kind}"]
        elif "attention" in name:
            found[name] = state[f"{block}attn.proj.{kind}"]
        else:
            first = "intermediate" in name or "fc1" in name
            found[name] = state[f"{block}mlp.{'fc1' if first else 'fc2'}.{kind}"]
    model.load_state_dict(found)
    seen = []
    model.get_submodule(keys[0]).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model(values)
    return seen[0]


def structure(dino, first, second, scale, antialias=False, class_token=True):
    """The structure distance written down plainly, on transformers' ViT."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    batch = torch.stack([tensor(first), tensor(second)]) * scale
    batch = F.interpolate(batch, (224, 224), mode="bilinear", align_corners=False, antialias=antialias)
    keys = hugging_face_keys(dino, (batch - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    keys = F.normalize(keys if class_token else keys[:, 1:], dim=2)
    one, other = keys @ keys.mT
    return float(((one - other) ** 2).mean())


@pytest.mark.usefixtures("saved_as_is")
def test_quirks_of_the_structure_distance(protocol, paper_models):
    """0 to 255, class token, no antialiasing: each changes the number, and only all of them give ours."""
    dino = Dino.load(paper_models / "dino-vitb8")
    source = photograph(512)
    edited = noisy(source, 12)
    ours = protocol.score(Pair(source, edited, None, None, *PROMPTS)).values["structure_distance"]
    assert ours == pytest.approx(structure(dino, source, edited, 255), rel=2e-4)
    for otherwise in (
        structure(dino, source, edited, 1),
        structure(dino, source, edited, 255, antialias=True),
        structure(dino, source, edited, 255, class_token=False),
    ):
        assert ours != pytest.approx(otherwise, rel=1e-3)


def test_self_similarity_of_known_vectors():
    keys = torch.tensor([[[3.0, 0], [0, 2], [1, 1], [0, 0]]])
    half = 0.5**0.5
    expected = torch.tensor([[1, 0, half, 0], [0, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(self_similarity(keys)[0], expected)


@pytest.mark.usefixtures("saved_as_is")
def test_clip_scores_are_torchmetrics(protocol, pair, paper_models):
    from torchmetrics.functional.multimodal import clip_score
    from transformers import CLIPImageProcessor, CLIPProcessor

    folder = paper_models / "clip-vit-l14"
    model = CLIPModel.from_pretrained(folder)
    # This torchmetrics knows the transformers library before it wrapped embeddings into output objects.
    for name in ("get_image_features", "get_text_features"):
        wrapped = getattr(model, name)
        setattr(model, name, lambda *args, call=wrapped: getattr(out := call(*args), "pooler_output", out))
    tokenizer = ClipScore.load(folder).tokenizer
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = CLIPProcessor(image_processor=images, tokenizer=tokenizer)

    def reference(picture, text):
        values = torch.from_numpy(picture.copy()).permute(2, 0, 1)
        return float(clip_score(values, text, model_name_or_path=lambda: (model, processor)))

    scores = protocol.score(pair).values
    black = pair.edited * pnp.with_border(pair.mask)[..., None]
    for name, picture, text in (
        ("clip_similarity_source_image", pair.source, pair.source_prompt),
        ("clip_similarity_target_image", pair.edited, pair.target_prompt),
        ("clip_similarity_target_image_edit_part", black, pair.target_prompt),
    ):
        # Pillow's and torchvision's bicubic filters differ by rounding.
        assert scores[name] == pytest.approx(reference(picture, text), abs=0.15), name


def test_quirk_clip_score_is_never_negative(protocol, pair):
    texts = ["a", "blue cat", "the thing", "A red cup, 3 boats!", "zzz", "horse"]
    clip = protocol._clip
    ours = [clip.score(pair.source, text) for text in texts]
    head = clip.model.visual_projection.weight.data
    head.neg_()
    flipped = [clip.score(pair.source, text) for text in texts]
    head.neg_()
    assert all(min(one, other) == 0 and max(one, other) > 0 for one, other in zip(ours, flipped, strict=True))


def test_quirk_a_region_without_pixels_has_no_value(protocol, pair):
    full = protocol.score(dataclasses.replace(pair, mask=np.ones((64, 64), bool)))
    names = [f"{metric}_unedit_part" for metric in ("psnr", "lpips", "mse", "ssim")]
    assert set(full.undefined) == set(names)
    assert all("covers the whole picture" in full.undefined[name] for name in names)
    without = protocol.score(dataclasses.replace(pair, mask=None))
    assert all(without.values[name] is None for name in names)
    assert without.values["clip_similarity_target_image_edit_part"] is None
    assert without.values["structure_distance"] is not None


@pytest.mark.usefixtures("saved_as_is")
def test_equal_pictures(protocol, pair):
    scores = protocol.score(dataclasses.replace(pair, edited=pair.source))
    assert set(scores.undefined) == {"psnr", "psnr_unedit_part", "psnr_edit_part"}
    assert scores.values["structure_distance"] == scores.values["lpips"] == scores.values["mse"] == 0
    assert scores.values["ssim_unedit_part"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["dino-vitb8", "clip-vit-l14", "lpips-squeeze"])
def test_a_missing_model_is_one_line_that_says_where_it_may_lie(name, tmp_path, monkeypatch, paper_models):
    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for other in EVALUATORS:
        if other != name and (paper_models / other).exists():
            monkeypatch.setenv(EVALUATORS[other].variable, str(paper_models / other))
    with pytest.raises(ModelError) as caught:
        pnp.PnpV1()
    message = str(caught.value)
    assert f"piva-bench models fetch {name}" in message
    assert str(tmp_path / name) in message
    assert EVALUATORS[name].variable in message
    assert "\n" not in message
    monkeypatch.setenv(EVALUATORS[name].variable, str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="nowhere"):
        pnp.PnpV1()


def test_torn_and_foreign_weights_are_one_line(tmp_path, paper_models):
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    for load in (Dino.load, lambda folder: Lpips.load("squeeze", folder), ClipScore.load):
        with pytest.raises(ModelError) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no weights of LPIPS-alex"):
        Lpips.load("alex", paper_models / "dino-vitb8")
    with pytest.raises(ModelError, match="no weights of a DINO"):
        Dino.load(paper_models / "lpips-alex")
    # A name that promises a hash is held to it; a pickle that runs code is refused.
    import pickle

    evil = tmp_path / FILES["squeeze"]
    evil.write_bytes(pickle.dumps(print))
    with pytest.raises(ModelError, match="SHA-256 begins with"):
        Lpips.load("squeeze", tmp_path)


def test_models_are_found_at_their_own_variable(tmp_path, monkeypatch, paper_models):
    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", str(tmp_path))
    monkeypatch.setenv("PIVA_BENCH_DINO_VITB8", str(paper_models / "dino-vitb8" / "model.safetensors"))
    assert locate("dino-vitb8") == paper_models / "dino-vitb8"
