"""clean against lpips, open_clip, skimage and closed forms."""

import dataclasses

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from piva_bench.errors import ModelError, UnknownName
from piva_bench.metrics.clean.protocol import Clean
from piva_bench.metrics.clip_tower import ClipTower
from piva_bench.metrics.protocol import MetricProtocol, Pair
from tests.metrics.paper_models import OPEN_CLIP
from tests.metrics.pictures import PROMPTS, noisy, photograph


@pytest.fixture(scope="module")
def protocol(paper_models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIVA_BENCH_EVALUATORS", str(paper_models))
        return Clean()


@pytest.fixture
def pair():
    source = photograph()
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:40, 20:50] = True
    return Pair(source, noisy(source, 12), None, mask, *PROMPTS)


def test_it_is_a_protocol_with_a_value_for_every_metric_of_its_towers(protocol, pair):
    assert isinstance(protocol, MetricProtocol)
    scores = protocol.score(pair)
    others = {name for name in protocol.descriptors if name.endswith(("_vit_b32", "_vit_h14"))}
    assert set(scores.values) == set(protocol.descriptors) - others
    assert not scores.undefined
    assert protocol.score(pair) == scores


def test_what_lies_outside_the_region_does_not_count(protocol, pair):
    inside, outside = pair.edited.copy(), pair.edited.copy()
    inside[~pair.mask] = 255 - inside[~pair.mask]
    outside[pair.mask] = 255 - outside[pair.mask]
    before = protocol.score(pair).values
    for edited, side in ((inside, "inside"), (outside, "outside")):
        after = protocol.score(dataclasses.replace(pair, edited=edited)).values
        assert after[f"mse_{side}"] == before[f"mse_{side}"]
        assert after[f"psnr_{side}"] == before[f"psnr_{side}"]
        assert after["psnr"] < before["psnr"]


def test_masked_means_are_true_means(protocol, pair):
    scores = protocol.score(pair).values
    squares = (pair.source.astype(float) - pair.edited) ** 2 / 255**2
    assert scores["mse_outside"] == pytest.approx(squares[~pair.mask].mean())
    assert scores["psnr_outside"] == pytest.approx(-10 * np.log10(squares[~pair.mask].mean()))
    _, similarity = structural_similarity(
        pair.source, pair.edited, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert scores["ssim_inside"] == pytest.approx(similarity[pair.mask].mean())


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_lpips_is_that_of_the_lpips_package(protocol, pair, paper_models, trunk):
    import lpips
    from safetensors.torch import load_file

    reference = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    features = load_file(paper_models / f"lpips-{trunk}" / "model.safetensors")
    own = reference.net.state_dict()
    reference.net.load_state_dict({name: features["features." + name.split(".", 1)[1]] for name in own})
    pictures = [lpips.im2tensor(picture, factor=127.5) for picture in (pair.source, pair.edited)]
    scores = protocol.score(pair).values
    with torch.no_grad():
        assert scores[f"lpips_{trunk}"] == pytest.approx(float(reference(*pictures)), rel=1e-4)
        reference.spatial = True
        spatial = reference(*pictures)[0, 0].numpy()
    assert scores[f"lpips_{trunk}_outside"] == pytest.approx(spatial[~pair.mask].mean(), rel=1e-4)


def test_a_tower_is_open_clip_with_its_own_preprocessing(pair, paper_models):
    folder = paper_models / "openclip-vit-l14"
    tower = ClipTower.load(folder)
    model = open_clip.model.CLIP(**OPEN_CLIP["model_cfg"]).eval()
    open_clip.load_checkpoint(model, str(folder / "open_clip_model.safetensors"))
    transform = open_clip.image_transform(
        32, is_train=False, mean=(0.48, 0.45, 0.4), std=(0.26, 0.26, 0.27), interpolation="bicubic"
    )
    with torch.no_grad():
        image = model.encode_image(transform(Image.fromarray(pair.edited))[None], normalize=True)
        text = model.encode_text(open_clip.SimpleTokenizer()([PROMPTS[1]]), normalize=True)
    torch.testing.assert_close(tower.encode_images([pair.edited]), image)
    torch.testing.assert_close(tower.encode_texts([PROMPTS[1]]), text)


def test_clip_metrics_in_closed_form(protocol, pair):
    (tower,) = protocol._towers.values()
    before, after = tower.encode_images([pair.source, pair.edited])
    said = torch.sub(*reversed(list(tower.encode_texts(PROMPTS))))
    scores = protocol.score(pair).values
    expected = torch.cosine_similarity(after - before, said, dim=0)
    assert scores["clip_directional_vit_l14"] == pytest.approx(float(expected), abs=1e-5)
    same = protocol.score(dataclasses.replace(pair, edited=pair.source))
    assert "the edit is the same" in same.undefined["clip_directional_vit_l14"]
    assert same.values["lpips_alex"] == same.values["structure_distance"] == 0


def test_dino_sees_values_in_0_to_1_here(protocol, pair):
    source, edited = (
        torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255 for picture in (pair.source, pair.edited)
    )
    expected = protocol._dino.structure_distance(source, edited, antialias=True)
    assert protocol.score(pair).values["structure_distance"] == expected
    assert expected != pytest.approx(
        protocol._dino.structure_distance(source * 255, edited * 255, antialias=True), rel=0.01
    )


def test_towers_are_chosen_by_name(paper_models, pair, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", str(paper_models))
    monkeypatch.setenv("PIVA_BENCH_CLIP_TOWERS", "vit-b32, vit-l14")
    both = Clean()
    values = both.score(pair).values
    assert {"clip_target_vit_b32", "clip_target_vit_l14"} <= set(values)
    monkeypatch.setenv("PIVA_BENCH_CLIP_TOWERS", "vit-b32")
    assert Clean().fingerprint != both.fingerprint
    monkeypatch.setenv("PIVA_BENCH_CLIP_TOWERS", "vit-b23")
    with pytest.raises(UnknownName, match="vit-b32"):
        Clean()
    monkeypatch.setenv("PIVA_BENCH_CLIP_TOWERS", "vit-h14")
    with pytest.raises(ModelError, match="piva-bench models fetch openclip-vit-h14"):
        Clean()


def test_a_torn_tower_is_one_line(tmp_path):
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        ClipTower.load(tmp_path)
    assert "\n" not in str(caught.value)
