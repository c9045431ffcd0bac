"""What is photographed from all sides: things that stand together, such as a model from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image, ImageChops

from piva_bench.drawing.parts import OBJECT, Part, Placed, Thing, part_of, thing_of, trimesh_parts
from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Floats

TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
"""glTF's frame (y up, front towards +z) in the world's (z up, front towards -y), as Blender imports it."""

GREY = (0.62, 0.62, 0.62)


@dataclass(frozen=True)
class Subject:
    """Things that stand together.

    Attributes:
        pieces: with their model matrices in a frame with y up.
        note: what a user should know about the file, in one line; None if there is nothing.
    """

    pieces: tuple[Placed, ...]
    note: str | None = None

    @property
    def bounds(self) -> Floats:
        """[2, 3] lowest and highest corner in a frame with z up."""
        corners = []
        for piece in self.pieces:
            matrix = TO_Z_UP @ piece.model
            corners.append(piece.thing.outline @ matrix[:3, :3].T + matrix[:3, 3])
        points = np.concatenate(corners)
        return np.stack([points.min(0), points.max(0)])


@dataclass(frozen=True)
class Frame:
    """How subjects are brought into the world: scaled about a point that becomes the origin."""

    scale: float
    centre: tuple[float, float, float]

    @classmethod
    def around(cls, subjects: Sequence[Subject], edge: float = RIG.edge) -> Frame:
        """The frame in which the subjects' common box is centred and its largest edge is ``edge``.

        A source and its edits share one frame, so that what the edit keeps stays where it is.
        """
        bounds = np.stack([subject.bounds for subject in subjects])
        low, high = bounds[:, 0].min(0), bounds[:, 1].max(0)
        x, y, z = ((low + high) / 2).tolist()
        return cls(edge / float((high - low).max()), (x, y, z))

    @property
    def matrix(self) -> Floats:
        """[4, 4] from a frame with y up to the world."""
        move = np.eye(4, dtype=np.float32)
        move[:3, :3] *= self.scale
        move[:3, 3] = -self.scale * np.array(self.centre)
        return move @ TO_Z_UP

    def box(self, subject: Subject) -> Floats:
        """[2, 3] lowest and highest corner of a subject in the world."""
        return (subject.bounds - np.array(self.centre)) * self.scale


def load_model(path: Path) -> Subject:
    """A model from a GLB, glTF, OBJ, PLY or STL file.

    Base colours, their textures and vertex colours are shown; transparency and metalness are not.

    Raises:
        DataError: the file is missing, damaged or holds no triangle; in one line.
    """
    if not path.is_file():
        raise DataError(f"the 3D model {path} does not exist")
    try:
        meshes = trimesh_parts(trimesh.load_scene(path))
        meshes = [mesh for mesh in meshes if len(mesh.faces)]
        # An OBJ has no up of its own; like a GLB it is taken as y up.
        parts = [_part(mesh) for mesh in meshes]
    except Exception as error:  # trimesh and the libraries behind it raise whatever they meet
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"cannot read the 3D model {path}: {reason}") from error
    if not parts:
        raise DataError(f"the 3D model {path} holds no triangle")
    points = np.concatenate([part.vertices for part in parts])
    if not np.isfinite(points).all():
        raise DataError(f"the 3D model {path} has vertices that are not finite")
    if np.ptp(points[:, :3], axis=0).max() <= 0:
        raise DataError(f"the 3D model {path} has no extent")
    plain = all(part.texture is None and part.colour == GREY for part in parts)
    note = f"{path} has neither texture nor colours: it is shown in plain grey" if plain else None
    return Subject((Placed(_thing(path, parts), str(path), np.eye(4, dtype=np.float32), OBJECT),), note)


def _thing(path: Path, parts: list[Part]) -> Thing:
    try:
        return thing_of(parts)
    except Exception as error:  # qhull's, for a model that is a flat sheet or a line
        raise DataError(f"the 3D model {path} is flat: it cannot be seen from all sides") from error


def _part(mesh: trimesh.Trimesh) -> Part:
    visual: Any = mesh.visual
    if visual.kind in ("vertex", "face"):
        return _coloured_faces(mesh)
    material: Any = getattr(visual, "material", None)
    if material is not None and hasattr(material, "to_pbr"):
        material = material.to_pbr()
    factor = getattr(material, "baseColorFactor", None)
    texture = getattr(material, "baseColorTexture", None)
    if texture is not None and getattr(visual, "uv", None) is not None:
        return part_of(mesh, (1.0, 1.0, 1.0), _tinted(texture.convert("RGB"), factor))
    colour = GREY if factor is None else tuple(float(channel) / 255 for channel in factor[:3])
    return part_of(mesh, (colour[0], colour[1], colour[2]), None)


def _tinted(texture: Image.Image, factor: Any) -> Image.Image:
    if factor is None or tuple(factor[:3]) == (255, 255, 255):
        return texture
    return ImageChops.multiply(texture, Image.new("RGB", texture.size, tuple(int(c) for c in factor[:3])))


def _coloured_faces(mesh: trimesh.Trimesh) -> Part:
    """Vertex or face colours as a texture with a texel a face."""
    colours = np.asarray(mesh.visual.face_colors)[:, :3]
    side = int(np.ceil(np.sqrt(len(colours))))
    texels = np.zeros((side * side, 3), np.uint8)
    texels[: len(colours)] = colours
    part = part_of(mesh, (1.0, 1.0, 1.0), None)
    # Smooth shading may reorder faces' vertices, never the faces.
    number = np.repeat(np.arange(len(colours)), 3)
    uv = np.stack([(number % side + 0.5) / side, 1 - (number // side + 0.5) / side], axis=1)
    vertices = part.vertices.copy()
    vertices[:, 6:8] = uv
    return Part(vertices, part.colour, Image.fromarray(texels.reshape(side, side, 3)))
