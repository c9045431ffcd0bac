"""The embedded PIE-Bench: its rules as properties of the shipped data, and its making."""

import json
from collections import Counter

import numpy as np
import pytest

from piva_bench.data.dataset import verify
from piva_bench.data.pie import EDIT_TYPES, open_pie
from piva_bench.errors import UserError
from piva_bench.paths import data_root
from piva_bench.profiles import PROFILES
from piva_bench.studio import vocabulary as words
from piva_bench.studio.build_pie import (
    COUNTS,
    contact_sheet,
    photograph_plan,
    plan_pie,
    read_plan,
    write_plan,
)
from piva_bench.studio.edit_mask import VISIBLE_DIFFERENCE, changed_things, edit_mask, fault
from piva_bench.studio.render import ACCESSORY, BACKDROP, OBJECT, Shot
from piva_bench.studio.scene import Scene, composition_key, held_out_pair, training_scenes

ROOT = data_root() / "pie"


@pytest.fixture(scope="module")
def dataset():
    return open_pie(PROFILES["embedded"], None)


@pytest.fixture(scope="module")
def plan():
    return read_plan(ROOT)


@pytest.fixture(scope="module")
def renderer():
    from piva_bench.studio.render import Renderer

    try:
        return Renderer(64)
    except UserError as error:
        pytest.skip(str(error))


def test_shipped_copy_is_whole(dataset):
    assert verify(dataset) == []
    assert Counter(sample.edit_type for sample in dataset.samples) == COUNTS
    assert sum(COUNTS.values()) == 140


def test_outside_the_mask_the_counterfactual_is_the_source(dataset):
    for sample in dataset.samples:
        difference = np.abs(
            np.asarray(sample.load_source(), int) - np.asarray(sample.load_reference(), int)
        ).max(-1)
        mask = sample.load_mask()
        assert difference[~mask].max(initial=0) <= VISIBLE_DIFFERENCE, sample.id
        assert difference[mask].mean() > 10, sample.id
        assert mask.all() == (sample.edit_type == "9_change_style") or sample.edit_type == "0_random", (
            sample.id
        )


def test_held_out_list_is_of_the_plan(plan, dataset):
    keys = json.loads((ROOT / "held_out.json").read_text())
    assert keys == sorted({composition_key(s) for p in plan for s in (p.spec.source, p.spec.target)})
    assert [planned.id for planned in plan] == [sample.id for sample in dataset.samples]
    assert not set(keys) & {composition_key(scene) for scene in training_scenes(0, 2000, keys)}


def test_a_quarter_needs_unseen_pairs(plan, dataset):
    tags = {sample.id: sample.tags["held_out"] for sample in dataset.samples}
    for planned in plan:
        pairs = held_out_pair(planned.spec.source), held_out_pair(planned.spec.target)
        assert planned.held_out == tags[planned.id]
        assert pairs[1] if planned.held_out == "pair" else not any(pairs), planned.id
    assert Counter(tags.values()) == {"composition": 105, "pair": 35}


def test_compositions_and_objects_are_varied(plan):
    keys = [composition_key(planned.spec.source) for planned in plan]
    assert len(set(keys)) == len(keys)
    uses = Counter(planned.spec.source.object for planned in plan)
    assert set(uses) == set(words.OBJECTS)
    assert max(uses.values()) <= 9


def test_plan_is_a_function_of_the_seed(renderer, tmp_path):
    counts = dict.fromkeys(("2_add_object", "6_change_attribute_color"), 2)
    first = plan_pie(3, renderer, counts)
    assert first == plan_pie(3, renderer, counts)
    assert first != plan_pie(4, renderer, counts)
    assert [planned.id for planned in first] == [
        "200000000000",
        "200000000001",
        "600000000000",
        "600000000001",
    ]
    write_plan(tmp_path, first)
    assert read_plan(tmp_path) == first
    photograph_plan(tmp_path)
    made = open_pie(PROFILES["embedded"], tmp_path)
    assert verify(made) == []
    assert made.samples[0].source_path.parent.name == "2_add_object_2"
    assert contact_sheet(tmp_path, cell=32).size[0] == 3 * (3 * 32 + 8)


def picture(object_at: slice, value: int = 200) -> Shot:
    """A grey set with a square object of the given brightness."""
    ids = np.zeros((32, 32), np.uint8)
    ids[16:] = 1
    ids[10:20, object_at] = OBJECT
    image = np.full((32, 32, 3), 90, np.uint8)
    image[ids == OBJECT] = value
    return Shot(image, ids, np.ones((32, 32), np.float32))


RED, BLUE = Scene("ball", color="red"), Scene("ball", color="blue")


def test_mask_is_the_outline_one_pixel_wider_and_the_shadow():
    before, after = picture(slice(8, 18)), picture(slice(8, 18), 30)
    after.image[28, 28] = 60  # a shadow far away
    after.image[28, 5] -= VISIBLE_DIFFERENCE  # noise
    mask = edit_mask(RED, BLUE, before, after)
    assert mask.sum() == 12 * 12 + 1
    assert mask[28, 28]
    assert edit_mask(RED, RED.replace(style="sepia"), before, after).all()
    backdrop = edit_mask(RED, RED.replace(backdrop="sky"), before, before)
    assert backdrop[:10].all()
    assert not backdrop[20:].any()


def test_faults():
    shot = picture(slice(8, 18))
    assert fault(RED, BLUE, shot, picture(slice(8, 18), 30)) is None
    assert "changes something by only" in fault(RED, BLUE, shot, shot)
    assert "cut off" in fault(RED, BLUE, shot, picture(slice(0, 10), 30))
    assert "fills only" in fault(RED, BLUE, shot, picture(slice(8, 10), 30))
    assert "stands out by only" in fault(RED, BLUE, shot, picture(slice(8, 18), 95))
    assert "accessory fills only" in fault(RED, RED.replace(accessory="top_hat"), shot, shot)


def test_changed_things():
    assert changed_things(RED, BLUE) == (OBJECT,)
    assert changed_things(RED, RED.replace(accessory="balloon", backdrop="sky")) == (ACCESSORY, BACKDROP)
    assert len(EDIT_TYPES) == len(COUNTS)
