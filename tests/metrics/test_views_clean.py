"""views-clean against open_clip, lpips and loops over views."""

import dataclasses

import lpips
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from piva_bench.errors import ModelError
from piva_bench.metrics.clean.protocol import Clean
from piva_bench.metrics.clip_tower import TOGETHER, ClipTower
from piva_bench.metrics.lpips_model import Lpips
from piva_bench.metrics.protocol import MetricProtocol
from piva_bench.metrics.views_clean.protocol import ViewsClean
from piva_bench.metrics.views_v1.protocol import ViewsV1
from piva_bench.registry import PROTOCOLS
from tests.metrics.paper_models import OPEN_CLIP
from tests.metrics.turntables import SIDE_PROMPTS, views, views_pair

NO_COUNTERFACTUAL = "the sample has no counterfactual views"


@pytest.fixture(scope="module")
def protocol(paper_models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIVA_BENCH_EVALUATORS", str(paper_models))
        return ViewsClean()


@pytest.fixture(scope="module")
def pair():
    """Views that differ from each other: each disc has stripes of its own."""
    pair, rng = views_pair(), np.random.default_rng(0)

    def striped(posed):
        images = posed.images.copy()
        images[:, ::4, :, :3] = rng.integers(0, 256, (6, 16, 64, 3))
        return dataclasses.replace(posed, images=images)

    return dataclasses.replace(
        pair, **{name: striped(getattr(pair, name)) for name in ("source", "edited", "reference")}
    )


@pytest.fixture(scope="module")
def pictures(pair):
    """What a person would see: source, edit and counterfactual before both backdrops and at home, [3, 6, 64, 64, 3]."""

    def seen(posed):
        front, alpha = posed.images[..., :3], posed.images[..., 3:] == 255
        return np.stack([np.where(alpha, front, place) for place in (*pair.backdrops, pair.backgrounds)])

    return {name: seen(getattr(pair, name)) for name in ("source", "edited", "reference")}


@pytest.fixture(scope="module")
def embedded(pictures, paper_models):
    """Embeddings by open_clip itself, double precision, and those of the prompts of each view's side."""
    model = open_clip.model.CLIP(**OPEN_CLIP["model_cfg"]).eval()
    open_clip.load_checkpoint(model, str(paper_models / "openclip-vit-l14" / "open_clip_model.safetensors"))
    transform = open_clip.image_transform(
        32, is_train=False, mean=(0.48, 0.45, 0.4), std=(0.26, 0.26, 0.27), interpolation="bicubic"
    )
    tokens = open_clip.SimpleTokenizer()

    def embed(picture):
        return model.encode_image(transform(Image.fromarray(picture))[None])[0].numpy()

    with torch.no_grad():
        found = {
            name: np.stack([[embed(picture) for picture in turn] for turn in turns])
            for name, turns in pictures.items()
        }
        told = {
            side: [model.encode_text(tokens([text]))[0].numpy() for text in pair]
            for side, pair in SIDE_PROMPTS.items()
        }
    # At 0, 60, 120, 180, -120 and -60 degrees.
    sides = ["front", "side", "side", "back", "side", "side"]
    found |= {"before": np.stack([told[s][0] for s in sides]), "after": np.stack([told[s][1] for s in sides])}
    return {name: n(value.astype(float)) for name, value in found.items()}


def n(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def cosine(a, b):
    return float(n(a) @ n(b))


def test_it_is_registered_and_gives_every_metric_of_its_towers_a_value(protocol, pair):
    assert PROTOCOLS.load("views-clean") is ViewsClean
    assert isinstance(protocol, MetricProtocol)
    scores = protocol.score(pair)
    others = {name for name in protocol.descriptors if name.endswith(("_vit_b32", "_vit_h14"))}
    assert set(scores.values) == set(protocol.descriptors) - others
    assert not scores.undefined
    assert protocol.score(pair) == scores


def worst(of):
    """Mean over six views of the lower value of two backdrops."""
    return np.mean([min(of(b, v) for b in (0, 1)) for v in range(6)])


def test_clip_similarity_is_that_of_open_clip(protocol, pair, embedded):
    scores, e = protocol.score(pair).values, embedded
    expected = np.mean([cosine(e["edited"][2, v], e["after"][v]) for v in range(6)])
    assert scores["clip_similarity_vit_l14"] == pytest.approx(expected, abs=1e-5)
    expected = np.mean([cosine(e["source"][2, v], e["after"][v]) for v in range(6)])
    assert scores["clip_similarity_source_vit_l14"] == pytest.approx(expected, abs=1e-5)


def test_directions_are_of_unit_embeddings(protocol, pair, embedded):
    scores, e = protocol.score(pair).values, embedded
    changes, said = e["edited"] - e["source"], e["after"] - e["before"]
    expected = worst(lambda b, v: cosine(changes[b, v], said[v]))
    assert scores["clip_directional_vit_l14"] == pytest.approx(expected, abs=1e-4)
    expected = worst(lambda b, v: cosine(changes[b, v], changes[b, (v + 1) % 6]))
    assert scores["direction_consistency_vit_l14"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_lpips_is_that_of_the_lpips_package_over_every_sixth_view(
    protocol, pair, pictures, paper_models, trunk
):
    reference = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    features = load_file(paper_models / f"lpips-{trunk}" / "model.safetensors")
    own = reference.net.state_dict()
    reference.net.load_state_dict({name: features["features." + name.split(".", 1)[1]] for name in own})
    scores = protocol.score(pair).values
    for name in ("source", "reference"):
        with torch.no_grad():
            expected = max(
                float(
                    reference(*(lpips.im2tensor(pictures[of][b, 0], factor=127.5) for of in (name, "edited")))
                )
                for b in (0, 1)
            )
        assert scores[f"{name}_lpips_{trunk}"] == pytest.approx(expected, rel=1e-4)


def test_pixels_and_shapes_are_those_of_the_pictures(protocol, pair, pictures):
    scores = protocol.score(pair).values
    for name in ("source", "reference"):
        squares = (pictures[name][:2].astype(float) - pictures["edited"][:2]) ** 2 / 255**2
        assert scores[f"{name}_psnr"] == pytest.approx(
            np.mean(np.min(-10 * np.log10(squares.mean((2, 3, 4))), axis=0))
        )
    smaller = dataclasses.replace(pair, edited=views((90, 40, 150), radius=10))
    scores = protocol.score(smaller).values
    assert scores["source_silhouette_iou"] == pytest.approx(1 / 4, rel=0.05)
    assert scores["source_depth_change"] == 0


def test_the_counterfactual_and_the_source_are_perfect_each_in_its_way(protocol, pair):
    true = protocol.score(dataclasses.replace(pair, edited=pair.reference)).values
    assert true["reference_psnr"] > 58
    assert true["reference_lpips_alex"] == true["reference_lpips_vgg"] == 0
    same = protocol.score(dataclasses.replace(pair, edited=pair.source))
    assert same.values["source_lpips_alex"] == same.values["source_lpips_vgg"] == 0
    assert same.values["clip_similarity_vit_l14"] == same.values["clip_similarity_source_vit_l14"]
    assert same.undefined["clip_directional_vit_l14"] == "no view was changed"


def test_without_a_counterfactual_its_metrics_say_so_and_nothing_else_changes(protocol, pair):
    whole, scores = protocol.score(pair), protocol.score(dataclasses.replace(pair, reference=None))
    assert set(scores.values) == set(whole.values)
    for name, value in scores.values.items():
        if protocol.descriptors[name].group == "oracle":
            assert (value, scores.undefined[name]) == (None, NO_COUNTERFACTUAL)
        else:
            assert value == whole.values[name]


def test_it_measures_what_views_v1_measures_but_for_attributes(protocol):
    """Only evaluators differ: what needs none is described in the same words."""
    ours, theirs = protocol.descriptors, ViewsV1.descriptors
    attributes = {"edit_accuracy", "edit_accuracy_worst", "attributes_kept"}
    for name in set(theirs) - attributes:
        if "stlpips" in name:
            assert {name.replace("stlpips", f"lpips_{trunk}") for trunk in ("alex", "vgg")} <= set(ours)
            continue
        info = theirs[name]
        same = ours.get(name) or ours[f"{name}_vit_l14"]
        assert (same.direction, same.scale, same.unit) == (info.direction, info.scale, info.unit)
    assert not attributes & set(ours)
    titles = [info.title for info in ours.values()]
    assert len(set(titles)) == len(titles)


def test_what_was_seen_is_not_embedded_again(protocol, pair):
    class Counting:
        def __init__(self, tower):
            self.tower, self.model, self.description = tower, tower.model, tower.description
            self.encode_texts, self.turns = tower.encode_texts, 0

        def encode_images(self, pictures):
            self.turns += 1
            return self.tower.encode_images(pictures)

    counting = Counting(protocol._towers["vit-l14"])
    own = ViewsClean(lpips=protocol._lpips, towers={"vit-l14": counting})
    assert own.fingerprint == protocol.fingerprint
    assert own.score(pair) == protocol.score(pair)
    assert counting.turns == 6  # source and edit, each at home and before two backdrops
    other = dataclasses.replace(pair, edited=views((0, 200, 0)))
    assert own.score(other) == protocol.score(other)
    assert counting.turns == 9


def test_many_views_are_embedded_as_each_alone(protocol):
    tower = protocol._towers["vit-l14"]
    many = np.random.default_rng(0).integers(0, 256, (TOGETHER + 3, 40, 40, 3)).astype(np.uint8)
    alone = torch.cat([tower.encode_images([picture]) for picture in many])
    torch.testing.assert_close(tower.encode_images(list(many)), alone)


def test_the_fingerprint_follows_weights_and_definitions(protocol, paper_models, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", str(paper_models))
    assert ViewsClean().fingerprint == protocol.fingerprint
    assert Clean().fingerprint != protocol.fingerprint
    tower = ClipTower.load(paper_models / "openclip-vit-l14")
    with torch.no_grad():
        tower.model.logit_scale.add_(1)
    assert ViewsClean(towers={"vit-l14": tower}).fingerprint != protocol.fingerprint
    other = Lpips.load("vgg", paper_models / "lpips-vgg")
    with torch.no_grad():
        next(other.model.net.parameters()).add_(1)
    changed = ViewsClean(lpips={**protocol._lpips, "vgg": other}, towers=protocol._towers)
    assert changed.fingerprint != protocol.fingerprint
    monkeypatch.setattr("piva_bench.metrics.views_clean.protocol.DEFINITIONS", "views-clean/0")
    assert ViewsClean().fingerprint != protocol.fingerprint


def test_what_is_missing_is_one_line_that_names_the_cure(paper_models, tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in ("openclip-vit-l14", "lpips-alex", "lpips-vgg"):
        with pytest.raises(ModelError, match=f"piva-bench models fetch {name}") as caught:
            ViewsClean()
        assert "\n" not in str(caught.value)
        (tmp_path / name).symlink_to(paper_models / name)
    assert ViewsClean().name == "views-clean"
