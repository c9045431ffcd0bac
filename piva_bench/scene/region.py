"""Where an edit belongs, as some sets of 3D edits mark it: a closed surface in the source's frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from piva_bench.scene.cameras import RIG
from piva_bench.scene.subject import Frame, Subject, load_model
from piva_bench.scene.views import PosedViews

NEARER = 1e-4 * RIG.edge
"""By how much a region must lie before the source to be seen: the 1e-4 of an object of size 1 in VoxHammer's
utils/render_rgb_and_mask.py (Nelipot-Lee/VoxHammer, a1b139c)."""


@dataclass(frozen=True)
class EditRegion:
    """Where an edit belongs.

    Attributes:
        mask: bool [V, H, W], where it is seen from the turntable's cameras.
        volume: its surface, in the world's axes.
        source: the surface of the source's own file, in the same place.
    """

    mask: NDArray[np.bool_]
    volume: trimesh.Trimesh
    source: trimesh.Trimesh


def edit_region(path: Path, source: Path, seen: PosedViews, source_seen: PosedViews) -> EditRegion:
    """The region that a model's file marks.

    Args:
        path: of the region.
        source: of the source's model, which sets the frame.
        seen: views of the region alone, with depth.
        source_seen: views of the source from the same cameras, with depth.

    Raises:
        DataError: a file is missing or damaged; views without depth.
    """
    subject = load_model(source)
    frame = Frame.around([subject])
    depth, before = seen.need_depth("an edit region"), source_seen.need_depth("an edit region")
    nearer = (depth > 0) & ((before == 0) | (before - depth > NEARER))
    return EditRegion(nearer, _surface(load_model(path).beside(subject), frame), _surface(subject, frame))


def _surface(subject: Subject, frame: Frame) -> trimesh.Trimesh:
    """All triangles of a model in the world's axes; corners are not shared."""
    corners = np.concatenate([surface.positions for surface in subject.surfaces]).astype(np.float64)
    corners = corners @ frame.matrix[:3, :3].T.astype(np.float64) + frame.matrix[:3, 3]
    return trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)
