"""voxhammer-v1 against closed forms, the libraries themselves and loops over pixels and points."""

import dataclasses

import lpips
import numpy as np
import open_clip
import pytest
import torch
import trimesh
from PIL import Image
from scipy.ndimage import convolve
from transformers import Dinov2Model

from piva_bench.errors import ModelError
from piva_bench.metrics.protocol import MetricProtocol, Undefined
from piva_bench.metrics.voxhammer_v1.pixels import psnr, ssim_map
from piva_bench.metrics.voxhammer_v1.protocol import VoxHammerV1, as_compared, nearest_views, outside
from piva_bench.metrics.voxhammer_v1.surfaces import CELL, chamfer_outside, thinned
from piva_bench.registry import PROTOCOLS
from piva_bench.scene.cameras import RIG
from piva_bench.scene.region import EditRegion
from piva_bench.scene.views import PosedViews
from tests.metrics.paper_models import OPEN_CLIP
from tests.metrics.turntables import views_pair

OUTSIDE = ("psnr", "ssim", "lpips")


def ball(radius, at=(0, 0, 0)):
    """A ball in the source's units: the source's largest edge is 1."""
    return trimesh.creation.icosphere(4, radius * RIG.edge).apply_translation(np.array(at) * RIG.edge)


def cuboid(low, high):
    return trimesh.creation.box(bounds=np.array([low, high]) * RIG.edge)


FAR = cuboid((8, 8, 8), (9, 9, 9))


@pytest.fixture(scope="module")
def protocol(paper_models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIVA_BENCH_EVALUATORS", str(paper_models))
        return VoxHammerV1()


@pytest.fixture(scope="module")
def pair():
    """A striped disc before six cameras; the left half of each view is the region."""
    pair, rng = views_pair(), np.random.default_rng(0)

    def striped(posed):
        images = posed.images.copy()
        images[:, ::4, :, :3] = rng.integers(0, 256, (6, 16, 64, 3))
        return dataclasses.replace(posed, images=images)

    mask = np.zeros((6, 64, 64), bool)
    mask[:, :, :32] = True
    region = EditRegion(mask, FAR, ball(0.5))
    return dataclasses.replace(
        pair,
        source=striped(pair.source),
        edited=striped(pair.edited),
        region=region,
        target_prompt="a blue disc",
    )


@pytest.fixture(scope="module")
def compared(pair):
    """What is compared, and whether a pixel counts, in the views that are chosen: made with Pillow alone."""

    def shown(posed):
        pictures = []
        for picture in posed.images:
            ground = Image.new("RGBA", (64, 64), (127, 127, 127, 255))
            ground.paste(Image.fromarray(picture), (0, 0), Image.fromarray(picture))
            pictures.append(np.asarray(ground.convert("RGB").resize((512, 512), Image.Resampling.BILINEAR)))
        return np.stack(pictures)

    kept = np.zeros((512, 512), bool)
    kept[:, 256:] = True
    # Of cameras at 0, 60, 120, 180, -120 and -60 degrees those nearest to 0, 45, 90 ... 315.
    return shown(pair.source), shown(pair.edited), kept, [0, 1, 2, 3, 4, 5]


def test_it_is_a_protocol_of_scenes(protocol):
    assert isinstance(protocol, MetricProtocol)
    assert PROTOCOLS.load("voxhammer-v1") is VoxHammerV1
    assert (protocol.name, protocol.kind) == ("voxhammer-v1", "scenes")
    assert len(protocol.fingerprint) == 16


def test_views_are_those_nearest_to_the_authors(pair):
    blank = PosedViews(np.zeros((120, 8, 8, 4), np.uint8), RIG.turntable(120, 8))
    chosen = nearest_views(blank, range(0, 360, 45))
    assert chosen.tolist() == [0, 15, 30, 45, 60, 75, 90, 105]
    # Of cameras at 0, 60, 120, 180, -120 and -60 degrees: 90 lies between two, the first is taken; each once.
    assert sorted(nearest_views(pair.source, range(0, 360, 45)).tolist()) == [0, 1, 2, 3, 4, 5]


def test_pictures_stand_before_grey_at_512_pixels(pair, compared):
    assert (as_compared(pair.source) == compared[0]).all()
    assert (outside(pair.region.mask[0]) == compared[2]).all()


def test_psnr_and_lpips_and_ssim_are_of_the_pixels_outside(protocol, pair, compared, paper_models):
    source, edited, kept, chosen = compared
    scores = protocol.score(pair)
    decibels, similar, distance = [], [], []
    network = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, spatial=True, verbose=False)
    network.net.load_state_dict(protocol._lpips.model.net.state_dict())
    for i in chosen:
        one, other = source[i] / 255, edited[i] / 255
        decibels.append(20 * np.log10(1 / np.sqrt(((one - other)[kept] ** 2).mean())))
        similar.append(ssim_by_scipy(one, other)[kept].mean())
        pictures = [torch.from_numpy(each).permute(2, 0, 1)[None].float() for each in (one, other)]
        with torch.no_grad():
            distance.append(network(*pictures)[0, 0].numpy()[kept].mean())
    assert scores.values["psnr"] == pytest.approx(np.mean(decibels), rel=1e-4)
    assert scores.values["ssim"] == pytest.approx(np.mean(similar), abs=1e-4)
    assert scores.values["lpips"] == pytest.approx(np.mean(distance), rel=1e-3)


def ssim_by_scipy(first, second):
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    window = (window / window.sum())[..., None]

    def mean(values):
        return convolve(values, window, mode="constant")

    m, k = mean(first), mean(second)
    covered = (2 * m * k + 1e-4) * (2 * (mean(first * second) - m * k) + 9e-4)
    return (covered / ((m**2 + k**2 + 1e-4) * (mean(first**2) - m**2 + mean(second**2) - k**2 + 9e-4))).mean(
        axis=2
    )


def test_what_changes_inside_the_region_alone_costs_no_more_than_its_edge(protocol, pair):
    images = pair.source.images.copy()
    images[:, :, :24, :3] = 0  # six pixels off the border, beyond SSIM's window
    edited = dataclasses.replace(pair.source, images=images)
    scores = protocol.score(dataclasses.replace(pair, edited=edited))
    assert scores.undefined["psnr"] == "nothing differs outside the edit region: PSNR is infinite"
    assert scores.values["ssim"] == pytest.approx(1, abs=1e-6)
    assert scores.values["dino_i"] < 1 - 1e-6  # whole pictures


def test_a_view_without_a_difference_is_left_out_of_the_mean_of_decibels():
    first, second, everywhere = torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1), torch.ones(4, 4, dtype=bool)
    assert psnr(first, first, everywhere) is None
    assert psnr(first, second, everywhere) == pytest.approx(20)
    torch.testing.assert_close(ssim_map(second, second), torch.ones(4, 4))


def test_dino_and_clip_are_those_of_the_libraries(protocol, pair, compared, paper_models):
    source, edited, _, chosen = compared
    model = Dinov2Model.from_pretrained(paper_models / "dinov2-base").eval()
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))

    def tokens(picture):
        small = np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.BICUBIC))[
            16:240, 16:240
        ]
        values = torch.from_numpy((small / 255 - mean) / std).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            return model(pixel_values=values).last_hidden_state[0].mean(0).numpy().astype(float)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    scores = protocol.score(pair).values
    alike = [cosine(tokens(source[i]), tokens(edited[i])) for i in chosen]
    assert scores["dino_i"] == pytest.approx(np.mean(alike), abs=1e-5)

    clip = open_clip.model.CLIP(**OPEN_CLIP["model_cfg"]).eval()
    open_clip.load_checkpoint(clip, str(paper_models / "openclip-vit-b32" / "open_clip_model.safetensors"))
    prepare = open_clip.image_transform(
        32, is_train=False, mean=(0.48, 0.45, 0.4), std=(0.26, 0.26, 0.27), interpolation="bicubic"
    )
    with torch.no_grad():
        text = clip.encode_text(open_clip.SimpleTokenizer()(["a blue disc"]))[0].numpy()
        # Of the six only the first stands within 45 degrees of the front.
        for name, picture in (("clip_t", edited[0]), ("clip_t_source", source[0])):
            image = clip.encode_image(prepare(Image.fromarray(picture))[None])[0].numpy()
            assert scores[name] == pytest.approx(cosine(image, text), abs=1e-5)


def test_chamfer_of_two_balls_is_the_difference_of_their_radii():
    # A point of either lies this far from the nearest of the other; the samples' spacing adds a little.
    assert chamfer_outside(ball(0.5), ball(0.4), FAR) == pytest.approx(0.1, rel=0.02)
    assert chamfer_outside(ball(0.5), ball(0.5), FAR) < 0.01


def test_what_is_inside_the_region_does_not_count():
    lump = trimesh.util.concatenate([ball(0.5), ball(0.2, (0, 0, 0.6))])
    upper = cuboid((-1, -1, 0.3), (1, 1, 1))
    all_round = chamfer_outside(ball(0.5), lump, FAR)
    assert all_round > 2 * chamfer_outside(ball(0.5), lump, upper)
    whole = chamfer_outside(ball(0.5), lump, cuboid((-1, -1, -1), (1, 1, 1)))
    assert whole == Undefined("the source has no surface outside the edit region")
    gone = chamfer_outside(ball(0.5), ball(0.1, (0, 0, 0.6)), upper)
    assert gone == Undefined("the edit has no surface outside the edit region")


def test_thinning_keeps_a_mean_a_cell():
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3)) * 0.03
    cells: dict = {}
    for point in points:
        cells.setdefault(tuple(np.floor((point - points.min(0) + CELL / 2) / CELL)), []).append(point)
    expected = np.array([np.mean(cells[key], axis=0) for key in sorted(cells)])
    assert np.allclose(thinned(points, CELL), expected)
    assert len(expected) < 500
    assert thinned(np.zeros((0, 3)), CELL).shape == (0, 3)


def test_what_a_set_or_a_run_lacks_is_said(protocol, pair):
    nothing = protocol.score(dataclasses.replace(pair, region=None, surface=ball(0.5)))
    assert {nothing.undefined[name] for name in (*OUTSIDE, "chamfer")} == {"the sample has no edit region"}
    assert nothing.values["dino_i"] is not None
    assert "--keep-fields stores it" in protocol.score(pair).undefined["chamfer"]
    covered = dataclasses.replace(pair.region, mask=np.ones((6, 64, 64), bool))
    found = protocol.score(dataclasses.replace(pair, region=covered)).undefined
    assert {found[name] for name in OUTSIDE} == {"the edit region covers every view"}
    stored = protocol.score(dataclasses.replace(pair, surface=ball(0.4)))
    assert stored.values["chamfer"] == pytest.approx(0.1, rel=0.02)
    assert set(stored.values) == set(protocol.descriptors)


def test_the_plain_prompt_names_no_side(protocol, pair):
    sided = protocol.score(dataclasses.replace(pair, target_prompt=None)).values["clip_t"]
    assert (
        sided
        == protocol.score(dataclasses.replace(pair, target_prompt=pair.prompts["front"][1])).values["clip_t"]
    )
    assert sided != protocol.score(pair).values["clip_t"]


def test_what_is_missing_is_one_line_that_names_the_cure(paper_models, tmp_path, monkeypatch):
    for name in ("PIVA_BENCH_EVALUATORS", "TORCH_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("lpips-alex", "dinov2-base", "openclip-vit-b32"):
        with pytest.raises(ModelError, match=f"piva-bench models fetch {name}"):
            VoxHammerV1()
        (tmp_path / name).symlink_to(paper_models / name)
    (tmp_path / "dinov2-base").unlink()
    (tmp_path / "dinov2-base").mkdir()
    (tmp_path / "dinov2-base" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="holds no DINOv2 that can be read") as caught:
        VoxHammerV1()
    assert "\n" not in str(caught.value)
