"""Fields as meshes, read by trimesh and by our own reader, and their normals."""

import io
import json

import numpy as np
import pytest
import torch
import trimesh

from piva_bench.errors import DataError
from piva_bench.metrics.views_consistency import back_project
from piva_bench.runs.views import encode_field
from piva_bench.scene.cameras import RIG
from piva_bench.scene.export import field_mesh, normal_views, to_glb, to_ply
from piva_bench.scene.field import Grid, RadianceField
from piva_bench.scene.models.read import read_model
from piva_bench.scene.models.surface import to_display
from tests.distillation.scene_tasks import BOX, ball


def two_blobs():
    """A red ball to the right and a small blue one above it: no symmetry hides a swapped axis."""
    field = RadianceField(Grid(BOX, 40))
    nodes = field.nodes()
    right = (nodes - torch.tensor([0.4, 0.0, 0.0])).norm(dim=-1) < 0.4
    above = (nodes - torch.tensor([0.4, 0.2, 0.7])).norm(dim=-1) < 0.2
    with torch.no_grad():
        field.raw[0, 0] = torch.where(right | above, 4.0, -8.0)
        red, blue = (torch.tensor(c).logit().view(3, 1) for c in ((0.8, 0.3, 0.2), (0.1, 0.2, 0.9)))
        field.raw[0, 1:] = 9.0  # what is clear is white, and nobody sees it
        field.raw[0, 1:, right], field.raw[0, 1:, above] = red, blue
    return field


def test_a_balls_mesh_is_closed_and_as_large_as_the_ball():
    mesh = field_mesh(ball(40))
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.1)
    away = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(away - 0.7).max() < 0.05
    assert (np.einsum("ij,ij->i", mesh.face_normals, mesh.triangles_center) > 0).all()
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3]
    assert np.abs(colours - np.array([204, 76.5, 51])).max() <= 1


def test_a_mesh_is_closed_where_it_reaches_the_box():
    field = RadianceField(Grid(BOX, 8))
    field.raw.data[0, 0] = 4
    mesh = field_mesh(field)
    assert mesh.is_watertight
    assert mesh.extents == pytest.approx([2, 2, 2], abs=0.5)


def glb_tree(data):
    length = int.from_bytes(data[12:16], "little")
    return json.loads(data[20 : 20 + length]), data[20 + length + 8 :]


def glb_colours(data):
    """The vertex colours of a GLB of one mesh, as stored, in [0, 1]."""
    tree, blob = glb_tree(data)
    (primitive,) = tree["meshes"][0]["primitives"]
    accessor = tree["accessors"][primitive["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["type"], accessor["normalized"]) == (5121, "VEC4", True)
    start = tree["bufferViews"][accessor["bufferView"]].get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(blob, np.uint8, 4 * accessor["count"], start).reshape(-1, 4) / 255


@pytest.mark.parametrize("kind", ["glb", "ply"])
def test_another_program_reads_shape_colours_and_axes(kind):
    data = {"glb": to_glb, "ply": to_ply}[kind](field_mesh(two_blobs()))
    mesh = trimesh.load(io.BytesIO(data), file_type=kind, force="mesh", process=False)
    assert mesh.is_watertight
    colours = glb_colours(data) if kind == "glb" else np.asarray(mesh.visual.vertex_colors) / 255
    # y up: the world's z is y there, its front (-y) is +z.
    above = mesh.vertices[:, 1] > 0.45
    low, high = mesh.vertices[~above], mesh.vertices[above]
    assert (low.min(0) + low.max(0)) / 2 == pytest.approx([0.4, 0, 0], abs=0.03)
    assert np.ptp(low, axis=0) == pytest.approx(0.8, abs=0.12)  # two voxels
    assert (high.min(0) + high.max(0)) / 2 == pytest.approx([0.4, 0.7, -0.2], abs=0.03)
    for part, display in ((~above, (0.8, 0.3, 0.2)), (above, (0.1, 0.2, 0.9))):
        # glTF's vertex colours are linear (IEC 61966-2-1), PLY's are what one sees.
        expected = [((c + 0.055) / 1.055) ** 2.4 for c in display] if kind == "glb" else display
        assert np.median(colours[part], axis=0)[:3] == pytest.approx(expected, abs=0.01)
        assert np.abs(colours[part][:, :3] - expected).max() < 0.05


def test_our_own_reader_shows_the_colours_that_the_field_had(tmp_path):
    for name, write in (("a.glb", to_glb), ("a.ply", to_ply)):
        (tmp_path / name).write_bytes(write(field_mesh(ball(24))))
        (surface,) = read_model(tmp_path / name).surfaces
        shown = to_display(np.median(surface.tints[:, :3], axis=0))
        assert shown == pytest.approx([0.8, 0.3, 0.2], abs=0.01)


def test_a_glbs_material_is_one_that_no_light_changes():
    tree, _ = glb_tree(to_glb(field_mesh(ball())))
    (material,) = tree["materials"]
    assert material["extensions"] == {"KHR_materials_unlit": {}}
    assert "KHR_materials_unlit" in tree["extensionsUsed"]
    assert all(one["material"] == 0 for mesh in tree["meshes"] for one in mesh["primitives"])


def test_normals_point_away_from_a_balls_middle():
    field = ball(40)
    cameras = RIG.turntable(4, 48)
    shown, views = normal_views(field, cameras), field.render_views(cameras)
    for index in range(4):
        rows, columns, points = back_project(views, index)
        normals = shown.images[index, rows, columns, :3] / 127.5 - 1
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        cosine = (normals * points).sum(1) / np.linalg.norm(points, axis=1)
        assert np.median(cosine) > 0.97


def test_what_has_no_surface_has_no_mesh():
    field = RadianceField(Grid(BOX, 8))
    with pytest.raises(DataError, match="no surface"):
        field_mesh(field)
    assert set(encode_field(field, RIG.turntable(2, 16))) == {"normals.png"}
    assert set(encode_field(ball(), RIG.turntable(2, 16))) == {"mesh.glb", "mesh.ply", "normals.png"}
