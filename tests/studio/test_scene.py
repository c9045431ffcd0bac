import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piva_bench.studio import vocabulary as words
from piva_bench.studio.captions import Wording, caption, phrases, training_caption
from piva_bench.studio.scene import (
    COMPOSITION_FIELDS,
    Scene,
    composition_key,
    held_out_pair,
    random_scene,
    training_scenes,
)


@given(st.integers())
@settings(max_examples=50, deadline=None)
def test_a_scene_survives_json_and_names_every_head(seed):
    scene = random_scene(random.Random(seed))
    assert Scene.from_dict(scene.to_dict()) == scene
    for head, name in scene.attributes.items():
        assert name in words.HEADS[head]


@pytest.mark.parametrize(
    "changes",
    [
        {"object": "unicorn"},
        {"color": "beige"},
        {"style": "photos"},
        {"second": "ball"},
        {"second_color": "red"},
    ],
)
def test_an_impossible_scene_is_refused(changes):
    with pytest.raises(ValueError, match="scene:"):
        Scene("horse").replace(**changes)


def test_training_scenes_avoid_what_is_held_out():
    first = training_scenes(3, 200, ())
    banned = {composition_key(scene) for scene in first[::5]}
    kept = training_scenes(3, 200, banned)
    assert not banned & {composition_key(scene) for scene in kept}
    assert not any(held_out_pair(scene) for scene in kept)
    assert [s for s in first if composition_key(s) not in banned] == kept[: 200 - sum(
        composition_key(s) in banned for s in first
    )]  # fmt: skip


def test_about_an_eighth_of_the_pairs_is_held_out_and_each_object_keeps_most_colours():
    held = {(o, c) for o in words.OBJECTS for c in words.COLORS if held_out_pair(Scene(o, c))}
    assert 0.08 < len(held) / (len(words.OBJECTS) * len(words.COLORS)) < 0.18
    for name in words.OBJECTS:
        assert sum(o == name for o, _ in held) <= 4


@given(st.integers())
@settings(max_examples=50, deadline=None)
def test_the_full_caption_says_every_word_of_the_scene(seed):
    rng = random.Random(seed)
    scene, wording = random_scene(rng), Wording.random(rng)
    text = caption(scene, wording)
    for part in phrases(scene, wording).values():
        assert part in text
    if scene.color:
        assert scene.color in text
    assert any(form in text for form in words.OBJECTS[scene.object])
    assert "  " not in text
    assert text.strip() == text


def test_scenes_that_differ_in_a_word_differ_in_their_caption_and_key():
    scene = Scene("horse", "red", second="ball", second_color="blue")
    changed = {
        "object": "cup", "color": "green", "material": "wood", "print": "dots", "pose": "lying",
        "accessory": "top_hat", "second": "cone", "floor": "sand", "backdrop": "night", "style": "sepia",
    }  # fmt: skip
    assert set(changed) == set(COMPOSITION_FIELDS)
    for field, value in changed.items():
        other = scene.replace(**{field: value})
        assert caption(other) != caption(scene)
        assert composition_key(other) != composition_key(scene)


def test_training_captions_sometimes_leave_things_unsaid():
    scene = Scene("horse", "red", pose="lying", accessory="top_hat", floor="sand", backdrop="night")
    rng = random.Random(0)
    lengths = {len(training_caption(scene, rng).split()) for _ in range(200)}
    assert min(lengths) < len(caption(scene).split()) <= max(lengths)
