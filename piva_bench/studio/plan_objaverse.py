"""Which objects the embedded 3D set shows, and which edits are made of each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from piva_bench.studio import vocabulary as words
from piva_bench.studio.captions import Wording
from piva_bench.studio.edit_mask import fault
from piva_bench.studio.edit_words import edit_prompts, instruction
from piva_bench.studio.render import Renderer
from piva_bench.studio.scene import Scene, composition_key, held_out_pair

TURNTABLE_ELEVATION = 18.0
"""Degrees; the middle of the elevations that the studio's models are trained on."""
DISTANCE = 1.1
"""Of the camera, as a multiple of the studio's: also within what models are trained on, and hats stay in view."""
SIDE_YAWS = {"front": 0.0, "side": 90.0, "back": 180.0}

Words = dict[str, Any]

EDITS: tuple[tuple[str, Words, tuple[tuple[str, Words], ...]], ...] = (
    ("teddy_bear", {"color": "pink", "accessory": "top_hat"},
     (("blue", {"color": "blue"}), ("no_hat", {"accessory": "none"}))),
    ("chicken", {"color": "red"}, (("green", {"color": "green"}), ("stripes", {"print": "stripes"}))),
    ("horse", {"color": "white"}, (("red", {"color": "red"}), ("top_hat", {"accessory": "top_hat"}))),
    ("cactus", {"color": "red", "accessory": "party_hat"},
     (("purple", {"color": "purple"}), ("no_hat", {"accessory": "none"}))),
    ("cupcake", {"color": "yellow"}, (("party_hat", {"accessory": "party_hat"}), ("green", {"color": "green"}))),
    ("biplane", {"color": "yellow"}, (("metal", {"material": "metal"}), ("checks", {"print": "checks"}))),
    ("armchair", {"accessory": "party_hat"}, (("green", {"color": "green"}), ("marble", {"material": "marble"}))),
    ("mailbox", {"color": "purple"}, (("yellow", {"color": "yellow"}), ("top_hat", {"accessory": "top_hat"}))),
    ("cup", {"color": "white"}, (("dots", {"print": "dots"}), ("wooden", {"material": "wood"}))),
    ("lantern", {"accessory": "top_hat"}, (("no_hat", {"accessory": "none"}), ("metal", {"material": "metal"}))),
    ("handbag", {"color": "pink"}, (("black", {"color": "black"}), ("stripes", {"print": "stripes"}))),
    ("barrel", {"print": "dots"}, (("crate", {"object": "crate"}), ("no_dots", {"print": "none"}))),
    ("crate", {"material": "metal"}, (("balloon", {"accessory": "balloon"}), ("marble", {"material": "marble"}))),
    ("toilet", {"color": "white"}, (("stripes", {"print": "stripes"}), ("armchair", {"object": "armchair"}))),
    ("boots", {"color": "red", "print": "dots"}, (("yellow", {"color": "yellow"}), ("no_dots", {"print": "none"}))),
    ("forklift", {"color": "yellow"}, (("blue", {"color": "blue"}), ("motorbike", {"object": "motorbike"}))),
)  # fmt: skip
"""Object, what sets the source apart from a plain one, and its edits: a name, and what changes."""

VALIDATION_EDITS: tuple[tuple[str, Words, tuple[tuple[str, Words], ...]], ...] = (
    ("motorbike", {"color": "black", "material": "marble"},
     (("pink", {"color": "pink"}), ("forklift", {"object": "forklift"}))),
    ("rocking_horse", {"color": "pink"}, (("party_hat", {"accessory": "party_hat"}), ("red", {"color": "red"}))),
    ("fire_extinguisher", {"color": "blue", "accessory": "top_hat"},
     (("no_hat", {"accessory": "none"}), ("black", {"color": "black"}))),
    ("lamp", {"material": "wood"}, (("green", {"color": "green"}), ("marble", {"material": "marble"}))),
    ("table", {"color": "purple", "print": "checks"},
     (("no_checks", {"print": "none"}), ("pink", {"color": "pink"}))),
    ("ball", {"color": "blue", "accessory": "top_hat"},
     (("checks", {"print": "checks"}), ("cup", {"object": "cup"}))),
    ("piano", {"color": "black", "material": "marble"},
     (("pink", {"color": "pink"}), ("party_hat", {"accessory": "party_hat"}))),
    ("ring", {"color": "green", "accessory": "party_hat"},
     (("stripes", {"print": "stripes"}), ("yellow", {"color": "yellow"}))),
)  # fmt: skip
"""The same for the validation scenes: other objects, other edits."""

_TYPES = {
    "object": "1_change_object",
    "print": "4_change_attribute_content",
    "color": "6_change_attribute_color",
    "material": "7_change_attribute_material",
}


@dataclass(frozen=True)
class PlannedEdit:
    """An edit of a scene, in words."""

    id: str
    edit_type: str
    target: Scene
    prompts: dict[str, tuple[str, str]]
    """For front, side and back: what the source shows from there, and what the edit shall show."""
    instruction: str


@dataclass(frozen=True)
class PlannedScene:
    """A scene with its edits."""

    source: Scene
    edits: tuple[PlannedEdit, ...]


def plan_objaverse(
    seed: int,
    renderer: Renderer,
    taken: Collection[str],
    wanted: Sequence[tuple[str, Words, tuple[tuple[str, Words], ...]]] = EDITS,
) -> list[PlannedScene]:
    """Choose floor and backdrop of every scene so that its edits are fair from all sides and nothing is known.

    Args:
        seed: decides sets and wording.
        renderer: photographs the candidates.
        taken: composition keys that no scene may have: those that models are trained on.
        wanted: objects and their edits.

    Raises:
        ValueError: a scene for which no set will do; names it and what was wrong last.
    """
    used: Counter[tuple[str, str]] = Counter()
    plan = []
    for name, own, edits in wanted:
        rng = random.Random(f"objaverse-{seed}-{name}")
        sets = [(floor, backdrop) for floor in words.FLOORS for backdrop in words.BACKDROPS]
        rng.shuffle(sets)
        # As many sets as there are, each about equally often.
        sets.sort(key=lambda place: used[place])
        for floor, backdrop in sets:
            source = Scene(
                name, **own, floor=floor, backdrop=backdrop, elevation=TURNTABLE_ELEVATION, distance=DISTANCE
            )
            targets = [source.replace(**change) for _, change in edits]
            reason = _unfair(source, targets, renderer, taken)
            if reason is None:
                break
        else:
            raise ValueError(f"no set will do for {name}: {reason}")
        used[floor, backdrop] += 1
        planned = [
            plan_edit(f"{name}-{label}", source, target, rng)
            for (label, _), target in zip(edits, targets, strict=True)
        ]
        plan.append(PlannedScene(source, tuple(planned)))
    return plan


def plan_edit(id_: str, source: Scene, target: Scene, rng: random.Random) -> PlannedEdit:
    """The words of an edit: one wording for both prompts and all sides."""
    wording = Wording.random(rng)
    prompts = {
        side: edit_prompts(source.replace(yaw=yaw), target.replace(yaw=yaw), wording)
        for side, yaw in SIDE_YAWS.items()
    }
    plain = {side: (_plain(ours), _plain(theirs)) for side, (ours, theirs) in prompts.items()}
    return PlannedEdit(
        id_, edit_type(source, target), target, plain, instruction(source, target, wording, rng)
    )


def edit_type(source: Scene, target: Scene) -> str:
    """PIE-Bench's name for what one word changes."""
    if source.accessory != target.accessory:
        return "2_add_object" if source.accessory == "none" else "3_delete_object"
    return next(type_ for field, type_ in _TYPES.items() if getattr(source, field) != getattr(target, field))


def held_out(target: Scene) -> str:
    """What about an edit's target models have not been trained on; see `piva_bench.studio.build_pie`."""
    return "pair" if held_out_pair(target) else "composition"


def _unfair(source: Scene, targets: list[Scene], renderer: Renderer, taken: Collection[str]) -> str | None:
    for scene in (source, *targets):
        if composition_key(scene) in taken:
            return f"{composition_key(scene)} has been trained on"
    for yaw in (0.0, 90.0, 180.0, 270.0):
        turned = source.replace(yaw=yaw)
        before = renderer.render(turned)
        for target in targets:
            other = target.replace(yaw=yaw)
            if reason := fault(turned, other, before, renderer.render(other)):
                return f"{reason}, seen from {yaw:g} degrees"
    return None


def _plain(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")
