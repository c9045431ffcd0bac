"""MTL files: the materials of OBJ models (Wavefront's "Advanced Visualizer" appendix B1), as programs write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from piva_bench.scene.models.surface import Notes

OPTIONS = {
    "-blendu": 1, "-blendv": 1, "-boost": 1, "-bm": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-mm": 2,
    "-texres": 1, "-type": 1, "-colorspace": 1,
}  # fmt: skip
"""Options of maps, and how many words follow each; ``-o``, ``-s`` and ``-t`` are followed by up to three."""
UP_TO_THREE = ("-o", "-s", "-t")
UNSHOWN = {
    "bump": "bump maps", "map_bump": "bump maps", "norm": "normal maps", "map_kn": "normal maps",
    "map_ks": "specular maps", "map_ns": "gloss maps", "map_d": "opacity maps", "map_tr": "opacity maps",
    "map_ka": "ambient maps", "map_pr": "roughness maps", "map_pm": "metalness maps", "disp": "displacement maps",
    "map_disp": "displacement maps", "decal": "decals", "refl": "reflection maps", "map_opacity": "opacity maps",
}  # fmt: skip
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Map:
    """A texture that a material names.

    Attributes:
        name: of the file, as it is written.
        scale: of texture coordinates.
        offset: of texture coordinates.
        clamp: whether it ends at its edges.
    """

    name: str
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamp: bool = False


@dataclass
class Material:
    """What a material says of colours, display values.

    Attributes:
        diffuse: ``Kd``.
        diffuse_map: ``map_Kd``.
        glow: ``Ke``.
        glow_map: ``map_Ke``.
        opacity: ``d``, or 1 - ``Tr`` where that is all it says.
    """

    diffuse: Colour | None = None
    diffuse_map: Map | None = None
    glow: Colour | None = None
    glow_map: Map | None = None
    opacity: float = 1.0
    dissolved: bool = False


def parse_mtl(text: str, notes: Notes) -> dict[str, Material]:
    """The materials of a library by name. What it cannot make out of a line becomes a note."""
    materials: dict[str, Material] = {}
    current: Material | None = None
    for line in text.replace("\r\n", "\n").replace("\r", "\n").replace("\\\n", " ").split("\n"):
        key, _, rest = line.strip().replace("\t", " ").partition(" ")
        key, rest = key.lower(), rest.strip()
        if key == "newmtl":
            current = materials.setdefault(rest, Material())
        elif current is not None and key and not key.startswith("#"):
            _statement(current, key, rest, notes)
    return materials


def _statement(material: Material, key: str, rest: str, notes: Notes) -> None:
    if key in ("kd", "ke"):
        colour = _colour(rest)
        if colour is None:
            notes.say(f"{'Kd' if key == 'kd' else 'Ke'} {rest[:60]} is not read: only red green blue are")
        elif key == "kd":
            material.diffuse = colour
        else:
            material.glow = colour
    elif key in ("map_kd", "map_ke"):
        found = parse_map(rest, notes)
        if found is None:
            notes.say(f"a texture without a name is not shown: {key} {rest[:60]}")
        elif key == "map_kd":
            material.diffuse_map = found
        else:
            material.glow_map = found
    elif key in ("d", "tr"):
        _opacity(material, key, rest, notes)
    elif key in UNSHOWN:
        notes.not_shown(UNSHOWN[key])


def _opacity(material: Material, key: str, rest: str, notes: Notes) -> None:
    words = [word for word in rest.split() if word != "-halo"]
    try:
        value = min(max(float(words[0]), 0.0), 1.0)
    except (IndexError, ValueError):
        notes.say(f"{key} {rest[:60]} is not read: only a number is")
        return
    if key == "d":
        material.opacity, material.dissolved = value, True
    elif not material.dissolved:
        material.opacity = 1 - value


def parse_map(rest: str, notes: Notes) -> Map | None:
    """A texture statement: options, then a name that may hold spaces."""
    words = [(found.group(), found.start()) for found in re.finditer(r"\S+", rest)]
    scale, offset, clamp, at = (1.0, 1.0), (0.0, 0.0), False, 0
    while at < len(words) and (words[at][0].lower() in OPTIONS or words[at][0].lower() in UP_TO_THREE):
        option = words[at][0].lower()
        at += 1
        given = [word for word, _ in words[at : at + OPTIONS.get(option, 3)]]
        if option in UP_TO_THREE:
            given = list(takewhile(_is_number, given[: len(words) - at - 1]))
            values = [float(word) for word in given]
            if option == "-s":
                scale = values[0] if values else 1.0, values[1] if len(values) > 1 else 1.0
            elif option == "-o":
                offset = values[0] if values else 0.0, values[1] if len(values) > 1 else 0.0
            elif any(values):
                notes.not_shown("turbulence of textures (-t)")
        elif option == "-clamp":
            clamp = given == ["on"]
        elif option == "-mm" and given != ["0", "1"]:
            notes.not_shown("base and gain of textures (-mm)")
        elif option == "-imfchan":
            notes.not_shown("channels of textures (-imfchan)")
        at += len(given)
    name = rest[words[at][1] :].strip() if at < len(words) else ""
    return Map(name, scale, offset, clamp) if name else None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _colour(rest: str) -> Colour | None:
    words = rest.split()
    if not words or not all(map(_is_number, words[:3])):
        return None
    red, *more = (min(max(float(word), 0.0), 1.0) for word in words[:3])
    green, blue = more if len(more) == 2 else (red, red)  # the format lets red stand for all
    return red, green, blue
