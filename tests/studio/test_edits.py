"""Edits of scenes: what changes, and the words for it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piva_bench.studio import vocabulary as words
from piva_bench.studio.captions import Wording, caption
from piva_bench.studio.edit_words import blended_word, edit_prompts, instruction
from piva_bench.studio.edits import CHANGES, random_edit
from piva_bench.studio.scene import Scene, random_scene

FIELDS = {
    "1_change_object": {"object"},
    "2_add_object": {"accessory", "second", "second_color"},
    "3_delete_object": {"accessory", "second", "second_color"},
    "4_change_attribute_content": {"print"},
    "5_change_attribute_pose": {"pose", "yaw"},
    "6_change_attribute_color": {"color"},
    "7_change_attribute_material": {"material"},
    "8_change_background": {"floor", "backdrop"},
    "9_change_style": {"style"},
}
PLAIN = Wording()
HORSE = Scene("horse", color="red", floor="grass", backdrop="brick")


def changed(edit) -> set[str]:
    source, target = edit.source.to_dict(), edit.target.to_dict()
    return {name for name in source if source[name] != target[name]}


edits = st.builds(
    lambda kind, seed, turn: random_edit(
        kind, random_scene(random.Random(seed), all_sides=False), random.Random(seed + 1), turn
    ),
    st.sampled_from(["0_random", *CHANGES]),
    st.integers(0, 10**6),
    st.integers(0, 40),
)


@given(edits)
def test_edits_change_what_their_type_says_and_nothing_else(edit):
    if edit.edit_type == "0_random":
        assert 1 <= len(changed(edit)) <= 4
    else:
        assert changed(edit)
        assert changed(edit) <= FIELDS[edit.edit_type]


@given(edits)
def test_prompts_say_the_same_but_for_the_brackets(edit):
    for scene, prompt in ((edit.source, edit.source_prompt), (edit.target, edit.target_prompt)):
        assert prompt.count("[") == prompt.count("]")
        # The caption of the scene in some wording: its floor and backdrop are named.
        plain = prompt.replace("[", "").replace("]", "")
        assert any(form in plain for form in words.FLOORS[scene.floor])
        assert any(form in plain for form in words.BACKDROPS[scene.backdrop])
        assert "  " not in prompt
    outside = [_outside(prompt) for prompt in (edit.source_prompt, edit.target_prompt)]
    assert outside[0] == outside[1]
    assert edit.source_prompt != edit.target_prompt


def _outside(prompt: str) -> list[str]:
    kept, inside = "", False
    for letter in prompt:
        inside = letter == "[" or (inside and letter != "]")
        kept += "" if inside or letter == "]" else letter
    return kept.split()


@given(edits)
def test_blended_words_come_from_the_prompts(edit):
    pairs = edit.blended_word.split()
    assert len(pairs) in (2, 4)
    source, target = (
        text.replace("[", "").replace("]", "").split() for text in (edit.source_prompt, edit.target_prompt)
    )
    assert set(pairs[0::2]) <= set(source)
    assert set(pairs[1::2]) <= set(target)


@given(edits)
def test_instruction_is_one_order(edit):
    assert edit.instruction[0].isupper()
    assert "  " not in edit.instruction
    assert "none" not in edit.instruction.lower().split()
    assert "plain" not in edit.instruction or "plain grey" in edit.instruction


@pytest.mark.parametrize(
    ("changes", "source", "target", "order", "blended"),
    [
        ({"color": "blue"}, "a [red] horse", "a [blue] horse", "Paint the horse blue", "horse horse"),
        ({"color": None}, "a [red] horse", "a horse", None, "horse horse"),
        (
            {"object": "armchair"},
            "a red [horse]",
            "a red [armchair]",
            "Replace the horse with an armchair",
            "horse armchair",
        ),
        ({"material": "wood"}, "a red horse", "a red [wooden] horse", "Make the horse wooden", "horse horse"),
        (
            {"accessory": "top_hat"},
            "a red horse",
            "a red horse [wearing a top hat]",
            "Put a top hat on the horse",
            "horse hat",
        ),
        (
            {"second": "cube", "second_color": "blue"},
            "a red horse",
            "a red horse [next to a blue cube]",
            "Put a blue cube next to the horse",
            "horse cube",
        ),
        (
            {"pose": "lying"},
            "a red horse",
            "a red horse [lying on its side]",
            "Lay the horse on its side",
            "horse horse",
        ),
    ],
)
def test_words_of_an_edit(changes, source, target, order, blended):
    edited = HORSE.replace(**changes)
    rest = " on grass in front of a brick wall"
    assert edit_prompts(HORSE, edited, PLAIN) == (f"a photo of {source}{rest}", f"a photo of {target}{rest}")
    if order:
        assert instruction(HORSE, edited, PLAIN, _First()) == order
    assert blended_word(HORSE, edited, PLAIN) == blended


class _First(random.Random):
    def choice(self, seq):
        return seq[0]


def test_place_and_style():
    night = HORSE.replace(backdrop="grey", style="sepia")
    assert edit_prompts(HORSE, night, PLAIN) == (
        "a photo of a red horse on grass in front of a [brick] wall",
        "a [sepia] photo of a red horse on grass in front of a [grey] wall",
    )
    order = instruction(HORSE, night, PLAIN, _First())
    assert order == "Replace the brick wall with a grey wall and turn the picture into a sepia photo"
    assert blended_word(HORSE, night, PLAIN) == "wall wall photo photo"


@given(edits)
def test_no_hidden_wording_difference(edit):
    """With equal scenes the two prompts are one caption, in every wording."""
    wording = Wording.random(random.Random(edit.instruction))
    assert edit_prompts(edit.source, edit.source, wording) == (caption(edit.source, wording),) * 2


def test_targets_come_in_turn():
    rng = random.Random(0)
    colors = [random_edit("6_change_attribute_color", HORSE, rng, turn).target.color for turn in range(8)]
    assert sorted(colors) == sorted(words.COLORS)
    added = [random_edit("2_add_object", HORSE, rng, turn).target for turn in range(6)]
    assert {scene.accessory for scene in added} == set(words.ACCESSORIES)
    assert {scene.second for scene in added} == set(words.SECONDS)
