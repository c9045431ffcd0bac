"""Edits of a scene: PIE-Bench's ten types of edit as changes of a few words of the scene."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from piva_bench.studio import vocabulary as words
from piva_bench.studio.captions import Wording
from piva_bench.studio.edit_words import blended_word, edit_prompts, instruction
from piva_bench.studio.scene import Scene

Fields = dict[str, Any]
Change = tuple[Fields, Fields]
"""What must hold in the source for the edit to make sense, and what the edit changes in the target."""

TURNABLE = ("teddy_bear", "biplane", "armchair", "toilet")
"""Objects with a back that looks unlike their front."""


@dataclass(frozen=True)
class EditSpec:
    """One edit task before it is photographed: two scenes and the words for the step between them."""

    edit_type: str
    """"0_random" or a key of `CHANGES`."""
    source: Scene
    target: Scene
    source_prompt: str
    """With [ ] round the words that the other prompt does not share, as is the target prompt."""
    target_prompt: str
    instruction: str
    blended_word: str
    """PIE-Bench's "source target", single words of the prompts; two such pairs where two things change."""


def _other(rng: random.Random, names: tuple[str, ...], *not_these: str) -> str:
    return rng.choice([name for name in names if name not in not_these])


_ALONE: Fields = {"second": "none", "second_color": None}


def _lifelike(scene: Scene) -> Fields:
    """Sketches and sepia photographs show neither colour nor, at a small size, material and print."""
    return {"style": "cartoon" if scene.style == "cartoon" else "photo"}


def _object(scene: Scene, rng: random.Random, turn: int) -> Change:
    # A horse and a rocking horse share a word: such a pair would read as an edit of something else.
    taken = {word for form in words.OBJECTS[scene.object] for word in form.split()}
    others = [
        name
        for name, forms in words.OBJECTS.items()
        if name not in (scene.object, scene.second) and not taken & set(" ".join(forms).split())
    ]
    # A second object stands beside the first one's outline, so it would move with another object.
    return dict(_ALONE), {"object": others[turn * 5 % len(others)]}


def _thing(scene: Scene, rng: random.Random, turn: int) -> tuple[Fields, Fields]:
    """(without, with) an accessory or a second object."""
    accessories, seconds = tuple(words.ACCESSORIES)[1:], tuple(words.SECONDS)[1:]
    kind = (*accessories, *seconds)[turn % (len(accessories) + len(seconds))]
    if kind in accessories:
        return {"accessory": "none", "pose": "upright"}, {"accessory": kind}
    if kind == scene.object:
        kind = "cube"
    color = _other(rng, tuple(words.COLORS), scene.color or "")
    return {**_ALONE, **_lifelike(scene)}, {"second": kind, "second_color": color}


def _add(scene: Scene, rng: random.Random, turn: int) -> Change:
    return _thing(scene, rng, turn)


def _delete(scene: Scene, rng: random.Random, turn: int) -> Change:
    without, having = _thing(scene, rng, turn)
    return {**without, **having}, without


def _content(scene: Scene, rng: random.Random, turn: int) -> Change:
    prints = tuple(words.PRINTS)[1:]
    target = prints[turn % len(prints)]
    # One in eight takes a print away, one in four changes one for another.
    if turn % 8 == 3:
        source, target = target, "none"
    else:
        source = _other(rng, prints, target) if turn % 8 in (5, 6) else "none"
    return {"material": "plain", "print": source, **_lifelike(scene)}, {"print": target}


def _pose(scene: Scene, rng: random.Random, turn: int) -> Change:
    # What rests on top of an object would fall off.
    needed: Fields = {"pose": "upright", "accessory": "none", **_ALONE}
    kind = ("upside_down", "lying", "back", "upright", "lying", "upside_down", "back", "upright")[turn % 8]
    if kind == "back":
        if scene.object not in TURNABLE:
            needed["object"] = rng.choice(TURNABLE)
        return needed, {"yaw": round(scene.yaw + 180.0, 2)}
    if kind == "upright":
        needed["pose"] = rng.choice(("lying", "upside_down"))
    return needed, {"pose": kind}


def _color(scene: Scene, rng: random.Random, turn: int) -> Change:
    target = tuple(words.COLORS)[turn % len(words.COLORS)]
    source = scene.color if scene.color != target else _other(rng, tuple(words.COLORS), target)
    return {"color": source, **_lifelike(scene)}, {"color": target}


def _material(scene: Scene, rng: random.Random, turn: int) -> Change:
    materials = tuple(words.MATERIALS)[1:]
    target = materials[turn % len(materials)]
    source = scene.material if scene.material != target else "plain"
    return {"material": source, "print": "none", **_lifelike(scene)}, {"material": target}


def _background(scene: Scene, rng: random.Random, turn: int) -> Change:
    if turn % 4 == 3:
        floors = tuple(words.FLOORS)
        target = floors[turn // 4 % len(floors)]
        return {"floor": _other(rng, floors, target), **_lifelike(scene)}, {"floor": target}
    backdrops = tuple(words.BACKDROPS)
    target = backdrops[turn % len(backdrops)]
    return {"backdrop": _other(rng, backdrops, target), **_lifelike(scene)}, {"backdrop": target}


def _style(scene: Scene, rng: random.Random, turn: int) -> Change:
    drawn = tuple(words.STYLES)[1:]
    if turn % 8 == 7:
        return {"style": rng.choice(drawn)}, {"style": "photo"}
    return {"style": "photo"}, {"style": drawn[turn % len(drawn)]}


CHANGES: dict[str, Callable[[Scene, random.Random, int], Change]] = {
    "1_change_object": _object,
    "2_add_object": _add,
    "3_delete_object": _delete,
    "4_change_attribute_content": _content,
    "5_change_attribute_pose": _pose,
    "6_change_attribute_color": _color,
    "7_change_attribute_material": _material,
    "8_change_background": _background,
    "9_change_style": _style,
}
"""Edit type -> how it is made from a scene, a source of chance, and the sample's turn, which goes through the
possible targets one after the other so that each comes equally often."""

DOUBLES = (
    ("6_change_attribute_color", "2_add_object"),
    ("8_change_background", "6_change_attribute_color"),
    ("1_change_object", "8_change_background"),
    ("4_change_attribute_content", "2_add_object"),
    ("7_change_attribute_material", "8_change_background"),
    ("1_change_object", "6_change_attribute_color"),
    ("3_delete_object", "6_change_attribute_color"),
)
"""The pairs of edits made at once by every second sample of type 0; the others make one edit of any type."""


def random_edit(edit_type: str, base: Scene, rng: random.Random, turn: int) -> EditSpec:
    """An edit of the given type near the scene `base`.

    Args:
        edit_type: "0_random" or a key of `CHANGES`.
        base: scene to start from; what the edit needs of its source is set in it.
        rng: decides what is left open, and the wording.
        turn: number of the sample within its type; see `CHANGES`.
    """
    parts: tuple[str, ...] = (edit_type,)
    if edit_type == "0_random":
        kinds = tuple(CHANGES)
        turn, double = divmod(turn, 2)
        parts = DOUBLES[turn % len(DOUBLES)] if double else (kinds[turn % len(kinds)],)
    source, changed = base, Fields()
    for part in parts:
        needed, made = CHANGES[part](source, rng, turn)
        source = source.replace(**needed)
        changed |= made
    target = source.replace(**changed)
    wording = Wording.random(rng)
    if source.style != target.style:
        # "A picture of" says nothing of the style: leave that form out where the style is the point.
        wording = replace(wording, style=rng.uniform(0.0, 0.66))
    source_prompt, target_prompt = edit_prompts(source, target, wording)
    return EditSpec(
        edit_type=edit_type,
        source=source,
        target=target,
        source_prompt=source_prompt,
        target_prompt=target_prompt,
        instruction=instruction(source, target, wording, rng),
        blended_word=blended_word(source, target, wording),
    )
