import dataclasses
import json

import numpy as np
import pytest
import torch

from piva_bench.errors import ModelError
from piva_bench.metrics import pixels
from piva_bench.metrics.protocol import MetricProtocol, Pair, Scores, Undefined
from piva_bench.metrics.studio_v1.protocol import StudioV1, attribute_scores, direction_agreement
from piva_bench.registry import PROTOCOLS
from tests.metrics.pictures import noisy, save_evaluators


def test_it_is_registered_and_a_protocol(protocol):
    assert PROTOCOLS.load("studio-v1") is StudioV1
    assert isinstance(protocol, MetricProtocol)


def test_every_metric_is_described_and_has_a_value(protocol, pair):
    scores = protocol.score(pair)
    assert set(scores.values) == set(protocol.descriptors)
    assert {name for name, value in scores.values.items() if value is None} == set(scores.undefined)
    # Only random classifier weights may see no change.
    assert set(scores.undefined) <= {"edit_accuracy", "attributes_kept"}
    json.dumps(scores.values, allow_nan=False)


def test_pixel_metrics_are_those_of_their_regions(protocol, pair):
    values = protocol.score(pair).values
    assert values["psnr_outside"] == pixels.psnr(pair.source, pair.edited, ~pair.mask)
    assert values["psnr_inside"] == pixels.psnr(pair.source, pair.edited, pair.mask)
    assert values["counterfactual_psnr_inside"] == pixels.psnr(pair.reference, pair.edited, pair.mask)
    # The counterfactual equals the source outside the mask.
    assert values["counterfactual_psnr_outside"] == values["psnr_outside"]
    assert values["counterfactual_psnr"] > values["psnr"]


def test_the_counterfactual_itself_scores_perfectly(protocol, pair):
    values = protocol.score(dataclasses.replace(pair, edited=pair.reference)).values
    assert values["counterfactual_psnr"] == pytest.approx(pixels.PSNR_CEILING)
    assert values["counterfactual_stlpips"] == 0
    assert values["saturation_excess"] == 0
    assert values["attribute_agreement"] == 1
    assert values["colour_drift"] == 0


def test_the_unchanged_source_has_no_direction_and_no_distance(protocol, pair):
    scores = protocol.score(dataclasses.replace(pair, edited=pair.source))
    assert scores.values["clip_directional"] is None
    assert "same as the source" in scores.undefined["clip_directional"]
    assert scores.values["stlpips"] == 0
    assert scores.values["psnr"] == pytest.approx(pixels.PSNR_CEILING)
    assert scores.values["edit_accuracy"] in (0, None)


@pytest.mark.parametrize(
    ("change", "undefined"),
    [
        ({"mask": None}, "the sample has no edit mask"),
        ({"mask": np.ones((64, 64), bool)}, "the edit mask covers the whole picture"),
        ({"mask": np.zeros((64, 64), bool)}, "the edit mask is empty"),
        ({"reference": None}, "the sample has no counterfactual picture"),
        ({"target_prompt": "a photo of a horse on grass"}, "the source and target prompts are the same"),
    ],
)
def test_what_is_undefined_has_a_reason_and_the_rest_has_values(protocol, pair, change, undefined):
    whole, part = protocol.score(pair), protocol.score(dataclasses.replace(pair, **change))
    lost = set(part.undefined) - set(whole.undefined)
    assert lost
    assert all(part.undefined[name].startswith(undefined) for name in lost)
    assert all(part.values[name] is None for name in part.undefined)
    assert set(part.values) == set(whole.values)


def test_scores_do_not_depend_on_what_was_scored_before(protocol, pair):
    first = protocol.score(pair)
    protocol.score(dataclasses.replace(pair, edited=noisy(pair.source, 50)))
    assert protocol.score(pair) == first


def test_the_fingerprint_follows_the_weights(protocol, evaluators, tmp_path):
    again = StudioV1(clip=evaluators / "clip", classifier=evaluators / "classifier")
    assert again.fingerprint == protocol.fingerprint
    assert len(again.fingerprint) == 16
    save_evaluators(tmp_path)
    config = json.loads((tmp_path / "clip/open_clip_config.json").read_text())
    report = {**config, "training": {"minutes": 3}}
    (tmp_path / "clip/open_clip_config.json").write_text(json.dumps(report))
    moved = StudioV1(clip=tmp_path / "clip", classifier=tmp_path / "classifier")
    assert moved.fingerprint == protocol.fingerprint
    config["preprocess_cfg"]["mean"] = [0.4, 0.5, 0.5]
    (tmp_path / "clip/open_clip_config.json").write_text(json.dumps(config))
    changed = StudioV1(clip=tmp_path / "clip", classifier=tmp_path / "classifier")
    assert changed.fingerprint != protocol.fingerprint


def test_missing_evaluators_are_named_at_once(evaluators, tmp_path):
    with pytest.raises(ModelError, match="attribute classifier"):
        StudioV1(clip=evaluators / "clip", classifier=tmp_path)


def test_direction_agreement_is_a_cosine_of_differences():
    unit = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    source, edited, before, after = unit
    expected = np.dot(edited - source, after - before) / (
        np.linalg.norm(edited - source) * np.linalg.norm(after - before)
    )
    assert direction_agreement(source, edited, before, after) == pytest.approx(expected, abs=1e-6)
    assert direction_agreement(source, edited, source, edited) == pytest.approx(1)
    assert direction_agreement(source, edited, edited, source) == pytest.approx(-1)
    assert isinstance(direction_agreement(source, source, before, after), Undefined)


def test_attribute_scores_split_what_changed_from_what_stayed():
    source = {"color": "red", "object": "cup", "floor": "sand", "style": "photo"}
    reference = {**source, "color": "blue"}
    assert attribute_scores(source, source, reference) == {
        "edit_accuracy": 0,
        "attributes_kept": 1,
        "attribute_agreement": 0.75,
    }
    edited = {**reference, "floor": "grass"}
    assert attribute_scores(source, edited, reference) == {
        "edit_accuracy": 1,
        "attributes_kept": pytest.approx(2 / 3),
        "attribute_agreement": 0.75,
    }
    assert isinstance(attribute_scores(source, edited, source)["edit_accuracy"], Undefined)


def test_a_result_that_is_not_finite_is_undefined():
    scores = Scores.collect({"a": float("nan"), "b": float("inf"), "c": 1.0, "d": Undefined("why")})
    assert scores.values == {"a": None, "b": None, "c": 1.0, "d": None}
    assert scores.undefined == {"a": "the computation gave nan", "b": "the computation gave inf", "d": "why"}


@pytest.mark.parametrize("name", ["edited", "reference"])
def test_pictures_of_unlike_size_are_refused(pair, name):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(pair, **{name: np.zeros((32, 32, 3), np.uint8)})
    with pytest.raises(ValueError, match="mask"):
        Pair(pair.source, pair.edited, None, np.zeros((64, 64), np.uint8), "a", "b")
