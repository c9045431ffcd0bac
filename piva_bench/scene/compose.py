"""An edited model as a mesh: its own triangles where the field did not change, the field's surface where it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import Tensor

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Floats
from piva_bench.scene.export import TO_Y_UP, field_mesh, light_colours, unlit_material
from piva_bench.scene.field import RadianceField, grow
from piva_bench.scene.subject import Frame, load_model

OPACITY, COLOUR, SOLID = 0.1, 0.1, 0.15
"""A place has changed if its mean opacity has by so much, or its mean colour by so much where both are as solid."""
MEAN = 5
"""Voxels along an edge that the means are of. An edit moves every voxel a little and at random: after 8 steps of DDS on
a bear one voxel's colour was off by 0.1 in the median, the mean of 125 by 0.01, and in one of a hundred by 0.06."""
REACH = 2
"""Voxels about a changed one that belong to the edit: a fitted wall lies so far from the triangles it shows."""
NAME = "edited surface"
"""Of the field's part in the file."""
SAME = 2e-3
"""How far, in the world's units, trimesh may place a corner from where the photographs had it."""


def compose(path: Path, before: RadianceField, after: RadianceField) -> tuple[bytes, float]:
    """A model's file as it is after an edit of its field, as GLB in the file's own coordinates.

    Triangles that touch no changed voxel stay to the last bit, with their materials and textures. What lies within
    the rest is the surface of the edited field (``field_mesh``), unlit in its own colours; the two are not welded.

    Args:
        path: the file that was photographed.
        before: the field fitted to the photographs.
        after: the edited field, on the same grid.

    Returns:
        The file, and the share of the model's triangles that stayed.

    Raises:
        DataError: the file's triangles are not where they were seen (a pose, a compression that trimesh does not read).
    """
    parts = _triangles(path)
    to_world, scale, centre = _placed(path, parts)
    region = changed(before, after)
    touched = [_touches(to_world(mesh.triangles), region, before) for mesh in parts]
    for mesh, gone in zip(parts, touched, strict=True):
        region = region | _voxels(to_world(mesh.triangles[gone]), before)
    scene = trimesh.Scene()
    for mesh, gone in zip(parts, touched, strict=True):
        if not gone.all():
            kept = mesh.copy()
            kept.update_faces(~gone)
            kept.remove_unreferenced_vertices()
            scene.add_geometry(kept, geom_name=str(mesh.metadata.get("name", "part")))
    if region.any():
        scene = _with_edit(scene, after, grow(region, 1), scale, centre)
    if not scene.geometry:
        raise DataError(f"nothing of {path} is left, and nothing new is opaque")
    share = 1 - sum(int(gone.sum()) for gone in touched) / sum(len(gone) for gone in touched)
    return bytes(trimesh.exchange.gltf.export_glb(scene, tree_postprocessor=_unlit)), share


@torch.no_grad()
def changed(before: RadianceField, after: RadianceField) -> Tensor:
    """[Z, Y, X] voxels that an edit has changed for the eye, and those about them."""
    (old, old_paint), (new, new_paint) = (_means(field) for field in (before, after))
    paint = (old_paint - new_paint).abs().amax(dim=0)
    moved = ((old - new).abs() > OPACITY) | ((paint > COLOUR) & (torch.minimum(old, new) > SOLID))
    return grow(moved, REACH)


def _means(field: RadianceField) -> tuple[Tensor, Tensor]:
    """Mean opacity [Z, Y, X] and mean colour [3, Z, Y, X] about each node; what is clear has no colour."""
    opacity = 1 - torch.exp(-field.density.cpu())
    values = torch.cat([opacity[None], field.colour.cpu() * opacity])
    mean = torch.nn.functional.avg_pool3d(values[None], MEAN, stride=1, padding=MEAN // 2)[0]
    return mean[0], mean[1:] / mean[0].clamp(min=1e-6)


def _triangles(path: Path) -> list[trimesh.Trimesh]:
    """A file's meshes where its scene has them, by trimesh, which keeps materials for writing."""
    try:
        found = trimesh.load_scene(path, process=False).dump()
    except Exception as error:  # trimesh and the libraries behind it raise whatever they meet
        raise DataError(f"trimesh cannot read {path}: {' '.join(str(error).split())[:120]}") from error
    parts = [mesh for mesh in found if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)]
    if not parts:
        raise DataError(f"trimesh finds no triangle in {path}")
    return parts


def _placed(path: Path, parts: list[trimesh.Trimesh]) -> tuple[Any, float, Floats]:
    """How points [..., 3] of the file come into the world: the map, its scale and the point that becomes the origin."""
    points = np.concatenate([mesh.vertices[mesh.faces.ravel()] for mesh in parts])
    low, high = points.min(0), points.max(0)
    scale, centre = RIG.edge / float((high - low).max()), (low + high) / 2

    def to_world(places: Floats) -> Floats:
        return (np.asarray(places, np.float64) - centre) * scale @ TO_Y_UP

    subject = load_model(path)
    matrix = Frame.around([subject]).matrix.astype(np.float64)
    seen = np.concatenate([surface.positions for surface in subject.surfaces])
    off = cKDTree(seen @ matrix[:3, :3].T + matrix[:3, 3]).query(np.unique(to_world(points), axis=0))[0]
    if off.max() > SAME:
        raise DataError(
            f"the triangles of {path} stand elsewhere than they were seen (a pose, parts that are not shown): export "
            "the model without them"
        )
    return to_world, scale, centre


def _samples(triangles: Floats, voxel: float) -> tuple[Floats, np.ndarray]:
    """Points [S, 3] on triangles [F, 3, 3], at most a voxel apart, and the numbers of their triangles."""
    edges = np.linalg.norm(triangles - np.roll(triangles, 1, axis=1), axis=2).max(axis=1)
    parts = np.maximum(np.ceil(edges / voxel), 1).astype(int)
    places, owners = [np.zeros((0, 3))], [np.zeros(0, int)]
    for count in np.unique(parts):
        chosen = np.flatnonzero(parts == count)
        i, j = np.nonzero(np.add.outer(np.arange(count + 1), np.arange(count + 1)) <= count)
        weights = np.stack([i, j, count - i - j], axis=1) / count
        places.append(np.einsum("sk,fkd->fsd", weights, triangles[chosen]).reshape(-1, 3))
        owners.append(np.repeat(chosen, len(weights)))
    return np.concatenate(places), np.concatenate(owners)


def _nodes(places: Floats, field: RadianceField) -> tuple[Tensor, Tensor, Tensor]:
    """Indices z, y and x of the nodes nearest to places [S, 3] of the world."""
    index = torch.from_numpy(np.rint((places - np.asarray(field.grid.box[0])) / field.grid.voxel)).long()
    z, y, x = (index[:, 2 - i].clamp(0, n - 1) for i, n in enumerate(field.grid.shape))
    return z, y, x


def _touches(triangles: Floats, region: Tensor, field: RadianceField) -> np.ndarray:
    """[F] triangles of the world that a region [Z, Y, X] of a field holds a part of."""
    places, owners = _samples(triangles, field.grid.voxel)
    touched = np.zeros(len(triangles), bool)
    touched[owners[region[_nodes(places, field)].numpy()]] = True
    return touched


def _voxels(triangles: Floats, field: RadianceField) -> Tensor:
    """[Z, Y, X] voxels that triangles of the world pass through, and those about them."""
    mask = torch.zeros(field.grid.shape, dtype=torch.bool)
    mask[_nodes(_samples(triangles, field.grid.voxel)[0], field)] = True
    return grow(mask, REACH)


def _with_edit(
    scene: trimesh.Scene, field: RadianceField, region: Tensor, scale: float, centre: Floats
) -> trimesh.Scene:
    """The scene with the field's surface inside a region, brought into the file's coordinates."""
    try:
        surface = field_mesh(field)
    except DataError:  # all that changed is gone
        return scene
    surface.update_faces(region[_nodes(surface.triangles_center, field)].numpy())
    surface.remove_unreferenced_vertices()
    if not len(surface.faces):
        return scene
    surface.vertices = surface.vertices @ TO_Y_UP.T / scale + centre
    surface.visual.vertex_colors = light_colours(surface)
    scene.add_geometry(surface, geom_name=NAME)
    return scene


def _unlit(tree: dict[str, Any]) -> None:
    """The material of the field's part."""
    for mesh in tree["meshes"]:
        if mesh.get("name") == NAME:
            unlit_material(tree, mesh["primitives"])
