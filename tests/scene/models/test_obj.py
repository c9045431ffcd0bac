"""What is read out of OBJ files and their libraries, against values that are known because the test wrote them."""

import numpy as np
import pytest
import trimesh

from piva_bench.errors import DataError
from piva_bench.scene.models import read_model
from piva_bench.scene.models.geometry import cut_polygon
from piva_bench.scene.models.mtl import Map, parse_map, parse_mtl
from piva_bench.scene.models.surface import Notes, to_display
from tests.scene.models.gltf_writer import CORNERS, FACES, QUARTERS, UVS, picture

PLAIN = ("it has neither texture nor colours: it is shown in plain grey",)


def obj(*head, colours=False, uv=True, faces=None):
    """A pyramid, its first lines given."""
    lines = list(head)
    for x, y, z in CORNERS:
        lines.append(f"v {x} {y} {z}" + (" 1 0.5 0" if colours else ""))
    if uv:
        lines += [f"vt {u} {v}" for u, v in UVS]
    lines += faces or [
        "f " + " ".join(f"{i + 1}/{i + 1}" if uv else f"{i + 1}" for i in face) for face in FACES
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def read(tmp_path):
    def read(text, mtl=None, **more):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "model.obj").write_bytes(data)
        if mtl is not None:
            (tmp_path / "model.mtl").write_text(mtl)
        return read_model(tmp_path / "model.obj")

    return read


def shown(surface):
    """The display colour of its factor and tints, of 255."""
    tint = 1 if surface.tints is None else surface.tints[0, :3]
    return (to_display(np.array(surface.base.factor[:3]) * tint) * 255).round().tolist()


MATERIAL = ("mtllib model.mtl", "usemtl a")


@pytest.mark.parametrize("uv", [True, False])
@pytest.mark.parametrize("head", [(), ("usemtl a",)])
def test_without_materials_it_is_plain_grey_with_a_note(read, uv, head):
    model = read(obj(*head, uv=uv))
    assert shown(model.surfaces[0]) == [158] * 3  # .62
    assert model.notes == PLAIN


def test_a_missing_library_is_named_and_the_model_plain_grey(read):
    model = read(obj("mtllib gone.mtl", "usemtl a"))
    assert shown(model.surfaces[0]) == [158] * 3
    assert model.notes == (
        "its materials gone.mtl are not beside it: put them there",
        "it is shown in plain grey",
    )


@pytest.mark.parametrize("uv", [True, False])
def test_vertex_colours_are_shown_as_they_stand_there(read, uv):
    model = read(obj(colours=True, uv=uv))
    assert shown(model.surfaces[0]) == [255, 128, 0]
    assert model.notes == ()
    bytes_ = obj(colours=True, uv=uv).replace("1 0.5 0", "255 127.5 0")
    assert shown(read(bytes_).surfaces[0]) == [255, 128, 0]


def test_diffuse_colours_are_display_values(read):
    model = read(obj(*MATERIAL), "newmtl a\nKd 0.5 1 0.2\n")
    assert shown(model.surfaces[0]) == [128, 255, 51]
    assert model.notes == ()


@pytest.mark.parametrize(
    "line", ["mtllib one.mtl two.mtl", "mtllib one.mtl\nmtllib two.mtl", "mtllib\tone.mtl two.mtl"]
)
def test_several_libraries_give_their_materials(read, tmp_path, line):
    (tmp_path / "one.mtl").write_text("newmtl a\nKd 1 0 0\n")
    (tmp_path / "two.mtl").write_text("newmtl b\nKd 0 0 1\n")
    faces = [
        "usemtl a",
        "f 1 2 3",
        "f 1 3 4",
        "usemtl b",
        "f 2 1 5",
        "f 3 2 5",
        "usemtl a",
        "f 4 3 5",
        "f 1 4 5",
    ]
    model = read(obj(line, faces=faces, uv=False))
    assert [shown(surface) for surface in model.surfaces] == [[255, 0, 0], [0, 0, 255]]
    assert [len(surface.positions) for surface in model.surfaces] == [12, 6]
    assert model.notes == ()


def test_names_with_spaces_and_windows_line_ends(read, tmp_path):
    (tmp_path / "my materials.mtl").write_bytes(b"newmtl old wood\r\nKd 1 0 0\r\nmap_Kd my  tex.png\r\n")
    (tmp_path / "my  tex.png").write_bytes(picture(QUARTERS))
    text = obj("mtllib my materials.mtl", "o a", "g b c", "s 1", "usemtl old wood").replace("\n", "\r\n")
    model = read(text)
    assert model.notes == ()
    assert (model.surfaces[0].base.texture.pixels[..., :3] == QUARTERS).all()


@pytest.mark.parametrize(
    "statement",
    [
        "tex.png", r".\textures\t.png", r"textures\t.png", r"C:\Users\someone\textures\t.png", r"D:\x\y\TEX.PNG",
        "/home/someone/tex.png", "-s 1 1 1 -o 0 0 0 tex.png", "-blendu on -bm 0.5 -mm 0 1 -clamp off tex.png",
        '"tex.png"',
    ],
)  # fmt: skip
def test_textures_are_found_wherever_their_path_comes_from(read, tmp_path, statement):
    (tmp_path / "textures").mkdir()
    for place in ("tex.png", "textures/t.png"):
        (tmp_path / place).write_bytes(picture(QUARTERS))
    model = read(obj(*MATERIAL), f"newmtl a\nKd 1 1 1\nmap_Kd {statement}\n")
    assert model.notes == ()
    (surface,) = model.surfaces
    assert (surface.base.texture.pixels[..., :3] == QUARTERS).all()
    upwards = UVS * [1, -1] + [0, 1]  # the format counts v from below
    assert surface.base.uv == pytest.approx(upwards[FACES.reshape(-1)])


def test_a_texture_that_is_not_there_leaves_its_colour_and_a_note(read):
    model = read(obj(*MATERIAL), "newmtl a\nKd 0.1 0.8 0.1\nmap_Kd gone.png\n")
    assert shown(model.surfaces[0]) == [26, 204, 26]
    assert model.notes == ("texture gone.png is not shown: it is not beside the model: put it there",)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("a b.png", Map("a b.png")),
        ("-s 2 3 tex.png", Map("tex.png", (2, 3))),
        ("-s 2 tex.png", Map("tex.png", (2, 1))),
        ("-o .5 0 0 -s 2 3 4 3.png", Map("3.png", (2, 3), (0.5, 0))),
        ("-o 1 2 3", Map("3", (1, 1), (1, 2))),  # the last word is the name
        ("-clamp on -texres 512 x.png", Map("x.png", clamp=True)),
        ("-bm 0.3", None),
        ("", None),
    ],
)
def test_options_of_textures(statement, expected):
    assert parse_map(statement, Notes()) == expected


def test_scale_and_offset_move_a_texture(read, tmp_path):
    (tmp_path / "tex.png").write_bytes(picture(QUARTERS))
    model = read(obj(*MATERIAL), "newmtl a\nmap_Kd -s 2 3 -o 0.25 0.5 -clamp on tex.png\n")
    moved = UVS * [2, 3] + [0.25, 0.5]
    assert model.surfaces[0].base.uv == pytest.approx((moved * [1, -1] + [0, 1])[FACES.reshape(-1)])
    assert model.surfaces[0].base.texture.repeat == (False, False)


def test_what_materials_say_and_nobody_sees_is_named():
    notes = Notes()
    text = "newmtl a\nKd spectral x.rfl\nKe xyz 1 1 1\nbump b.png\nmap_d d.png\nd x\n"
    text += "map_Kd -imfchan r -mm 0.1 2 x.png\n"
    parse_mtl(text, notes)
    words = " ".join(notes.all())
    for part in (
        "Kd spectral",
        "Ke xyz",
        "bump maps",
        "opacity maps",
        "channels of",
        "base and gain",
        "d x is not read",
    ):
        assert part in words


def test_a_material_without_colour_is_plain_grey_a_black_one_does_not_blacken_its_texture(read, tmp_path):
    model = read(obj(*MATERIAL), "newmtl a\nKa 1 0 0\n")
    assert shown(model.surfaces[0]) == [158] * 3
    assert "material a states no colour (Kd)" in model.notes[0]
    (tmp_path / "tex.png").write_bytes(picture(QUARTERS))
    model = read(obj(*MATERIAL), "newmtl a\nKd 0 0 0\nmap_Kd tex.png\n")
    assert model.surfaces[0].base.factor[:3] == (1, 1, 1)
    assert "its Kd 0 0 0 would blacken" in model.notes[0]
    model = read(obj("mtllib model.mtl", "usemtl other"), "newmtl a\nKd 1 0 0\n")
    assert "material other is in none of its libraries" in model.notes[0]


def test_dissolved_parts_let_see_through_and_a_wholly_dissolved_model_is_opaque(read):
    faces = ["usemtl a", "f 1 2 3 4", "f 2 1 5", "f 3 2 5", "usemtl b", "f 4 3 5", "usemtl c", "f 1 4 5"]
    mtl = "newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0\nd 0.5\nTr 0.9\nnewmtl c\nKd 0 0 1\nTr 0.25\n"
    surfaces = read(obj("mtllib model.mtl", faces=faces, uv=False), mtl).surfaces
    assert [(surface.alpha, surface.base.factor[3]) for surface in surfaces] == [
        ("opaque", 1), ("blend", 0.5), ("blend", 0.75),
    ]  # fmt: skip
    model = read(obj(*MATERIAL), "newmtl a\nKd 1 0 0\nTr 1.0\n")
    assert model.surfaces[0].alpha == "opaque"
    assert model.surfaces[0].base.factor[3] == 1
    assert "fully transparent (d 0 or Tr 1): it is shown opaque" in model.notes[0]


def test_glow(read, tmp_path):
    (tmp_path / "tex.png").write_bytes(picture(QUARTERS))
    (surface,) = read(obj(*MATERIAL), "newmtl a\nKd 0 0 0\nKe 0 0 0\nmap_Ke tex.png\n").surfaces
    assert (surface.glow.texture.pixels[..., :3] == QUARTERS).all()
    (surface,) = read(obj(*MATERIAL), "newmtl a\nKd 0 0 0\nKe 1 0 0\n").surfaces
    assert surface.glow.factor[:3] == (1, 0, 0)
    assert read(obj(*MATERIAL), "newmtl a\nKd 1 0 0\nKe 0 0 0\n").surfaces[0].glow is None


@pytest.mark.parametrize(
    "faces",
    [
        ["f 1 2 3 4", "f 2 1 5", "f 3 2 5", "f 4 3 5", "f 1 4 5"],
        ["f -5 -4 -3 -2", "f -4 -5 -1", "f -3 -4 -1", "f -2 -3 -1", "f -5 -2 -1"],
        ["f 1// 2// 3// 4//", "f 2 1 5 # back", "f 3 2 \\", "5", "f 4 3 5", "fo 1 4 5"],
    ],
)
def test_faces_are_the_same_however_they_are_written(read, faces):
    (surface,) = read(obj(uv=False, faces=faces)).surfaces
    points = CORNERS[FACES.reshape(-1)]
    low, extent = points.min(0), np.ptp(points, axis=0)
    assert surface.positions == pytest.approx((points - low - extent / 2) / extent.max())


def test_geometry_agrees_with_another_library(read, tmp_path):
    for shape in (trimesh.creation.torus(1, 0.3), trimesh.creation.icosphere(2)):
        text = trimesh.exchange.obj.export_obj(shape, include_normals=True)
        (surface,) = read(text).surfaces
        points = shape.vertices[shape.faces.reshape(-1)]
        low, extent = points.min(0), np.ptp(points, axis=0)
        assert surface.positions == pytest.approx((points - low - extent / 2) / extent.max(), abs=1e-6)
        stated = shape.vertex_normals[shape.faces.reshape(-1)]
        assert surface.normals == pytest.approx(stated, abs=1e-6)
        text = trimesh.exchange.obj.export_obj(shape, include_normals=False)
        (surface,) = read(text).surfaces  # smooth shapes are smooth without normals too
        assert (surface.normals * stated).sum(1).min() > 0.97


@pytest.mark.parametrize("encode", [lambda t: b"\xef\xbb\xbf" + t.encode(), lambda t: t.encode("utf-16"),
                                    lambda t: ("# M\xfcller\n" + t).encode("latin-1")])  # fmt: skip
def test_any_encoding_of_comments(read, encode):
    assert len(read(encode(obj())).surfaces) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("v 0 0\n", r"line 1 \(v 0 0\) cannot be read"),
        ("v 0,5 1 2\n", "write numbers with a point"),
        (obj(faces=["f 1 2 9"]), "names element 9 of 5"),
        (obj(faces=["f 1 2 0"]), "cannot be read"),
        (obj(faces=["f 1 2 -9"]), "cannot be read"),
        (obj(faces=["f 1/9 2/1 3/1"]), "names element 9 of 5"),
        (obj(faces=["l 1 2 3", "p 1"]), r"holds no triangle \(but lines, points\)"),
        (obj(faces=["f 1 2"]), "holds no triangle"),
        ("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "it is flat"),
        ("v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "no extent"),
        ("", "it is empty"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(read, text, line):
    with pytest.raises(DataError, match=line) as error:
        read(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("corners", [4, 5, 8, 13])
@pytest.mark.parametrize("turn", range(4))
def test_polygons_are_cut_into_triangles_of_their_own_area(corners, turn):
    """Concave ones too: a star's triangles have, all turned alike, the star's area by the shoelace formula."""
    rng = np.random.default_rng(corners * 10 + turn)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    radius = rng.uniform(0.2, 1, corners)
    flat = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(corners)], 1)
    tilt = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = flat @ tilt.T
    triangles = cut_polygon(points)
    assert len(triangles) == corners - 2
    x, y = flat[:, 0], flat[:, 1]
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    parts = [np.cross(flat[b] - flat[a], flat[c] - flat[a])[2] / 2 for a, b, c in triangles]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(area)
