"""Fields in the formats of other programs: meshes as GLB and PLY, and the normals of views.

Meshes are as a glTF file has them: y up, the front towards +z, in the field's own units.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import trimesh
from skimage.measure import marching_cubes
from torch import Tensor

from piva_bench.errors import DataError
from piva_bench.scene.cameras import Cameras, Floats
from piva_bench.scene.field import RadianceField
from piva_bench.scene.models.surface import to_light
from piva_bench.scene.views import PosedViews

LEVEL = 0.35
"""Opacity of a voxel at which a mesh has its surface. Walls of fitted fields are some voxels thick and each of them
half clear: of two studio objects the meshes' silhouettes agree with the fields' by an IoU of .85 and .95 at 0.25, .93
and .96 at 0.4, .82 and .58 at 0.6."""
SMOOTHINGS = 3
"""Means over 3 voxels that opacity goes through before its slope is taken: inside a soft wall it is noise."""
TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""The world's axes (z up, front towards -y) in glTF's (y up, front towards +z)."""


def field_mesh(field: RadianceField, level: float = LEVEL) -> trimesh.Trimesh:
    """The surface of a field by marching cubes (scikit-image), with a display colour a vertex, in the world's axes.

    Args:
        field: on any device.
        level: opacity of a voxel, in (0, 1), that the surface goes through.

    Raises:
        DataError: nothing in the field is as opaque.
    """
    opacity = (1 - torch.exp(-field.density.detach())).cpu().double().numpy()
    # Closed where it reaches the box's faces.
    padded = np.pad(opacity, 1)
    if padded.max() <= level:
        raise DataError("the field has no surface: nothing in it is opaque")
    places, faces, _, _ = marching_cubes(padded, level)
    # A node's colour counts by its opacity: that of clear air means nothing.
    weight = torch.from_numpy(padded)[None]
    colour = torch.nn.functional.pad(field.colour.detach().cpu().double(), (1, 1, 1, 1, 1, 1)) * weight
    mixed = _interpolated(torch.cat([colour, weight]), places)
    colours = mixed[:, :3] / np.maximum(mixed[:, 3:], 1e-9)
    vertices = (places[:, ::-1] - 1) * field.grid.voxel + np.asarray(field.grid.box[0])
    rgba = np.concatenate([np.rint(colours.clip(0, 1) * 255), np.full((len(colours), 1), 255)], axis=1)
    return trimesh.Trimesh(vertices, faces, vertex_colors=rgba.astype(np.uint8), process=False)


def _interpolated(values: Tensor, places: Floats) -> Floats:
    """Values [C, Z, Y, X] at places [N, 3] in nodes, linearly, [N, C]."""
    last = torch.tensor(values.shape[1:]) - 1
    at = (torch.from_numpy(places.astype(np.float64)) / last * 2 - 1).flip(1).view(1, -1, 1, 1, 3)
    found = torch.nn.functional.grid_sample(values[None], at, align_corners=True)
    return found[0, :, :, 0, 0].T.numpy()


def to_glb(mesh: trimesh.Trimesh) -> bytes:
    """A mesh of ``field_mesh`` as GLB.

    Its colours hold the light they were seen in, so the material is one that no light changes (KHR_materials_unlit);
    vertex colours are linear, as glTF has them (section 3.7.2.1).
    """
    turned = _y_up(mesh)
    turned.visual.vertex_colors = light_colours(turned)

    def unlit(tree: dict[str, Any]) -> None:
        unlit_material(tree, [one for each in tree["meshes"] for one in each["primitives"]])

    return bytes(trimesh.exchange.gltf.export_glb(trimesh.Scene(turned), tree_postprocessor=unlit))


def light_colours(mesh: trimesh.Trimesh) -> npt.NDArray[np.uint8]:
    """[N, 4] a mesh's display colours as the linear ones that glTF has."""
    colours = np.asarray(mesh.visual.vertex_colors).copy()
    colours[:, :3] = np.rint(to_light(colours[:, :3] / 255) * 255)
    return colours


def unlit_material(tree: dict[str, Any], primitives: Sequence[dict[str, Any]]) -> None:
    """Gives primitives of a glTF tree one new material that shows vertex colours as they are."""
    name = "KHR_materials_unlit"
    tree["extensionsUsed"] = sorted({*tree.get("extensionsUsed", []), name})
    plain = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    materials = [*tree.get("materials", []), {"pbrMetallicRoughness": plain, "extensions": {name: {}}}]
    tree["materials"] = materials
    for primitive in primitives:
        primitive["material"] = len(materials) - 1


def to_ply(mesh: trimesh.Trimesh) -> bytes:
    """A mesh of ``field_mesh`` as binary PLY, with display colours."""
    return bytes(trimesh.exchange.ply.export_ply(_y_up(mesh), encoding="binary"))


def from_ply(data: bytes) -> trimesh.Trimesh:
    """The mesh that ``to_ply`` wrote, in the world's axes.

    Raises:
        DataError: it is none, or has no triangle.
    """
    try:
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type="ply", process=False)
        if not len(mesh.faces):
            raise ValueError("it has no triangle")
    except Exception as error:  # trimesh raises whatever it meets in a foreign file
        raise DataError(f"a stored mesh is no PLY: {' '.join(str(error).split())[:200]}") from error
    mesh.vertices = np.asarray(mesh.vertices) @ TO_Y_UP
    return mesh


def _y_up(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    turned = mesh.copy()
    turned.vertices = np.asarray(mesh.vertices) @ TO_Y_UP.T
    return turned


def normal_views(field: RadianceField, cameras: Cameras) -> PosedViews:
    """Pictures of a field's normals; see ``field_of_normals``."""
    return field_of_normals(field).render_views(cameras)


@torch.no_grad()
def field_of_normals(field: RadianceField) -> RadianceField:
    """The field in the colours of its normals: the steepest fall of opacity, in the world's axes, (n + 1) / 2."""
    opacity = 1 - torch.exp(-field.density)
    for _ in range(SMOOTHINGS):
        opacity = torch.nn.functional.avg_pool3d(opacity[None, None], 3, stride=1, padding=1)[0, 0]
    falls = torch.stack([-part for part in torch.gradient(opacity)][::-1])  # x, y, z
    shown = copy.deepcopy(field)
    normals = falls / falls.norm(dim=0).clamp(min=1e-6)
    shown.raw[0, 1:] = ((normals + 1) / 2).clamp(1e-3, 1 - 1e-3).logit()
    return shown
