"""Triangles out of whatever a file holds: polygons cut, normals where there are none, the model in its box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError
from piva_bench.scene.models.surface import Floats, Place, Surface

CREASE = np.cos(np.radians(40))
"""Edges sharper than 40 degrees stay sharp: a crate must not shade like a ball."""
BULK, FAR = 0.98, 20.0
"""A model is refused if this share of its surface lies in a box this many times smaller than the whole."""


def face_normals(positions: Floats) -> tuple[Floats, Floats]:
    """Normals [F, 3] and areas [F] of triangles [3 F, 3]; a triangle without area has a normal of zeros."""
    corners = np.asarray(positions, np.float64).reshape(-1, 3, 3)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(across, axis=1)
    return across / np.where(length > 0, length, 1)[:, None], length / 2


def creased_normals(positions: Floats) -> Floats:
    """Normals [3 F, 3] of triangles: the mean, by area, of those about a corner that bend less than `CREASE`."""
    from scipy import sparse  # here, so that listing datasets does not load it

    normals, areas = face_normals(positions)
    corner, weight = np.repeat(normals, 3, axis=0), np.repeat(areas, 3)
    place = _places(positions)
    count = len(place)
    at = sparse.csr_matrix((np.ones(count, np.int8), (np.arange(count), place)))
    out = np.empty_like(corner)
    crowd = np.bincount(place)[place]
    # Corners are taken in portions, for a point may belong to all triangles: memory stays bounded.
    portion = np.searchsorted(np.cumsum(crowd), np.arange(0, crowd.sum(), 4e6)[1:]).tolist()
    for first, last in zip([0, *portion], [*portion, count], strict=True):
        if last <= first:
            continue
        near = (at[first:last] @ at.T).tocoo()
        bent = np.einsum("ij,ij->i", corner[first:last][near.row], corner[near.col]) >= CREASE
        row, col = near.row[bent], near.col[bent]
        mean = sparse.csr_matrix((weight[col], (row, col)), shape=(last - first, count)) @ corner
        out[first:last] = mean
    return whole_normals(out, positions)


def _places(positions: Floats) -> NDArray[np.int64]:
    """Numbers of points, [N]: the same one for the same place."""
    order = np.lexsort(positions.T)
    ordered = positions[order]
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(np.r_[False, (ordered[1:] != ordered[:-1]).any(1)])
    return place


def whole_normals(normals: Floats, positions: Floats) -> Floats:
    """Normals [3 F, 3] of length 1; those that are zero or not finite become their triangle's."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    good = np.isfinite(length) & (length > 0)
    flat = np.repeat(face_normals(positions)[0], 3, axis=0)
    return np.where(good, normals / np.where(good, length, 1), flat)


def cut_polygon(points: Floats) -> list[tuple[int, int, int]]:
    """Triangles of a polygon [n, 3], by corner numbers: a fan from its first corner, ears where it is concave."""
    count = len(points)
    fan = [(0, second, second + 1) for second in range(1, count - 1)]
    if count < 4:
        return fan
    after = np.roll(points, -1, axis=0)
    normal = np.cross(points, after).sum(0)  # Newell's, of the mean plane, about the origin
    legs = points[1:] - points[0]
    if (np.cross(legs[:-1], legs[1:]) @ normal >= 0).all():
        return fan
    return _ears(points, normal)


def _ears(points: Floats, normal: Floats) -> list[tuple[int, int, int]]:
    """Ear clipping (Meisters 1975)."""
    left, out = list(range(len(points))), []
    while len(left) > 3:
        for index, tip in enumerate(left):
            before, after = left[index - 1], left[(index + 1) % len(left)]
            triangle = points[[before, tip, after]]
            others = points[[one for one in left if one not in (before, tip, after)]]
            if _turns_left(triangle, normal) and not _holds(triangle, others, normal).any():
                break
        else:
            index, before, tip, after = 1, left[0], left[1], left[2]  # it crosses itself: any will do
        out.append((before, tip, after))
        left.pop(index)
    return [*out, (left[0], left[1], left[2])]


def _turns_left(triangle: Floats, normal: Floats) -> bool:
    return bool(np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0]) @ normal > 0)


def _holds(triangle: Floats, points: Floats, normal: Floats) -> NDArray[np.bool_]:
    inside = np.ones(len(points), bool)
    for start, end in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
        inside &= np.cross(end - start, points - start) @ normal >= 0
    return inside


def take(surface: Surface, triangles: NDArray[np.bool_]) -> Surface:
    """Some of a surface's triangles, bool [F]."""
    if triangles.all():
        return surface
    keep = np.repeat(triangles, 3)

    def of(values: Floats | None) -> Floats | None:
        return None if values is None else values[keep]

    glow = surface.glow and replace(surface.glow, uv=of(surface.glow.uv))
    base = replace(surface.base, uv=of(surface.base.uv))
    return replace(
        surface, positions=surface.positions[keep], normals=surface.normals[keep], base=base, glow=glow,
        tints=of(surface.tints),
    )  # fmt: skip


def in_box(surfaces: Sequence[Surface]) -> tuple[list[Surface], Place]:
    """The surfaces moved and scaled together, and from where: their box is about the origin, its largest edge is 1.

    Triangles without area are left out; there is nothing of them to see.

    Raises:
        DataError: nothing is left, the model is flat, or a part of it lies so far away that the rest is a dot.
    """
    points = np.concatenate([surface.positions for surface in surfaces])
    if not np.isfinite(points).all():
        raise DataError("it has vertices that are not finite")
    start, high = points.min(0), points.max(0)
    edge = float((high - start).max())
    if not edge > 0:
        raise DataError("it has no extent: all its vertices lie in one point")
    scaled = [
        replace(surface, positions=(surface.positions - start) / edge) for surface in surfaces
    ]  # before areas are taken: those of a very small model are no numbers any more
    areas = [face_normals(surface.positions)[1] for surface in scaled]
    kept = [take(surface, area > 0) for surface, area in zip(scaled, areas, strict=True)]
    kept = [surface for surface in kept if len(surface.positions)]
    if not kept:
        raise DataError("it has no extent: none of its triangles has an area")
    points = np.concatenate([surface.positions for surface in kept])
    low, extent = points.min(0), np.ptp(points, axis=0)
    if extent.min() <= 1e-6 * extent.max():
        raise DataError("it is flat: it cannot be seen from all sides")
    _refuse_scattered(points, np.concatenate([area[area > 0] for area in areas]), float(extent.max()))
    x, y, z = (start + (low + extent / 2) * edge).tolist()
    return [
        replace(surface, positions=(surface.positions - low - extent / 2) / extent.max()) for surface in kept
    ], Place((x, y, z), float(extent.max()) * edge)


def _refuse_scattered(points: Floats, areas: Floats, edge: float) -> None:
    corners = points.reshape(-1, 3, 3)
    low, high = np.empty(3), np.empty(3)
    rest = (1 - BULK) / 2
    for axis in range(3):
        lowest, highest = corners[:, :, axis].min(1), corners[:, :, axis].max(1)
        for order, ends, at, out in ((lowest, lowest, rest, low), (highest, highest, 1 - rest, high)):
            sorting = np.argsort(order)
            share = np.cumsum(areas[sorting]) / areas.sum()
            out[axis] = ends[sorting][min(np.searchsorted(share, at), len(share) - 1)]
    bulk = float((high - low).max())
    if bulk * FAR < edge:
        raise DataError(
            f"nearly all of its surface fills a {edge / bulk:.0f}th of its box: a stray part lies far away and the "
            "rest would be a dot; delete the stray part in an editor such as Blender"
        )
