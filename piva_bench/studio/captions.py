"""Captions: a scene in natural English, with templates and synonyms."""

from __future__ import annotations

import random
from dataclasses import dataclass

from piva_bench.studio import vocabulary as words
from piva_bench.studio.scene import Scene


@dataclass(frozen=True)
class Wording:
    """The choice of template and synonyms, so that a source and a target prompt can share theirs.

    Each number in [0, 1) picks one entry of the list it belongs to.
    """

    template: float = 0.0
    style: float = 0.0
    object: float = 0.0
    material: float = 0.0
    print: float = 0.0
    pose: float = 0.0
    accessory: float = 0.0
    second: float = 0.0
    floor: float = 0.0
    backdrop: float = 0.0

    @classmethod
    def random(cls, rng: random.Random) -> Wording:
        """A wording with every choice left to chance."""
        return cls(*(rng.random() for _ in cls.__dataclass_fields__))


def pick(forms: tuple[str, ...], number: float) -> str:
    """The form of a word that a number in [0, 1) stands for."""
    return forms[int(number * len(forms))]


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def phrases(scene: Scene, wording: Wording = Wording()) -> dict[str, str]:
    """The caption's parts: ``style``, ``subject`` (article, colour, material, object), ``print``, ``pose``,
    ``view``, ``accessory``, ``second``, ``floor``, ``backdrop``. Parts that say nothing are empty.
    """
    material = pick(words.MATERIALS[scene.material], wording.material)
    subject = " ".join(
        w for w in (scene.color, material, pick(words.OBJECTS[scene.object], wording.object)) if w
    )
    second = ""
    if scene.second != "none":
        assert scene.second_color is not None
        second = (
            f"next to {with_article(scene.second_color)} {pick(words.SECONDS[scene.second], wording.second)}"
        )
    return {
        "style": pick(words.STYLES[scene.style], wording.style),
        "subject": with_article(subject),
        "print": pick(words.PRINTS[scene.print], wording.print),
        "pose": pick(words.POSES[scene.pose], wording.pose),
        "view": pick(words.VIEWS[scene.view], wording.pose),
        "accessory": pick(words.ACCESSORIES[scene.accessory], wording.accessory),
        "second": second,
        "floor": "on " + pick(words.FLOORS[scene.floor], wording.floor),
        "backdrop": "in front of " + pick(words.BACKDROPS[scene.backdrop], wording.backdrop),
    }


TEMPLATES: tuple[tuple[str, ...], ...] = (
    ("style", "subject", "print", "pose", "view", "accessory", "second", "floor", "backdrop"),
    ("style", "subject", "print", "accessory", "pose", "view", "second", "backdrop", "floor"),
    ("style", "subject", "print", "pose", "view", "floor", "accessory", "second", "backdrop"),
)


def caption(scene: Scene, wording: Wording = Wording()) -> str:
    """The full caption of a scene: every part, in the order of the wording's template."""
    parts = phrases(scene, wording)
    order = TEMPLATES[int(wording.template * len(TEMPLATES))]
    return " ".join(parts[name] for name in order if parts[name])


def training_caption(scene: Scene, rng: random.Random) -> str:
    """A caption as a model is trained on it: random wording, and once in five a part or two left unsaid."""
    wording = Wording.random(rng)
    parts = phrases(scene, wording)
    if rng.random() < 0.2:
        for name in rng.sample(("floor", "backdrop", "pose", "view", "accessory", "second", "print"), 2):
            parts[name] = ""
    if rng.random() < 0.15 and scene.style == "photo":
        parts["style"] = ""
    order = TEMPLATES[int(wording.template * len(TEMPLATES))]
    return " ".join(parts[name] for name in order if parts[name])
