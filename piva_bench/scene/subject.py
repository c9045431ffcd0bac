"""What is photographed from all sides: things that stand together, such as a model from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from piva_bench.drawing.parts import Placed
from piva_bench.scene.cameras import RIG, Floats
from piva_bench.scene.models import Place, Surface, read_model

TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
"""glTF's frame (y up, front towards +z) in the world's (z up, front towards -y), as Blender imports it."""


@dataclass(frozen=True)
class Subject:
    """Things that stand together.

    Attributes:
        pieces: of the studio, with their model matrices in a frame with y up; their colours are display values.
        surfaces: of a model's file, in that frame; their colours are light.
        notes: what a user should know about the file, a line each.
        place: where the surfaces, brought to a box of edge 1 about the origin, lie in their file.
    """

    pieces: tuple[Placed, ...] = ()
    surfaces: tuple[Surface, ...] = ()
    notes: tuple[str, ...] = ()
    place: Place = field(default_factory=Place)

    @property
    def bounds(self) -> Floats:
        """[2, 3] lowest and highest corner in a frame with z up."""
        corners = [surface.positions @ TO_Z_UP[:3, :3].T for surface in self.surfaces]
        for piece in self.pieces:
            matrix = TO_Z_UP @ piece.model
            corners.append(piece.thing.outline @ matrix[:3, :3].T + matrix[:3, 3])
        points = np.concatenate(corners)
        return np.stack([points.min(0), points.max(0)])

    def beside(self, other: Subject) -> Subject:
        """The surfaces as they lie beside another model's: both files have one frame, and the other is in its box."""
        move = (np.array(self.place.centre) - other.place.centre) / other.place.edge
        scale = self.place.edge / other.place.edge
        moved = (replace(surface, positions=surface.positions * scale + move) for surface in self.surfaces)
        return replace(self, surfaces=tuple(moved), place=other.place)


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
    """A model from a GLB, glTF, OBJ, PLY or STL file; glTF's frame, and all others are taken as y up like it.

    Raises:
        DataError: the file is missing, of a kind that is not read, damaged, or nothing of it can be seen; in one
            line.
    """
    model = read_model(path)
    return Subject((), model.surfaces, model.notes, model.place)
