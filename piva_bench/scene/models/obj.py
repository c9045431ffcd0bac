"""OBJ models with their materials (Wavefront's "Advanced Visualizer" appendix B), as programs write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from piva_bench.errors import DataError
from piva_bench.scene.models.geometry import creased_normals, cut_polygon, whole_normals
from piva_bench.scene.models.mtl import Map, Material, parse_mtl
from piva_bench.scene.models.surface import (
    PLAIN,
    Floats,
    Layer,
    Notes,
    Rgba,
    Surface,
    Texture,
    display_factor,
    to_light,
)
from piva_bench.scene.models.textures import find_beside, texture_file

Corner = tuple[int, int, int]
"""Numbers of position, texture coordinate and normal, from 0; -1 for none."""
FREE_FORM = ("curv", "curv2", "surf")


@dataclass
class _Obj:
    """What the lines of a file say."""

    folder: Path
    notes: Notes = field(default_factory=Notes)
    positions: list[list[float]] = field(default_factory=list)
    colours: dict[int, list[float]] = field(default_factory=dict)
    coordinates: list[list[float]] = field(default_factory=list)
    normals: list[list[float]] = field(default_factory=list)
    faces: dict[str | None, list[list[Corner]]] = field(default_factory=dict)
    libraries: list[str] = field(default_factory=list)
    material: str | None = None


def read_obj(path: Path) -> tuple[list[Surface], Notes]:
    """The triangles of a file, taken as y up, and what is not shown of it.

    Raises:
        DataError: it is malformed or has no triangle; in one line.
    """
    obj = _Obj(path.parent)
    for number, line in enumerate(_lines(_text(path)), start=1):
        try:
            _statement(obj, line)
        except (ValueError, IndexError) as error:
            comma = "; write numbers with a point" if "," in line else ""
            raise DataError(
                f"it is damaged: line {number} ({line.strip()[:60]}) cannot be read{comma}"
            ) from error
    if not obj.faces:
        seen = ", ".join(obj.notes.unshown)
        raise DataError("it holds no triangle" + (f" (but {seen})" if seen else ""))
    materials = _materials(obj)
    known: dict[str, Any] = {}
    surfaces = [_surface(obj, name, faces, materials, known) for name, faces in obj.faces.items() if faces]
    if surfaces and all(surface.invisible for surface in surfaces):
        # Some programs write d for what they call transparency.
        obj.notes.say("all its materials are fully transparent (d 0 or Tr 1): it is shown opaque")
        surfaces = [_opaque(surface) for surface in surfaces]
    return surfaces, obj.notes


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _lines(text: str) -> Iterator[str]:
    """The lines, one for each in the file; of a line that goes on in the next ones all of it comes last."""
    begun = ""
    # Not splitlines: names may hold its rarer ends of lines.
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.endswith("\\"):
            begun += line[:-1] + " "
            yield ""
        else:
            yield begun + line
            begun = ""


def _statement(obj: _Obj, line: str) -> None:
    key, *words = line.split("#")[0].split() or [""]
    if key == "v":
        _vertex(obj, [float(word) for word in words])
    elif key == "vt":
        obj.coordinates.append([float(words[0]), float(words[1]) if len(words) > 1 else 0.0])
    elif key == "vn":
        obj.normals.append([float(word) for word in words[:3]])
    elif key in ("f", "fo"):
        corners = [_corner(obj, word) for word in words]
        if len(corners) >= 3:
            obj.faces.setdefault(obj.material, []).append(corners)
    elif key == "usemtl":
        obj.material = _rest(line)
    elif key == "mtllib":
        obj.libraries.append(_rest(line))
    elif key in ("l", "p"):
        obj.notes.not_shown("lines" if key == "l" else "points")
    elif key in FREE_FORM:
        obj.notes.not_shown("curves and curved surfaces")


def _rest(line: str) -> str:
    return (
        line.strip().partition(" ")[2].strip() if "\t" not in line.strip() else line.split(None, 1)[1].strip()
    )


def _vertex(obj: _Obj, values: list[float]) -> None:
    if len(values) < 3:
        raise ValueError("a vertex has three coordinates")
    if len(values) >= 6:  # x y z r g b, and with an alpha that means nothing here
        obj.colours[len(obj.positions)] = values[3:6]
    obj.positions.append(values[:3])


def _corner(obj: _Obj, word: str) -> Corner:
    place, coordinate, normal, *_ = [*word.split("/"), "", ""]
    return (
        _index(place, len(obj.positions)),
        _index(coordinate, len(obj.coordinates)) if coordinate else -1,
        _index(normal, len(obj.normals)) if normal else -1,
    )


def _index(word: str, count: int) -> int:
    """From 1 on, or backwards from the last one read so far."""
    number = int(word)
    if number == 0 or number < -count:
        raise ValueError("no such index")
    return number - 1 if number > 0 else count + number


def _materials(obj: _Obj) -> dict[str, Material]:
    materials: dict[str, Material] = {}
    for line in obj.libraries:
        # A name may hold spaces, and a line several names.
        names = [line] if find_beside(obj.folder, line) is not None else line.split()
        for name in names:
            path = find_beside(obj.folder, name)
            if path is None:
                obj.notes.say(f"its materials {name} are not beside it: put them there")
                continue
            try:
                text = _text(path)
            except OSError as error:
                obj.notes.say(f"its materials {name} cannot be read ({error.strerror or error})")
                continue
            for key, material in parse_mtl(text, obj.notes).items():
                materials.setdefault(key, material)
    return materials


def _surface(
    obj: _Obj,
    name: str | None,
    faces: list[list[Corner]],
    materials: dict[str, Material],
    known: dict[str, Any],
) -> Surface:
    positions = np.asarray(obj.positions, np.float64)
    corners = np.array([corner for face in faces for corner in _cut(face, positions)], np.int64).reshape(
        -1, 3
    )
    for column, values in enumerate((obj.positions, obj.coordinates, obj.normals)):
        if corners[:, column].max(initial=-1) >= len(values):
            raise DataError(
                f"it is damaged: a face names element {corners[:, column].max() + 1} of {len(values)}"
            )
    points = positions[corners[:, 0]]
    material = None if name is None else materials.get(name)
    if material is None and name is not None and obj.libraries and materials:
        obj.notes.say(f"material {name[:60]} is in none of its libraries: shown in plain grey")
    tints = _tints(obj, corners[:, 0])
    base, coloured = _base(obj, name, material, corners[:, 1], tints is not None, known)
    return Surface(
        points, _normals(obj, corners[:, 2], points), base, _glow(obj, material, corners[:, 1], known), tints,
        alpha="opaque" if material is None or material.opacity >= 1 else "blend",
        coloured=coloured,
    )  # fmt: skip


def _cut(face: list[Corner], positions: Floats) -> Iterator[Corner]:
    if len(face) == 3:
        yield from face
        return
    points = positions[[min(corner[0], len(positions) - 1) for corner in face]]
    for triangle in cut_polygon(points - points[0]):
        for number in triangle:
            yield face[number]


def _normals(obj: _Obj, numbers: Any, points: Floats) -> Floats:
    stated = numbers >= 0
    if stated.all():
        return whole_normals(np.asarray(obj.normals, np.float64)[numbers], points)
    if not np.isfinite(points).all():
        return np.zeros_like(points)
    normals = creased_normals(points)
    if stated.any():
        normals[stated] = np.asarray(obj.normals, np.float64)[numbers[stated]]
    return whole_normals(normals, points)


def _tints(obj: _Obj, numbers: Any) -> Floats | None:
    """Vertex colours, display values in the file; of [0, 255] if any is above 1."""
    if not obj.colours:
        return None
    colours = np.ones((len(obj.positions), 3))
    rows = list(obj.colours)
    colours[rows] = list(obj.colours.values())
    if colours[rows].max() > 1:
        colours[rows] /= 255
    out = np.ones((len(numbers), 4))
    out[:, :3] = to_light(colours.clip(0, 1))[numbers]
    return out


def _base(
    obj: _Obj, name: str | None, material: Material | None, numbers: Any, tinted: bool, known: dict[str, Any]
) -> tuple[Layer, bool]:
    """What a material reflects, and whether the file says what that is."""
    if material is None:
        return Layer((1.0, 1.0, 1.0, 1.0) if tinted else display_factor(PLAIN, PLAIN, PLAIN)), tinted
    diffuse = material.diffuse
    if material.diffuse_map is not None and diffuse is not None and max(diffuse) <= 0:
        obj.notes.say(f"material {name}: its Kd 0 0 0 would blacken its texture, which is shown as it is")
        diffuse = None
    layer = _layer(obj, material.diffuse_map, numbers, known)
    said = tinted or diffuse is not None or layer is not None
    if not said:
        diffuse = (PLAIN, PLAIN, PLAIN)
        obj.notes.say(f"material {name} states no colour (Kd): shown in plain grey")
    factor = display_factor(*(diffuse or (1.0, 1.0, 1.0)), material.opacity)
    return (Layer(factor) if layer is None else Layer(factor, layer.texture, layer.uv)), said


def _glow(obj: _Obj, material: Material | None, numbers: Any, known: dict[str, Any]) -> Layer | None:
    if material is None:
        return None
    layer = _layer(obj, material.glow_map, numbers, known)
    colour = material.glow or (0.0, 0.0, 0.0)
    if layer is not None and max(colour) <= 0:
        colour = (1.0, 1.0, 1.0)
    if max(colour) <= 0:
        return None
    factor = display_factor(*colour)
    return Layer(factor) if layer is None else Layer(factor, layer.texture, layer.uv)


def _layer(obj: _Obj, named: Map | None, numbers: Any, known: dict[str, Any]) -> Layer | None:
    if named is None:
        return None
    try:
        if (numbers < 0).any():
            raise DataError("the faces it is meant for have no texture coordinates")
        texture = Texture(texture_file(obj.folder, named.name, known), (not named.clamp, not named.clamp))
    except DataError as error:
        obj.notes.say(f"texture {named.name[:120]} is not shown: {error}")
        return None
    uv = np.asarray(obj.coordinates, np.float64)[numbers] * named.scale + named.offset
    uv[:, 1] = 1 - uv[:, 1]  # the format counts v upwards
    return Layer(texture=texture, uv=uv)


def _opaque(surface: Surface) -> Surface:
    red, green, blue, _ = surface.base.factor
    factor: Rgba = (red, green, blue, 1.0)
    return replace(surface, base=replace(surface.base, factor=factor), alpha="opaque")
