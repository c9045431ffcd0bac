import dataclasses

import numpy as np
import pytest

from piva_bench.errors import UserError
from piva_bench.metrics.protocol import MetricProtocol, Undefined, ViewsPair
from piva_bench.metrics.stlpips import STLPIPS
from piva_bench.metrics.views import attribute_scores
from piva_bench.metrics.views_clean.protocol import ViewsClean
from piva_bench.metrics.views_v1.protocol import ViewsV1
from piva_bench.registry import PROTOCOLS
from piva_bench.runs.scoring import Scorer
from tests.metrics.turntables import views_pair
from tests.tiny_scene_run import scene_run


@pytest.fixture(scope="module")
def views_protocol(evaluators):
    return ViewsV1(clip=evaluators / "clip", classifier=evaluators / "classifier")


@pytest.fixture
def pair():
    return views_pair()


def test_it_is_registered_and_gives_every_metric_a_value_or_a_reason(views_protocol, pair):
    assert PROTOCOLS.load("views-v1") is ViewsV1
    assert isinstance(views_protocol, MetricProtocol)
    scores = views_protocol.score(pair)
    assert set(scores.values) == set(views_protocol.descriptors)
    assert {name for name, value in scores.values.items() if value is None} == set(scores.undefined)
    # Only random weights of the classifier may see no change.
    assert set(scores.undefined) <= {"edit_accuracy", "edit_accuracy_worst", "attributes_kept"}


def test_the_counterfactual_and_the_source_are_perfect_each_in_its_way(views_protocol, pair):
    true = views_protocol.score(dataclasses.replace(pair, edited=pair.reference)).values
    same = views_protocol.score(dataclasses.replace(pair, edited=pair.source))
    assert true["reference_psnr"] > 58
    assert true["reference_stlpips"] == pytest.approx(0, abs=1e-9)
    assert true["reference_silhouette_iou"] == 1
    assert true["reference_depth_change"] == 0
    assert true["edit_accuracy"] in (1, None)
    assert same.values["source_psnr"] > 58
    assert same.values["source_stlpips"] == pytest.approx(0, abs=1e-9)
    assert same.undefined["clip_directional"] == "no view was changed"


def test_without_a_counterfactual_its_metrics_say_so(views_protocol, pair):
    scores = views_protocol.score(dataclasses.replace(pair, reference=None))
    for name, info in views_protocol.descriptors.items():
        assert (name in scores.undefined) == (info.group == "oracle")


@pytest.mark.parametrize("protocol", [ViewsV1, ViewsClean])
def test_nothing_is_said_of_faces_at_the_back(protocol):
    """Whatever tells a two-faced object from a true one with these encoders is a coin on sources and blurred truths."""
    assert not [name for name in protocol.descriptors if name.startswith(("janus", "front"))]


def test_backdrops_are_behind_all_pictures(views_protocol, pair):
    """Pictures that differ nowhere but behind the object differ in nothing else."""
    black = dataclasses.replace(pair, backdrops=np.zeros_like(pair.backdrops))
    ours, theirs = views_protocol.score(pair).values, views_protocol.score(black).values
    assert ours["source_silhouette_iou"] == theirs["source_silhouette_iou"]
    assert ours["source_psnr"] == pytest.approx(theirs["source_psnr"])  # equal backdrops cancel
    assert ours["clip_directional"] != theirs["clip_directional"]
    # What prompts may name is the place that the source stands in.
    assert ours["clip_similarity"] == theirs["clip_similarity"]


def test_pairwise_distances_are_those_of_one_picture_after_the_other():
    model, rng = STLPIPS(), np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 3, 64, 64, 3)).astype(np.uint8)
    one_by_one = [model.distances(a, [b])[0] for a, b in zip(first, second, strict=True)]
    assert model.pairwise(first, second) == pytest.approx(one_by_one, rel=1e-4)


def read(color, hat="none", count=4):
    return [{"color": color, "accessory": hat} for _ in range(count)]


SIDES = ["front", "side", "back", "side"]


def test_attributes_are_judged_view_by_view_and_by_the_worst_side():
    half = [*read("blue", count=2), *read("red", count=2)]
    scores = attribute_scores([read("red")], [half], [read("blue")], SIDES)
    assert scores == {"edit_accuracy": 0.5, "edit_accuracy_worst": 0, "attributes_kept": 1}
    lost = [*read("blue", "top_hat", count=1), *read("blue", count=3)]
    scores = attribute_scores([read("red", "top_hat")], [lost], [read("blue", "top_hat")], SIDES)
    assert scores == {"edit_accuracy": 1, "edit_accuracy_worst": 1, "attributes_kept": 0.25}


def test_an_edit_that_shows_before_one_backdrop_alone_is_none():
    hat, bare = read("red", "top_hat"), read("red")
    scores = attribute_scores([hat, hat], [bare, hat], [bare, bare], SIDES)
    assert scores == {"edit_accuracy": 0, "edit_accuracy_worst": 0, "attributes_kept": 1}
    half = [*bare[:2], *hat[2:]]
    assert attribute_scores([hat, hat], [bare, half], [bare, bare], SIDES)["edit_accuracy"] == 0.5


def test_what_the_classifier_sees_change_in_a_few_views_only_is_no_edit():
    reference = [*read("blue", count=1), *read("red", count=3)]
    scores = attribute_scores([read("red")], [read("red")], [reference], SIDES)
    assert isinstance(scores["edit_accuracy"], Undefined)
    assert scores["attributes_kept"] == (0.75 + 1) / 2


def test_a_protocol_of_pictures_refuses_scenes_and_the_other_way_round(tmp_path):
    _, samples = scene_run(tmp_path)
    with pytest.raises(UserError, match="studio-v1 scores pictures, and these edits are scenes: views-v1"):
        Scorer("studio-v1", samples)


def test_a_stored_edit_is_scored_from_its_sheet(tmp_path, views_protocol, monkeypatch):
    store, samples = scene_run(tmp_path)
    monkeypatch.setattr(PROTOCOLS, "load", lambda name: type("P", (), {
        "kind": "scenes", "__new__": lambda cls: views_protocol}))  # fmt: skip
    scorer = Scorer("views-v1", samples)
    (record,) = store.records().values()
    scores = scorer.score(store, record, lambda line: None)
    sample = samples[record.sample_id]
    turn, true = sample.load_turntable(), sample.load_counterfactual()
    expected = views_protocol.score(
        ViewsPair(
            turn.views, true.views, true.views, turn.backgrounds, sample.load_backdrops(), sample.side_prompts
        )
    )
    assert scores.values["source_psnr"] == pytest.approx(expected.values["source_psnr"])
    assert scores.values["reference_silhouette_iou"] == 1
