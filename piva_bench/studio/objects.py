"""The studio's things as triangle parts: the CC0 models, three primitives, accessories and second objects."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from piva_bench.drawing.parts import Thing, part_of, thing_of, trimesh_parts
from piva_bench.errors import DataError
from piva_bench.paths import data_root


def load_glb(path: Path) -> Thing:
    """Read a GLB that stands in the studio's frame.

    Raises:
        DataError: the file is missing or is no mesh.
    """
    try:
        scene = trimesh.load_scene(path)
    except Exception as error:  # trimesh raises whatever its parsers meet
        raise DataError(
            f"cannot read the 3D model {path}: {error}; restore it from the repository"
        ) from error
    parts = []
    for mesh in trimesh_parts(scene):
        material: Any = mesh.visual.material
        texture = material.baseColorTexture
        factor = material.baseColorFactor
        red, green, blue = (255, 255, 255) if factor is None else factor[:3]
        colour = (red / 255, green / 255, blue / 255)
        parts.append(part_of(mesh, colour, texture.convert("RGB") if texture is not None else None))
    return thing_of(parts)


def _fit(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    low, high = mesh.bounds
    centre = (low + high) / 2
    mesh.apply_translation([-centre[0], -low[1], -centre[2]])
    mesh.apply_scale(1.0 / (high - low).max())
    return mesh


def _upright(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Turn trimesh's z-up solids to the studio's y-up."""
    return mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))


@lru_cache(maxsize=64)
def thing(name: str) -> Thing:
    """An object, a second object or an accessory by name, in its own frame."""
    grey = (0.62, 0.62, 0.62)
    if name == "ball":
        return thing_of([part_of(_fit(trimesh.creation.icosphere(subdivisions=4)), grey, None)])
    if name == "cone":
        return thing_of([part_of(_fit(_upright(trimesh.creation.cone(0.42, 1.0, sections=48))), grey, None)])
    if name == "cube":
        return thing_of([part_of(_fit(trimesh.creation.box((1, 1, 1))), grey, None)])
    if name == "ring":
        return thing_of([part_of(_fit(trimesh.creation.torus(0.36, 0.14)), grey, None)])
    if name == "party_hat":
        brim = trimesh.creation.icosphere(subdivisions=2, radius=0.12).apply_translation([0, 1.0, 0])
        cone = _upright(trimesh.creation.cone(0.36, 1.0, sections=32))
        return thing_of([part_of(cone, (0.95, 0.2, 0.6), None), part_of(brim, (1.0, 0.9, 0.2), None)])
    if name == "top_hat":
        crown = _upright(trimesh.creation.cylinder(0.34, 0.72, sections=32)).apply_translation([0, 0.36, 0])
        brim = _upright(trimesh.creation.cylinder(0.58, 0.07, sections=32)).apply_translation([0, 0.035, 0])
        band = _upright(trimesh.creation.cylinder(0.35, 0.14, sections=32)).apply_translation([0, 0.16, 0])
        black = (0.05, 0.05, 0.06)
        return thing_of(
            [part_of(crown, black, None), part_of(brim, black, None), part_of(band, (0.8, 0.1, 0.1), None)]
        )
    if name == "balloon":
        air = trimesh.creation.icosphere(subdivisions=3, radius=0.42)
        air.apply_scale([1, 1.15, 1]).apply_translation([0.62, 0.72, 0])
        string = trimesh.creation.cylinder(0.02, sections=6, segment=np.array([[0, 0, 0], [0.62, 0.28, 0]]))
        return thing_of([part_of(air, (0.9, 0.08, 0.1), None), part_of(string, (0.2, 0.2, 0.2), None)])
    return load_glb(data_root() / "studio" / "objects" / f"{name}.glb")
