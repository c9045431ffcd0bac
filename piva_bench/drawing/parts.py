"""What can be drawn: parts of one colour or texture, things made of parts, and things that stand somewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh
from PIL import Image

Floats = npt.NDArray[np.floating[Any]]

BACKDROP, FLOOR, OBJECT, ACCESSORY, SECOND = range(5)
"""What a pixel shows: values of :attr:`Placed.id`, and of the studio's ids."""


@dataclass(frozen=True)
class Part:
    """Triangles of one base colour or texture. ``vertices`` is [N, 8]: position, normal, texture coordinate."""

    vertices: Floats
    colour: tuple[float, float, float]
    texture: Image.Image | None = None


@dataclass(frozen=True)
class Thing:
    """Parts in one frame: y up, standing on y = 0, centred, largest edge 1 (primitives and models alike)."""

    parts: tuple[Part, ...]
    luminance: float
    """Mean luminance of the thing's own colours, so that paint keeps the model's light and dark."""

    outline: Floats
    """[N, 3] vertices of the convex hull: all that placing the thing on the ground needs."""


LUMA = np.array([0.2126, 0.7152, 0.0722])


def part_of(mesh: trimesh.Trimesh, colour: tuple[float, float, float], texture: Image.Image | None) -> Part:
    """A mesh of one colour or texture as a part, with normals that keep its creases."""
    uv = getattr(mesh.visual, "uv", None) if texture is not None else None
    if uv is None:
        # Creases sharper than 40 degrees stay sharp: a crate must not shade like a ball.
        mesh = trimesh.graph.smooth_shade(mesh, angle=np.radians(40))
    corners = mesh.faces.reshape(-1)
    coordinates = np.zeros((len(mesh.vertices), 2)) if uv is None else np.asarray(uv)
    data = np.concatenate([mesh.vertices, mesh.vertex_normals, coordinates], axis=1)[corners]
    return Part(np.ascontiguousarray(data, np.float32), colour, texture)


def thing_of(parts: list[Part]) -> Thing:
    """Parts as a thing, with what painting and placing it need to know."""
    weights, lights = [], []
    for part in parts:
        triangles = part.vertices[:, :3].reshape(-1, 3, 3)
        sides = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        weights.append(float(np.linalg.norm(sides, axis=1).sum()))
        colour = np.asarray(part.texture, float).mean((0, 1)) / 255 if part.texture else np.array(part.colour)
        lights.append(float(colour @ LUMA))
    points = np.concatenate([p.vertices[:, :3] for p in parts])
    outline = trimesh.convex.hull_points(points).astype(np.float32)
    return Thing(tuple(parts), max(float(np.average(lights, weights=weights)), 0.05), outline)


def trimesh_parts(scene: trimesh.Scene) -> list[trimesh.Trimesh]:
    """The scene's meshes, each brought to the scene's frame."""
    return [mesh for mesh in scene.dump() if isinstance(mesh, trimesh.Trimesh)]


@dataclass(frozen=True)
class Placed:
    """A thing on the set: where it stands, and as what."""

    thing: Thing
    name: str
    model: Floats
    id: int
    paint: tuple[float, float, float] | None = None
    material: int = 0
    pattern: int = 0
    opacity: float = 1.0
    """What one sees through; posed views show it, the set does not."""
