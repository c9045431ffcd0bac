"""Chamfer distance outside a region as VoxHammer's geometry_metrics.py and pysdf_utils.py compute it."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from piva_bench.metrics.protocol import Undefined
from piva_bench.scene.cameras import RIG

POINTS = 20480
CELL = 0.01
"""Side of the cells that points are thinned by, where the source's largest edge is 1."""

Points = NDArray[np.float64]


def chamfer_outside(
    source: trimesh.Trimesh, edited: trimesh.Trimesh, region: trimesh.Trimesh
) -> float | Undefined:
    """Half the sum of the mean distances from each surface's points to the other's nearest, outside a region.

    Args:
        source: in the world's axes and the rig's size.
        edited: in the same place.
        region: a closed surface there; what is inside it does not count.
    """
    first, second = (thinned(_points_outside(mesh, region) / RIG.edge, CELL) for mesh in (source, edited))
    for points, whose in ((first, "source"), (second, "edit")):
        if not len(points):
            return Undefined(f"the {whose} has no surface outside the edit region")
    there, back = cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]
    return float(there.mean() + back.mean()) / 2


def _points_outside(mesh: trimesh.Trimesh, region: trimesh.Trimesh) -> Points:
    points, _ = trimesh.sample.sample_surface(mesh, POINTS, seed=0)
    points = np.asarray(points, np.float64)
    return points[~region.contains(points)]


def thinned(points: Points, cell: float) -> Points:
    """The mean of the points in each cell of a grid that begins half a cell below them (Open3D's voxel_down_sample)."""
    if not len(points):
        return points
    cells = np.floor((points - (points.min(axis=0) - cell / 2)) / cell).astype(np.int64)
    _, of, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), 3))
    np.add.at(sums, of.reshape(-1), points)
    return sums / counts[:, None]
