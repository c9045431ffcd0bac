"""The words of an edit: two prompts that share all they can, an instruction, and the blended words."""

from __future__ import annotations

import random

from piva_bench.studio import vocabulary as words
from piva_bench.studio.captions import TEMPLATES, Wording, phrases
from piva_bench.studio.captions import pick as pick
from piva_bench.studio.captions import with_article as article
from piva_bench.studio.scene import Scene

ACCESSORY_NAMES = {"party_hat": "party hat", "top_hat": "top hat", "balloon": "balloon"}
PRINT_NAMES = {
    "stripes": ("stripes", "a striped print"),
    "dots": ("polka dots", "a dotted print"),
    "checks": ("checks", "a checkered print"),
}


def edit_prompts(source: Scene, target: Scene, wording: Wording) -> tuple[str, str]:
    """Source and target caption in the same wording, with [ ] round the words the other does not share."""
    ours, theirs = phrases(source, wording), phrases(target, wording)
    order = TEMPLATES[int(wording.template * len(TEMPLATES))]
    pairs = [_bracket(ours[name].split(), theirs[name].split()) for name in order]
    first, second = ([side for side in column if side] for column in zip(*pairs, strict=True))
    return " ".join(first), " ".join(second)


def _bracket(ours: list[str], theirs: list[str]) -> tuple[str, str]:
    """Both word lists as text, with [ ] round what lies between their common beginning and common end."""
    if ours == theirs:
        return " ".join(ours), " ".join(theirs)
    start = 0
    while start < min(len(ours), len(theirs)) and ours[start] == theirs[start]:
        start += 1
    end = 0
    while end < min(len(ours), len(theirs)) - start and ours[-1 - end] == theirs[-1 - end]:
        end += 1

    def mark(text: list[str]) -> str:
        middle = text[start : len(text) - end]
        changed = [f"[{' '.join(middle)}]"] if middle else []
        return " ".join(text[:start] + changed + text[len(text) - end :])

    return mark(ours), mark(theirs)


def instruction(source: Scene, target: Scene, wording: Wording, rng: random.Random) -> str:
    """The edit as an order, for instance "Paint the horse red and put a party hat on the horse"."""
    text = " and ".join(rng.choice(forms) for forms in ways_to_ask(source, target, wording))
    return text[0].upper() + text[1:]


def ways_to_ask(source: Scene, target: Scene, wording: Wording) -> list[tuple[str, ...]]:
    """For each thing that changes, the ways to ask for it, in the order of `Scene`'s words."""
    parts = (_object_clauses, _thing_clauses, _place_clauses)
    return [forms for part in parts for forms in part(source, target, wording)]


def _object_clauses(source: Scene, target: Scene, wording: Wording) -> list[tuple[str, ...]]:
    old, it = f"the {noun(source, wording)}", f"the {noun(target, wording)}"
    clauses: list[tuple[str, ...]] = []
    if source.object != target.object:
        new = article(noun(target, wording))
        clauses.append((f"replace {old} with {new}", f"change {old} to {new}", f"turn {old} into {new}"))
    if source.color != target.color:
        forms: tuple[str, ...] = (f"paint {it} {target.color}", f"make {it} {target.color}")
        if source.color and source.object == target.object:
            forms += (f"change {it} from {source.color} to {target.color}",)
        clauses.append(forms)
    if source.material != target.material:
        adjective = pick(words.MATERIALS[target.material], wording.material)
        clauses.append((f"make {it} {adjective}", f"make {it} out of {target.material}"))
    if source.print != target.print:
        clauses.append(_print_clause(source.print, target.print, it))
    if source.pose != target.pose:
        clauses.append(
            {
                "upright": (f"set {it} upright", f"put {it} back upright"),
                "upside_down": (f"turn {it} upside down", f"stand {it} on its head"),
                "lying": (f"lay {it} on its side", f"tip {it} over on its side"),
            }[target.pose]
        )
    if source.view != target.view:
        side = {"front": "the front", "side": "the side", "back": "behind"}[target.view]
        clauses.append((f"turn {it} so that it is seen from {side}", f"show {it} from {side}"))
    return clauses


def _print_clause(old: str, new: str, it: str) -> tuple[str, ...]:
    if new == "none":
        return (f"remove the {PRINT_NAMES[old][0]} from {it}",)
    if old == "none":
        return (f"put {PRINT_NAMES[new][0]} on {it}", f"give {it} {PRINT_NAMES[new][1]}")
    return (f"change the {PRINT_NAMES[old][0]} on {it} to {PRINT_NAMES[new][0]}",)


def _thing_clauses(source: Scene, target: Scene, wording: Wording) -> list[tuple[str, ...]]:
    it = f"the {noun(target, wording)}"
    clauses: list[tuple[str, ...]] = []
    if source.accessory != target.accessory:
        if target.accessory == "none":
            name = ACCESSORY_NAMES[source.accessory]
            clauses.append((f"remove the {name}", f"take the {name} away"))
        elif target.accessory == "balloon":
            clauses.append((f"tie a balloon to {it}", f"add a balloon to {it}"))
        else:
            name = ACCESSORY_NAMES[target.accessory]
            clauses.append((f"put a {name} on {it}", f"add a {name} on top of {it}"))
    if source.second != target.second:
        if target.second == "none":
            name = f"{source.second_color} {pick(words.SECONDS[source.second], wording.second)}"
            clauses.append((f"remove the {name}", f"take the {name} away"))
        else:
            name = f"{target.second_color} {pick(words.SECONDS[target.second], wording.second)}"
            clauses.append((f"put a {name} next to {it}", f"add a {name} next to {it}"))
    return clauses


def _place_clauses(source: Scene, target: Scene, wording: Wording) -> list[tuple[str, ...]]:
    it = f"the {noun(target, wording)}"
    clauses: list[tuple[str, ...]] = []
    if source.floor != target.floor:
        old, new = (pick(words.FLOORS[scene.floor], wording.floor) for scene in (source, target))
        clauses.append((f"replace {the(old)} with {new}", f"put {it} on {new}"))
    if source.backdrop != target.backdrop:
        old, new = (pick(words.BACKDROPS[scene.backdrop], wording.backdrop) for scene in (source, target))
        clauses.append(
            (
                f"replace {the(old)} with {new}",
                f"put {it} in front of {new}",
                f"change the background to {new}",
            )
        )
    if source.style != target.style:
        new = pick(words.STYLES[target.style], wording.style).removesuffix(" of")
        if target.style == "photo":
            new = "a photo"
        clauses.append((f"turn the picture into {new}", f"make it look like {new}"))
    return clauses


def blended_word(source: Scene, target: Scene, wording: Wording) -> str:
    """Pairs of single words "source target" that name what changes, in PIE-Bench's form.

    It is the thing itself where it turns into another or gets a new look, the thing and its bearer where
    something comes or goes.
    """
    ours, theirs = noun(source, wording), noun(target, wording)
    pairs: list[tuple[str, str]] = []
    look = ("object", "color", "material", "print", "pose", "view")
    if any(getattr(source, field) != getattr(target, field) for field in look):
        pairs.append((ours, theirs))
    for field, names in (("accessory", ACCESSORY_NAMES), ("second", words.SECONDS)):
        old, new = getattr(source, field), getattr(target, field)
        if old != new:
            thing = names[new if old == "none" else old]
            name = thing if isinstance(thing, str) else pick(thing, wording.second)
            pairs.append((ours, name) if old == "none" else (name, theirs))
    for field, forms in (("floor", words.FLOORS), ("backdrop", words.BACKDROPS), ("style", words.STYLES)):
        old, new = getattr(source, field), getattr(target, field)
        if old != new:
            number = getattr(wording, field)
            pairs.append((pick(forms[old], number), pick(forms[new], number)))
    return " ".join(_head(phrase) for pair in pairs for phrase in pair)


def noun(scene: Scene, wording: Wording) -> str:
    """The object's name: "fire extinguisher"."""
    return pick(words.OBJECTS[scene.object], wording.object)


def _head(phrase: str) -> str:
    """The noun that carries a phrase: "a blue sky with clouds" -> "sky"."""
    return phrase.removesuffix(" of").split(" with ")[0].split()[-1]


def the(phrase: str) -> str:
    """The phrase with "the", cut before a "with": "replace the blue sky with clouds with ..." would not read."""
    return "the " + phrase.split(" with ")[0].removeprefix("a ").removeprefix("an ")
