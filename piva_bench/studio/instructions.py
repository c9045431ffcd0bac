"""Instructions as a model is trained on them: the datasets' own wordings, and others that people use.

What is said to the datasets' edits stays as `piva_bench.studio.edit_words` has it: here are further forms beside it.
"""

from __future__ import annotations

import random

from piva_bench.studio import vocabulary as words
from piva_bench.studio.captions import Wording, pick, with_article
from piva_bench.studio.edit_words import ACCESSORY_NAMES, PRINT_NAMES, noun, ways_to_ask
from piva_bench.studio.scene import Scene

Forms = tuple[str, ...]


def training_instruction(source: Scene, target: Scene, rng: random.Random) -> str:
    """The edit as an order in one of many wordings, for instance "please make it red".

    Clauses come in any order; "it" stands for the object once in five where that is the same before and after; some
    orders are polite, begin with a small letter or end with a full stop.
    """
    wording = Wording.random(rng)
    known, others = ways_to_ask(source, target, wording), _other_ways(source, target, wording)
    said = [rng.choice(forms + more) for forms, more in zip(known, others, strict=True)]
    rng.shuffle(said)
    text = rng.choice((" and ", " and ", ", then ")).join(said)
    if source.object == target.object and rng.random() < 0.2:
        text = text.replace(f"the {noun(target, wording)}", "it")
    text = rng.choice(("", "", "", "", "please ", "now ")) + text
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + ("." if rng.random() < 0.2 else "")


def _other_ways(source: Scene, target: Scene, wording: Wording) -> list[Forms]:
    """For each thing that changes, further ways to ask for it; in the order of `ways_to_ask`."""
    it = f"the {noun(target, wording)}"
    ways: dict[str, Forms] = {
        "object": _object(source, target, wording),
        "color": (
            f"turn {it} {target.color}",
            f"{it} should be {target.color}",
            f"color {it} {target.color}",
        ),
        "material": (f"turn {it} into {target.material}", f"{it} should be made of {target.material}"),
        "print": _print(source.print, target.print, it),
        "pose": {
            "upright": (f"stand {it} up", f"turn {it} the right way up"),
            "upside_down": (f"flip {it} upside down", f"put {it} on its head"),
            "lying": (f"knock {it} over", f"let {it} lie on its side"),
        }[target.pose],
        "view": (f"turn {it} around",) if "back" in (source.view, target.view) else (f"turn {it}",),
        "accessory": _accessory(source.accessory, target.accessory, it),
        "second": _second(source, target, wording, it),
        "floor": (f"change the floor to {pick(words.FLOORS[target.floor], wording.floor)}",),
        "backdrop": (f"make the background {pick(words.BACKDROPS[target.backdrop], wording.backdrop)}",),
        "style": {
            "photo": ("make the picture a photo",),
            "sketch": ("draw it with a pencil", "make the picture a sketch"),
            "cartoon": ("draw it as a cartoon", "make the picture a cartoon"),
            "sepia": ("make the photo look old", "make the picture sepia"),
        }[target.style],
    }
    return [forms for field, forms in ways.items() if getattr(source, field) != getattr(target, field)]


def _object(source: Scene, target: Scene, wording: Wording) -> Forms:
    old, new = noun(source, wording), with_article(noun(target, wording))
    return (
        f"swap the {old} for {new}",
        f"make the {old} {new}",
        f"{new} instead of the {old}",
        f"i want {new} there",
    )


def _print(old: str, new: str, it: str) -> Forms:
    if old == new:
        return ()
    if new == "none":
        return (f"take the {PRINT_NAMES[old][0]} off {it}", f"{it} should have no {PRINT_NAMES[old][0]}")
    return (f"cover {it} with {PRINT_NAMES[new][0]}", f"{it} should have {PRINT_NAMES[new][1]}")


def _accessory(old: str, new: str, it: str) -> Forms:
    if old == new:
        return ()
    if new == "none":
        name = ACCESSORY_NAMES[old]
        return (f"get rid of the {name}", f"there should be no {name}")
    name = ACCESSORY_NAMES[new]
    return (f"give {it} a {name}", f"{it} should have a {name}")


def _second(source: Scene, target: Scene, wording: Wording, it: str) -> Forms:
    if source.second == target.second:
        return ()
    if target.second == "none":
        name = f"{source.second_color} {pick(words.SECONDS[source.second], wording.second)}"
        return (f"get rid of the {name}", f"there should be no {name}")
    name = f"{target.second_color} {pick(words.SECONDS[target.second], wording.second)}"
    return (f"place a {name} beside {it}", f"there should be a {name} beside {it}")
