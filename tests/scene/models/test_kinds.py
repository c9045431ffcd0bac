"""PLY and STL files, and files that are something else than they seem."""

import numpy as np
import pytest

from piva_bench.errors import DataError
from piva_bench.scene.models import FOREIGN, read_model
from piva_bench.scene.models.surface import to_display
from tests.scene.models.gltf_writer import CORNERS, FACES, Gltf

COLOUR = np.array([255, 128, 0])


def ply(form, *, colours=None, header=(), faces=True):
    """A pyramid: form "ascii" or an end of numpy's, colours None, "uchar", "float" or "face"."""
    kind = {"uchar": "u1", "float": "f4", "face": "u1"}.get(colours)
    names = ("red", "green", "blue")
    place = [(name, "f4") for name in "xyz"]
    value = COLOUR / 255 if colours == "float" else COLOUR
    words = {"f4": "float", "u1": "uchar"}
    properties = "".join(f"property float {name}\n" for name in "xyz")
    if colours in ("uchar", "float"):
        place += [(name, kind) for name in names]
        properties += "".join(f"property {words[kind]} {name}\n" for name in names)
    on_faces = "".join(f"property uchar {name}\n" for name in names) if colours == "face" else ""
    order = {"ascii": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[form]
    count = f"element face {len(FACES)}\nproperty list uchar int vertex_indices\n{on_faces}" if faces else ""
    head = f"ply\nformat {order} 1.0\n{''.join(header)}element vertex 5\n{properties}{count}end_header\n".encode()
    rows = [(*corner, *(value if colours in ("uchar", "float") else ())) for corner in CORNERS]
    if form == "ascii":
        lines = [" ".join(map(str, row)) for row in rows]
        if faces:
            lines += [f"3 {a} {b} {c}" + (" 255 128 0" if on_faces else "") for a, b, c in FACES]
        return head + "\n".join(lines).encode() + b"\n"
    end = "<" if form == "<" else ">"
    table = np.array(rows, [(name, end + each) for name, each in place])
    more = [("c", "u1", 3)] if on_faces else []
    sides = np.zeros(len(FACES), [("n", "u1"), ("f", end + "i4", 3), *more])
    sides["n"], sides["f"] = 3, FACES
    if on_faces:
        sides["c"] = COLOUR
    return head + table.tobytes() + (sides.tobytes() if faces else b"")


def stl(form, attribute=0, title=b""):
    triangles = CORNERS[FACES]
    if form == "ascii":
        body = "".join(
            "facet normal 0 0 0\nouter loop\n"
            + "".join(f"vertex {x} {y} {z}\n" for x, y, z in corners)
            + "endloop\nendfacet\n"
            for corners in triangles
        )
        return f"solid x\n{body}endsolid x\n".encode()
    table = np.zeros(6, [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    table["v"], table["a"] = triangles, attribute
    return title.ljust(80, b"\0") + np.uint32(6).tobytes() + table.tobytes()


def in_order(points):
    return np.unique(np.sort(points.reshape(-1, 3, 3), axis=1).reshape(-1, 9).round(5), axis=0)


def boxed():
    points = CORNERS[FACES.reshape(-1)]
    low, extent = points.min(0), np.ptp(points, axis=0)
    return (points - low - extent / 2) / extent.max()


@pytest.mark.parametrize("form", ["ascii", "<", ">"])
@pytest.mark.parametrize("colours", [None, "uchar", "float", "face"])
def test_ply_in_all_its_forms_shows_its_colours_as_they_stand_there(tmp_path, form, colours):
    (tmp_path / "model.ply").write_bytes(ply(form, colours=colours))
    (surface,), notes = (model := read_model(tmp_path / "model.ply")).surfaces, model.notes
    assert np.array_equal(in_order(surface.positions), in_order(boxed()))
    if colours is None:
        assert notes == ("it has neither texture nor colours: it is shown in plain grey",)
    else:
        assert notes == ()
        assert to_display(surface.tints[:, :3]) * 255 == pytest.approx(np.tile(COLOUR, (18, 1)), abs=0.6)


@pytest.mark.parametrize("form", ["ascii", "binary"])
def test_stl_is_plain_grey_with_a_note(tmp_path, form):
    (tmp_path / "model.stl").write_bytes(stl(form))
    model = read_model(tmp_path / "model.stl")
    assert np.array_equal(in_order(model.surfaces[0].positions), in_order(boxed()))
    assert model.notes == ("it has neither texture nor colours: it is shown in plain grey",)


def test_colours_and_textures_that_are_not_read_are_named(tmp_path):
    for data in (stl("binary", attribute=32799), stl("binary", title=b"COLOR=\xff\0\0\xff")):
        (tmp_path / "model.stl").write_bytes(data)
        notes = read_model(tmp_path / "model.stl").notes
        assert notes[0] == "colours in STL files are not shown: export the model as PLY or GLB"
        assert "neither" not in "".join(notes)
    (tmp_path / "model.ply").write_bytes(ply("ascii", header=["comment TextureFile wood.png\n"]))
    notes = read_model(tmp_path / "model.ply").notes
    assert "the texture that its header names is not shown" in notes[0]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n"


def whole():
    gltf = Gltf()
    gltf.show(gltf.pyramid())
    return gltf.glb()


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("a.glb", LFS, "a pointer of Git LFS and not the file itself: run `git lfs pull`"),
        ("a.obj", LFS, "Git LFS"),
        ("a.ply", LFS, "Git LFS"),
        ("a.glb", b"<!DOCTYPE html><html>404</html>", "a web page and not a model: download"),
        ("a.stl", b"\n  <HTML><body>", "a web page"),
        ("a.glb", b"", "it is empty"),
        ("a.stl", b"", "it is empty"),
        ("a.glb", whole()[: len(whole()) // 2], r"it is torn: \d+ of \d+ bytes are there; get it again"),
        ("a.glb", b"glTF\2\0", "it is torn"),
        ("a.glb", b"glTF\1\0\0\0" + bytes(12), "a GLB of version 1, and only version 2"),
        ("a.gltf", b'{"asset": {"version": "1.0"}}', "glTF 1.0"),
        ("a.gltf", b'{"asset": ', "its JSON cannot be read"),
        ("a.gltf", b"[1, 2]", "states no version"),
        ("a.glb", b"PK\3\4rest", "a ZIP archive: unpack it"),
        ("a.glb", b"Kaydara FBX Binary  \0", "an FBX file, which is not read: export it as GLB"),
        ("a.fbx", b"Kaydara FBX Binary  \0", "an FBX file, which is not read: export it as GLB"),
        ("a.usdz", b"PK\3\4", "a USDZ file, which is not read: export it as GLB"),
        ("a.blend", b"BLENDER-v300", "a Blender file"),
        ("a.dae", b"<?xml", "a COLLADA file"),
        ("a.xyz", b"1 2 3", "export it as one of them"),
        ("a.ply", ply("ascii", faces=False), "a cloud of points; only meshes"),
        ("a.ply", ply("<", faces=False, header=["comment f_dc_0\n"]), "Gaussian splats; only meshes"),
        ("a.ply", ply("<")[:-40], "cannot read the 3D model"),
        ("a.stl", stl("binary")[:200], "cannot read the 3D model"),
    ],
)  # fmt: skip
def test_what_is_something_else_is_named_with_the_cure(tmp_path, name, data, line):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=line) as error:
        read_model(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_file_is_its_content_says_where_gltf_is_concerned(tmp_path):
    for name in ("model.gltf", "MODEL.GLB"):
        (tmp_path / name).write_bytes(whole())
        assert len(read_model(tmp_path / name).surfaces) == 1


def test_every_foreign_kind_has_a_line(tmp_path):
    for suffix in FOREIGN:
        (tmp_path / f"model{suffix}").write_bytes(b"something")
        with pytest.raises(DataError, match="which is not read: export it as GLB"):
            read_model(tmp_path / f"model{suffix}")
    with pytest.raises(DataError, match="does not exist"):
        read_model(tmp_path / "none.glb")
