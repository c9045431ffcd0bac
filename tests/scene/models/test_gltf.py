"""What is read out of glTF files, against values that are known because the test wrote them."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.scene.models import read_model
from piva_bench.scene.models.gltf import local_matrix
from tests.scene.models.gltf_writer import CORNERS, FACES, QUARTERS, UVS, Gltf, picture

TRIANGLES = CORNERS[FACES.reshape(-1)]


def boxed(*parts):
    """Points as a model has them: about the origin, largest edge 1."""
    points = np.concatenate(parts)
    low, extent = points.min(0), np.ptp(points, axis=0)
    return [(part - low - extent / 2) / extent.max() for part in parts]


def same_triangles(surface, points):
    assert surface.positions == pytest.approx(points, abs=1e-6)
    assert np.linalg.norm(surface.normals, axis=1) == pytest.approx(1)
    edges = surface.positions.reshape(-1, 3, 3)
    flat = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    assert (np.abs((flat[:, None] * surface.normals.reshape(-1, 3, 3)).sum(-1)) > 0).all()


def sample(surface, layer=None):
    """The display colour in the middle of each triangle, [F, 3], as the standard computes it."""
    layer = layer or surface.base
    linear = np.array(layer.factor[:3]) * np.ones((len(surface.positions) // 3, 1))
    if layer.texture is not None:
        pixels = layer.texture.pixels
        u, v = np.floor(
            layer.uv.reshape(-1, 3, 2).mean(1).T % 1 * np.array([[pixels.shape[1]], [pixels.shape[0]]])
        )
        texel = pixels[v.astype(int), u.astype(int), :3] / 255
        linear = linear * np.where(texel <= 0.04045, texel / 12.92, ((texel + 0.055) / 1.055) ** 2.4)
    if surface.tints is not None:
        linear = linear * surface.tints[:, :3].reshape(-1, 3, 3).mean(1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.glb"


# Vertex colours


@pytest.mark.parametrize("dtype", ["f4", "u1", "u2"])
@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("material", [None, {}, {"pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1]}}])
@pytest.mark.parametrize("stated", [True, False])
def test_vertex_colours_count_beside_any_material_and_in_any_type(path, dtype, width, material, stated):
    gltf, colour = Gltf(), np.array([0.8, 0.1, 0.4, 1.0])[:width]
    most = {"f4": 1, "u1": 255, "u2": 65535}[dtype]
    values = np.tile(np.round(colour * most) if most > 1 else colour, (5, 1))
    colours = gltf.accessor(values, dtype, **({"normalized": True} if stated and most > 1 else {}))
    named = None if material is None else gltf.material(**material)
    gltf.show(gltf.pyramid(named, COLOR_0=colours))
    (surface,), notes = (model := read_model(gltf.write(path))).surfaces, model.notes
    assert surface.tints[:, :3] == pytest.approx(np.tile(colour[:3], (18, 1)), abs=1 / 255)
    assert surface.base.factor == (1, 1, 1, 1)
    assert surface.coloured
    assert notes == ()


def test_vertex_colours_texture_and_factor_are_multiplied_as_light(path):
    gltf = Gltf()
    colours, uv = gltf.accessor(np.tile([0.5, 1, 1], (5, 1))), gltf.accessor(UVS)
    texture = gltf.texture(picture(np.full((2, 2, 3), 188)))  # 188 shows half the light
    material = gltf.material(
        pbrMetallicRoughness={"baseColorTexture": texture, "baseColorFactor": [1, 0.5, 1, 1]}
    )
    gltf.show(gltf.pyramid(material, COLOR_0=colours, TEXCOORD_0=uv))
    (surface,) = read_model(gltf.write(path)).surfaces
    # a quarter of the light shows as 137 (IEC 61966-2-1), half of it as 188
    assert sample(surface)[0] * 255 == pytest.approx([137, 137, 188], abs=0.6)


def test_a_second_set_of_vertex_colours_and_own_attributes_are_named(path):
    gltf = Gltf()
    colours = gltf.accessor(np.ones((5, 3)))
    gltf.show(gltf.pyramid(COLOR_0=colours, COLOR_1=colours, _HEAT=colours))
    assert read_model(gltf.write(path)).notes == ("not shown: the attribute COLOR_1, the attribute _HEAT",)


# Shapes


def test_parts_with_other_attributes_of_one_mesh_keep_their_own(path):
    gltf = Gltf()
    colours = gltf.accessor(np.tile([0.0, 1, 0], (5, 1)))
    far = np.add(CORNERS, [4, 0, 0])
    gltf.show(gltf.pyramid(gltf.painted(1, 0, 0)), gltf.pyramid(None, far, COLOR_0=colours, index=True))
    red, green = read_model(gltf.write(path)).surfaces
    for surface, points in zip((red, green), boxed(TRIANGLES, np.add(TRIANGLES, [4, 0, 0])), strict=True):
        same_triangles(surface, points)
    assert red.tints is None
    assert red.base.factor == (1, 0, 0, 1)
    assert green.tints[0].tolist() == [0, 1, 0, 1]


def test_strips_fans_lists_without_indices_and_small_and_large_indices_are_triangles(path):
    around = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]], float)
    fan = [(0, 1, 2), (0, 2, 3), (0, 3, 4)]
    strip = [(0, 1, 2), (1, 3, 2), (2, 3, 4)]  # the second one turned round, as the standard says
    for mode, expected in ((6, fan), (5, strip)):
        for dtype in (None, "u1", "u2", "u4"):
            gltf = Gltf()
            primitive = {"attributes": {"POSITION": gltf.accessor(around)}, "mode": mode}
            if dtype:
                primitive["indices"] = gltf.accessor(np.arange(5), dtype)
            gltf.show(primitive)
            (surface,) = read_model(gltf.write(path)).surfaces
            (points,) = boxed(around[np.array(expected).reshape(-1)])
            same_triangles(surface, points)
    gltf = Gltf()
    gltf.show(gltf.pyramid(None, TRIANGLES, index=False))
    same_triangles(read_model(gltf.write(path)).surfaces[0], boxed(TRIANGLES)[0])


def test_lines_and_points_are_noted_and_alone_they_are_no_model(path):
    gltf = Gltf()
    points = {"attributes": {"POSITION": gltf.accessor(CORNERS)}, "mode": 0}
    lines = points | {"mode": 3}
    gltf.show(points, lines)
    with pytest.raises(DataError, match=r"holds no triangle \(but points, lines\)"):
        read_model(gltf.write(path))
    gltf.show(gltf.pyramid(gltf.painted(1, 0, 0)))
    assert read_model(gltf.write(path)).notes == ("not shown: points, lines",)


def test_interleaved_bytes_are_taken_by_their_stride(path):
    gltf, table = (
        Gltf(),
        np.zeros(5, [("position", "<f4", 3), ("pad", "u1", 3), ("colour", "u1", 4), ("end", "u1")]),
    )
    table["position"], table["colour"], table["pad"] = CORNERS, [255, 0, 0, 255], 77
    view = gltf.view(table.tobytes(), byteStride=table.itemsize)
    position = gltf.add("accessors", bufferView=view, componentType=5126, count=5, type="VEC3")
    colour = gltf.add(
        "accessors", bufferView=view, byteOffset=15, componentType=5121, count=5, type="VEC4", normalized=True
    )
    indices = gltf.accessor(FACES.reshape(-1), "u1")
    gltf.show({"attributes": {"POSITION": position, "COLOR_0": colour}, "indices": indices})
    (surface,) = read_model(gltf.write(path)).surfaces
    same_triangles(surface, boxed(TRIANGLES)[0])
    assert (surface.tints == [1, 0, 0, 1]).all()


@pytest.mark.parametrize("based", [True, False])
def test_sparse_accessors_replace_values_of_a_view_or_of_zeros(path, based):
    gltf, rows = Gltf(), np.arange(5) if not based else np.array([1, 4])
    stored = CORNERS.copy()
    stored[rows] = 9
    index = gltf.accessor(stored)
    if not based:
        del gltf.tree["accessors"][index]["bufferView"]
    gltf.tree["accessors"][index]["sparse"] = {
        "count": len(rows),
        "indices": {"bufferView": gltf.view(rows.astype("u1").tobytes()), "componentType": 5121},
        "values": {"bufferView": gltf.view(CORNERS[rows].astype("<f4").tobytes())},
    }
    gltf.show({"attributes": {"POSITION": index}, "indices": gltf.accessor(FACES.reshape(-1), "u2")})
    same_triangles(read_model(gltf.write(path)).surfaces[0], boxed(TRIANGLES)[0])


@pytest.mark.parametrize(
    ("dtype", "normalised"), [("i2", True), ("i1", True), ("u2", False), ("i2", False), ("u1", True)]
)
def test_quantised_positions_and_coordinates_stand_beside_parts_of_floats(path, dtype, normalised):
    gltf, most = Gltf(), np.iinfo(dtype).max
    shape = (np.add(CORNERS, [1, 0, 1])) / 2  # within [0, 1]
    stored = np.round(shape * (most if normalised else 100))
    meant = stored / most if normalised else stored
    gltf.require("KHR_mesh_quantization")
    index = gltf.accessor(stored, dtype, **({"normalized": True} if normalised else {}))
    uv = gltf.accessor(np.round(UVS * 65535), "u2", normalized=True)
    material = gltf.material(pbrMetallicRoughness={"baseColorTexture": gltf.texture(picture(QUARTERS))})
    packed = {"attributes": {"POSITION": index, "TEXCOORD_0": uv}, "material": material}
    gltf.show(packed | {"indices": gltf.accessor(FACES.reshape(-1), "u2")})
    gltf.show(gltf.pyramid(None, np.add(CORNERS, [0, 3, 0])))
    first, second = read_model(gltf.write(path)).surfaces
    one, two = boxed(meant[FACES.reshape(-1)], np.add(TRIANGLES, [0, 3, 0]))
    same_triangles(first, one)
    same_triangles(second, two)
    assert first.base.uv == pytest.approx(UVS[FACES.reshape(-1)], abs=1e-5)


def test_draco_parts_are_read_beside_others(path):
    import DracoPy as draco

    gltf = Gltf()
    colours = np.tile(np.array([255, 0, 0], np.uint8), (5, 1))
    data = draco.encode(
        CORNERS, FACES, quantization_bits=20, colors=colours, tex_coord=UVS, preserve_order=True
    )
    kinds = {0: "POSITION", 2: "COLOR_0", 3: "TEXCOORD_0"}
    numbers = {kinds[each["attribute_type"]]: each["unique_id"] for each in draco.decode(data).attributes}
    empty = {
        "POSITION": gltf.add("accessors", componentType=5126, count=5, type="VEC3"),
        "COLOR_0": gltf.add("accessors", componentType=5121, count=5, type="VEC3", normalized=True),
        "TEXCOORD_0": gltf.add("accessors", componentType=5126, count=5, type="VEC2"),
    }
    indices = gltf.add("accessors", componentType=5123, count=18, type="SCALAR")
    packed = {"bufferView": gltf.view(data), "attributes": numbers}
    gltf.require("KHR_draco_mesh_compression")
    gltf.show(
        {"attributes": empty, "indices": indices, "extensions": {"KHR_draco_mesh_compression": packed}},
        gltf.pyramid(gltf.painted(0, 0, 1), np.add(CORNERS, [4, 0, 0])),
    )
    first, second = read_model(gltf.write(path)).surfaces
    one, two = boxed(TRIANGLES, np.add(TRIANGLES, [4, 0, 0]))

    def in_order(points):
        return np.sort(points.reshape(-1, 9).round(4), axis=0)

    assert in_order(first.positions) == pytest.approx(in_order(one), abs=1e-3)
    same_triangles(second, two)
    assert (first.tints[:, :3] == [1, 0, 0]).all()
    gltf.binary[-200:] = b"\0" * 200
    start = gltf.tree["bufferViews"][packed["bufferView"]]["byteOffset"]
    gltf.binary[start : start + len(data)] = bytes(len(data))
    with pytest.raises(DataError, match="compressed by Draco and cannot be decoded"):
        read_model(gltf.write(path))


# Nodes


def test_nodes_stand_where_their_parents_put_them_mirrored_ones_too(path):
    gltf = Gltf()
    child = gltf.show(gltf.pyramid(), scale=[-1, 2, 1], translation=[0, 1, 0])
    half = np.sqrt(0.5)
    top = gltf.add("nodes", children=[child], rotation=[0, half, 0, half], translation=[5, 0, 0])
    matrix = np.array([[1, 0, 0, -3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    gltf.show(gltf.pyramid(), matrix=matrix.T.reshape(-1).tolist())
    gltf.tree["scenes"] = [{"nodes": []}, {"nodes": [top, 2]}]
    gltf.tree["scene"] = 1
    model = read_model(gltf.write(path))
    scaled = TRIANGLES * [-1, 2, 1] + [0, 1, 0]
    turned = np.add(np.stack([scaled[:, 2], scaled[:, 1], -scaled[:, 0]], 1), [5, 0, 0])  # 90 degrees about y
    for surface, points in zip(model.surfaces, boxed(turned, TRIANGLES - [3, 0, 0]), strict=True):
        same_triangles(surface, points)
    assert model.notes[0] == "2 scenes: only the one that the file shows first is read"


def test_rotations_agree_with_another_library(path):
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    for quaternion in rng.normal(size=(20, 4)):
        found = local_matrix({"rotation": quaternion.tolist()})[:3, :3]
        assert found == pytest.approx(Rotation.from_quat(quaternion).as_matrix())


def test_instances_are_all_there(path):
    gltf = Gltf()
    moves, sizes = [[0, 0, 0], [5, 0, 0], [0, 0, 7]], [[1, 1, 1], [2, 2, 2], [1, 1, 1]]
    attributes = {"TRANSLATION": gltf.accessor(moves), "SCALE": gltf.accessor(sizes)}
    gltf.require("EXT_mesh_gpu_instancing")
    gltf.show(gltf.pyramid(), extensions={"EXT_mesh_gpu_instancing": {"attributes": attributes}})
    surfaces = read_model(gltf.write(path)).surfaces
    parts = boxed(*(TRIANGLES * size + move for move, size in zip(moves, sizes, strict=True)))
    for surface, points in zip(surfaces, parts, strict=True):
        same_triangles(surface, points)


def test_morph_targets_move_by_the_nodes_or_the_meshs_weights(path):
    for where in ("mesh", "node"):
        gltf = Gltf()
        target = {"POSITION": gltf.accessor(np.tile([0, 0, 0.5], (5, 1)) * np.arange(5)[:, None])}
        other = {"POSITION": gltf.accessor(np.ones((5, 3)))}
        node = gltf.show(gltf.pyramid() | {"targets": [target, other]})
        gltf.tree["meshes"][0]["weights"] = [0.5, 0] if where == "mesh" else [0, 1]
        if where == "node":
            gltf.tree["nodes"][node]["weights"] = [0.5, 0]
        moved = CORNERS + 0.5 * np.tile([0, 0, 0.5], (5, 1)) * np.arange(5)[:, None]
        same_triangles(read_model(gltf.write(path)).surfaces[0], boxed(moved[FACES.reshape(-1)])[0])


def test_skins_stand_as_their_joints_do_whatever_their_node_says(path):
    gltf = Gltf()
    weights = np.zeros((5, 4))
    weights[:4, 0], weights[4, :2] = 1, 0.5
    attributes = {
        "JOINTS_0": gltf.accessor(np.tile([0, 1, 0, 0], (5, 1)), "u1"),
        "WEIGHTS_0": gltf.accessor(weights),
    }
    node = gltf.show(gltf.pyramid(**attributes), translation=[50, 50, 50], skin=0)
    first, second = gltf.add("nodes", translation=[0, 1, 0]), gltf.add("nodes", translation=[2, 3, 0])
    bind = np.tile(np.eye(4), (2, 1, 1))
    bind[0, :3, 3] = [0, -1, 0]  # the first joint has not moved since it was bound
    gltf.add(
        "skins",
        joints=[first, second],
        inverseBindMatrices=gltf.accessor(bind.transpose(0, 2, 1).reshape(2, 16)),
    )
    gltf.tree["scenes"] = [{"nodes": [node, first, second]}]
    moved = CORNERS.copy()
    moved[4] += np.array([2, 3, 0]) / 2  # half way between both joints
    same_triangles(read_model(gltf.write(path)).surfaces[0], boxed(moved[FACES.reshape(-1)])[0])
    del gltf.tree["meshes"][0]["primitives"][0]["attributes"]["WEIGHTS_0"]
    with pytest.raises(DataError, match="has a skin and no JOINTS_0"):
        read_model(gltf.write(path))


def test_very_small_and_very_large_models_are_the_same_model(path):
    found = []
    for size in (1e-20, 1e-7, 1, 1e12):
        gltf = Gltf()
        gltf.show(gltf.pyramid(gltf.painted(1, 0, 0)), scale=[size] * 3)
        (surface,) = read_model(gltf.write(path)).surfaces
        same_triangles(surface, boxed(TRIANGLES)[0])
        found.append(surface.normals)
    assert all(normals == pytest.approx(found[0], abs=1e-5) for normals in found)


# Textures


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "DDS", "AVIF"])
def test_textures_of_all_formats_show_their_quarters(path, format):
    gltf = Gltf()
    large = np.kron(QUARTERS, np.ones((16, 16, 1), np.uint8))
    try:
        data = picture(large, format)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {format}")
    texture = gltf.texture(data)
    extension = {"WEBP": "EXT_texture_webp", "DDS": "MSFT_texture_dds", "AVIF": "EXT_texture_avif"}.get(
        format
    )
    if extension:
        gltf.tree["textures"][0] = {"extensions": {extension: {"source": 0}}}
        gltf.require(extension)
    material = gltf.material(pbrMetallicRoughness={"baseColorTexture": texture})
    gltf.show(gltf.pyramid(material, TEXCOORD_0=gltf.accessor(UVS * 0.4 + [0.55, 0.05])))
    model = read_model(gltf.write(path))
    assert model.notes == ()
    # the upper right quarter: v is counted downwards
    assert sample(model.surfaces[0]) * 255 == pytest.approx(np.tile([30, 200, 30], (6, 1)), abs=6)


def test_a_texture_lies_on_the_coordinates_it_names_moved_as_it_says(path):
    gltf = Gltf()
    zero, one = gltf.accessor(np.zeros((5, 2))), gltf.accessor(UVS)
    turn = {"offset": [0.25, 0.5], "rotation": 0.3, "scale": [2, 3]}
    texture = gltf.texture(picture(QUARTERS))
    for info, expected in (
        ({"texCoord": 1}, UVS),
        ({"texCoord": 0, "extensions": {"KHR_texture_transform": {"texCoord": 1}}}, UVS),
        ({"texCoord": 1, "extensions": {"KHR_texture_transform": turn}}, None),
    ):
        gltf.material(pbrMetallicRoughness={"baseColorTexture": texture | info})
        gltf.show(gltf.pyramid(len(gltf.tree["materials"]) - 1, TEXCOORD_0=zero, TEXCOORD_1=one))
        (*_, surface) = read_model(gltf.write(path)).surfaces
        if expected is None:  # the matrices of the extension's own page, one after the other
            cos, sin = np.cos(0.3), np.sin(0.3)
            move = np.array([[1, 0, 0.25], [0, 1, 0.5], [0, 0, 1]])
            rotate, scale = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]), np.diag([2, 3, 1])
            expected = (np.c_[UVS, np.ones(5)] @ (move @ rotate @ scale).T)[:, :2]
        assert surface.base.uv == pytest.approx(expected[FACES.reshape(-1)])


def test_samplers_repeat_clamp_mirror_and_keep_pixels_sharp(path):
    gltf = Gltf()
    uv = gltf.accessor(UVS * 4 - 1)
    for sampler in ({}, {"wrapS": 33071, "wrapT": 33071, "magFilter": 9728}, {"wrapS": 33648}):
        texture = gltf.texture(picture(QUARTERS), **sampler)
        material = gltf.material(pbrMetallicRoughness={"baseColorTexture": texture})
        gltf.show(gltf.pyramid(material, TEXCOORD_0=uv))
    plain, clamped, mirrored = (each.base for each in read_model(gltf.write(path)).surfaces)
    assert (plain.texture.repeat, plain.texture.smooth) == ((True, True), True)
    assert (clamped.texture.repeat, clamped.texture.smooth) == ((False, False), False)
    # beyond the edge the mirror image: u of 1.25 shows what 0.75 does
    assert mirrored.texture.pixels[0, :, 0].tolist() == [200, 30, 30, 200]
    assert mirrored.uv == pytest.approx(plain.uv * [0.5, 1])


def test_sixteen_bits_palettes_and_profiles_are_read_and_not_followed(path):
    grey = Image.fromarray((np.array([[0, 65535], [32768, 16384]])).astype(np.uint16))
    palette = Image.fromarray(QUARTERS).quantize(4)
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures = [
        picture(grey),
        picture(palette),
        picture(QUARTERS, exif=turned, icc_profile=b"no profile at all"),
    ]
    gltf = Gltf()
    uv = gltf.accessor(UVS)
    for data in pictures:
        material = gltf.material(pbrMetallicRoughness={"baseColorTexture": gltf.texture(data)})
        gltf.show(gltf.pyramid(material, TEXCOORD_0=uv))
    first, second, third = (each.base.texture.pixels for each in read_model(gltf.write(path)).surfaces)
    assert first[..., 0].tolist() == [[0, 255], [128, 64]]
    assert np.abs(second[..., :3].astype(int) - QUARTERS).max() <= 8
    assert (third[..., :3] == QUARTERS).all()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda gltf: gltf.tree["images"][0].update(uri="gone.png"), "gone.png is not beside it"),
        (lambda gltf: gltf.tree["images"][0].update(uri="http://127.0.0.1:9/x.png"), "lies on a network"),
        (lambda gltf: gltf.tree["images"][0].update(uri="../../../../etc/hostname"), "etc/hostname is not beside it"),
        (lambda gltf: gltf.tree["textures"][0].pop("source"), "it names no picture"),
        (lambda gltf: gltf.binary.__setitem__(slice(0, 40), b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(28)), "a KTX2 picture"),
        (lambda gltf: gltf.binary.__setitem__(slice(0, 40), bytes(40)), "it is no whole picture"),
        (lambda gltf: gltf.tree["meshes"][0]["primitives"][0]["attributes"].pop("TEXCOORD_0"), "lacks TEXCOORD_0"),
    ],
)  # fmt: skip
def test_a_texture_that_cannot_be_shown_is_a_note_with_the_reason_and_never_a_false_one(path, spoil, line):
    gltf = Gltf()
    texture = gltf.texture(picture(QUARTERS))
    material = gltf.material(
        pbrMetallicRoughness={"baseColorTexture": texture, "baseColorFactor": [0.2, 0.2, 1, 1]}
    )
    gltf.show(gltf.pyramid(material, TEXCOORD_0=gltf.accessor(UVS)))
    spoil(gltf)
    model = read_model(gltf.write(path))
    (note,) = model.notes
    assert "texture 0 is not shown" in note
    assert line in note
    assert "neither" not in note
    assert model.surfaces[0].base.factor == (0.2, 0.2, 1, 1)


def test_ktx2_with_a_picture_beside_it_is_that_picture_and_required_it_is_refused(path):
    gltf = Gltf()
    texture = gltf.texture(b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(28))
    other = gltf.texture(picture(QUARTERS))
    gltf.tree["textures"][0] = {"source": 1, "extensions": {"KHR_texture_basisu": {"source": 0}}}
    material = gltf.material(pbrMetallicRoughness={"baseColorTexture": texture}, emissiveTexture=other)
    gltf.show(gltf.pyramid(material, TEXCOORD_0=gltf.accessor(UVS)))
    model = read_model(gltf.write(path))
    assert model.notes == ()
    assert (model.surfaces[0].base.texture.pixels[..., :3] == QUARTERS).all()
    gltf.require("KHR_texture_basisu")
    with pytest.raises(DataError, match="requires KHR_texture_basisu, which is not read: export it with PNG"):
        read_model(gltf.write(path))


# Materials


def test_spec_gloss_materials_show_their_diffuse_colour_and_texture(path):
    gltf = Gltf()
    texture = gltf.texture(picture(QUARTERS))
    uv = gltf.accessor(UVS)
    for gloss in ({}, {"specularFactor": [0, 0, 0], "glossinessFactor": 0}):
        extension = {"diffuseTexture": texture, "diffuseFactor": [0.5, 1, 1, 1], **gloss}
        material = gltf.material(
            extensions={"KHR_materials_pbrSpecularGlossiness": extension},
            pbrMetallicRoughness={"baseColorFactor": [0, 0, 0, 1]},
        )
        gltf.show(gltf.pyramid(material, TEXCOORD_0=uv))
    model = read_model(gltf.write(path))
    for surface in model.surfaces:
        assert (surface.base.texture.pixels[..., :3] == QUARTERS).all()
        assert surface.base.factor == (0.5, 1, 1, 1)
    assert model.notes == ()


def test_what_glows_and_what_no_light_falls_on(path):
    gltf = Gltf()
    texture = gltf.texture(picture(QUARTERS))
    uv = gltf.accessor(UVS)
    black = {"baseColorFactor": [0, 0, 0, 1]}
    strong = {"KHR_materials_emissive_strength": {"emissiveStrength": 3}}
    for material in (
        gltf.material(pbrMetallicRoughness=black, emissiveTexture=texture, emissiveFactor=[1, 1, 1]),
        gltf.material(pbrMetallicRoughness=black, emissiveFactor=[0.1, 0.2, 0.3], extensions=strong),
        gltf.material(pbrMetallicRoughness=black, emissiveTexture=texture),
        gltf.material(extensions={"KHR_materials_unlit": {}}),
    ):
        gltf.show(gltf.pyramid(material, TEXCOORD_0=uv))
    picture_lamp, lamp, dark, unlit = read_model(gltf.write(path)).surfaces
    assert (picture_lamp.glow.texture.pixels[..., :3] == QUARTERS).all()
    assert lamp.glow.factor[:3] == pytest.approx((0.3, 0.6, 0.9))
    assert dark.glow is None  # the factor is 0 unless it is stated
    assert picture_lamp.lit
    assert not unlit.lit


def test_masks_blends_and_what_is_fully_transparent(path):
    gltf = Gltf()
    gltf.show(gltf.pyramid(gltf.painted(1, 0, 0, 0)))  # opaque: alpha means nothing
    for mode, alpha in (("MASK", 1), ("BLEND", 0.5), ("BLEND", 0), ("MASK", 0.2)):
        factor = {"baseColorFactor": [1, 1, 1, alpha]}
        material = gltf.material(pbrMetallicRoughness=factor, alphaMode=mode, alphaCutoff=0.3)
        gltf.show(gltf.pyramid(material, CORNERS * 3))
    model = read_model(gltf.write(path))
    assert [surface.alpha for surface in model.surfaces] == ["opaque", "mask", "blend"]
    assert model.surfaces[1].cutoff == 0.3
    assert model.notes == ("2 of its 5 parts are fully transparent and left out",)
    gltf = Gltf()
    gltf.show(
        gltf.pyramid(gltf.material(pbrMetallicRoughness={"baseColorFactor": [1, 1, 1, 0]}, alphaMode="BLEND"))
    )
    with pytest.raises(DataError, match="all of it is fully transparent"):
        read_model(gltf.write(path))


def test_no_material_is_plain_grey_and_an_empty_one_is_white_as_the_standard_says(path):
    gltf = Gltf()
    gltf.show(gltf.pyramid())
    model = read_model(gltf.write(path))
    assert sample(model.surfaces[0])[0] == pytest.approx([0.62] * 3)
    assert model.notes == ("it has neither texture nor colours: it is shown in plain grey",)
    gltf.show(gltf.pyramid(gltf.material()))
    model = read_model(gltf.write(path))
    assert model.surfaces[1].base.factor == (1, 1, 1, 1)
    assert model.notes == ()


def test_maps_extensions_lights_animations_and_variants_that_nobody_sees_are_named(path):
    gltf = Gltf()
    texture = gltf.texture(picture(QUARTERS))
    material = gltf.material(
        normalTexture=texture, occlusionTexture=texture,
        pbrMetallicRoughness={"metallicRoughnessTexture": texture},
        extensions={"KHR_materials_transmission": {"transmissionFactor": 1}},
    )  # fmt: skip
    gltf.show(gltf.pyramid(material) | {"extensions": {"KHR_materials_variants": {"mappings": []}}})
    gltf.tree["animations"] = [{}]
    gltf.tree["extensions"] = {
        "KHR_materials_variants": {"variants": [{"name": "beach"}, {"name": "street"}]},
        "KHR_lights_punctual": {"lights": [{}]},
    }
    gltf.require("KHR_materials_variants", "KHR_lights_punctual")
    variants, rest = read_model(gltf.write(path)).notes
    assert variants == "2 variants of its materials (beach, street): only its own materials are shown"
    for words in (
        "animations", "its lights", "normal maps", "occlusion maps", "metalness and roughness maps",
        "KHR_materials_transmission",
    ):  # fmt: skip
        assert words in rest


# Files


def test_what_is_required_and_not_read_is_named(path):
    gltf = Gltf()
    gltf.show(gltf.pyramid())
    gltf.require("KHR_materials_unlit", "KHR_materials_transmission", "ACME_new")
    with pytest.raises(
        DataError, match="requires KHR_materials_transmission, ACME_new, which is not read: export"
    ):
        read_model(gltf.write(path))


def test_buffers_and_pictures_beside_the_file_are_found_encoded_or_not(tmp_path):
    gltf = Gltf()
    uri = {"uri": "my%20tex.png"}
    gltf.add("images", **uri)
    material = gltf.material(
        pbrMetallicRoughness={"baseColorTexture": {"index": gltf.add("textures", source=0)}}
    )
    gltf.show(gltf.pyramid(material, TEXCOORD_0=gltf.accessor(UVS)))
    (tmp_path / "maps").mkdir()
    (tmp_path / "my tex.png").write_bytes(picture(QUARTERS))
    (tmp_path / "maps" / "50%25.png").write_bytes(picture(QUARTERS))
    (tmp_path / "my box.bin").write_bytes(bytes(gltf.binary))
    inline = "data:application/octet-stream;base64," + base64.b64encode(gltf.binary).decode()
    for buffer in ("my%20box.bin", "my box.bin", "MY BOX.BIN", r"C:\work\my box.bin", inline):
        for image in ("my%20tex.png", "./my tex.png", "maps/50%25.png", "file/of/someone/my%20tex.png"):
            gltf.tree["images"][0]["uri"] = image
            tree = gltf.tree | {"buffers": [{"uri": buffer, "byteLength": len(gltf.binary)}]}
            (tmp_path / "model.gltf").write_text(json.dumps(tree))
            model = read_model(tmp_path / "model.gltf")
            assert model.notes == ()
            assert (model.surfaces[0].base.texture.pixels[..., :3] == QUARTERS).all()
    gltf.tree["buffers"] = [{"uri": "gone.bin", "byteLength": 9}]
    (tmp_path / "model.gltf").write_text(json.dumps(gltf.tree))
    with pytest.raises(DataError, match="gone.bin is not beside it: put it there"):
        read_model(tmp_path / "model.gltf")


def test_a_damaged_file_is_one_line_wherever_it_is_damaged(path):
    gltf = Gltf()
    texture = gltf.texture(picture(QUARTERS))
    material = gltf.material(pbrMetallicRoughness={"baseColorTexture": texture})
    gltf.show(gltf.pyramid(material, TEXCOORD_0=gltf.accessor(UVS)))
    whole = gltf.glb()
    rng = np.random.default_rng(7)
    lines = []
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(256)
        if rng.random() < 0.2:
            data = data[: rng.integers(len(data))]
        path.write_bytes(data)
        try:
            read_model(path)
        except DataError as error:
            lines.append(str(error))
    assert all("\n" not in line and str(path) in line for line in lines)
    assert len(lines) > 50


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda tree: tree["accessors"][0].update(count=99), "do not fit into"),
        (lambda tree: tree["accessors"][0].update(count=1 << 40), "has 1099511627776 elements"),
        (lambda tree: tree["accessors"][0].update(componentType=1), "component type 1"),
        (lambda tree: tree["bufferViews"][0].update(byteLength=1 << 30), "cut short"),
        (lambda tree: tree["meshes"][0]["primitives"][0].update(mode=9), "mode 9"),
        (
            lambda tree: tree["meshes"][0]["primitives"][0].update(material=4),
            r"materials\[4\], which it does not hold",
        ),
        (
            lambda tree: tree.update(nodes=[{"mesh": 0, "children": [0]}], scenes=[{"nodes": [0]}]),
            "their own parents",
        ),
        (lambda tree: tree["meshes"][0]["primitives"][0]["attributes"].pop("POSITION"), "no positions"),
        (lambda tree: tree.update(asset={"version": "1.0"}), "glTF 1.0, and only glTF 2"),
        (lambda tree: tree.update(asset={}), "states no version"),
        (lambda tree: tree.update(nodes=[]), "holds no triangle"),
        (lambda tree: tree.update(nodes=7), "it is damaged"),
    ],
)
def test_malformed_entries_are_named(path, spoil, line):
    gltf = Gltf()
    gltf.show(gltf.pyramid())
    spoil(gltf.tree)
    with pytest.raises(DataError, match=line) as error:
        read_model(gltf.write(path))
    assert "\n" not in str(error.value)


def test_what_cannot_be_seen_from_all_sides_says_why(path):
    for corners, line in (
        (np.where(np.arange(15).reshape(5, 3) == 7, np.nan, CORNERS), "not finite"),
        (CORNERS * [1, 0, 1], "it is flat"),
        (CORNERS * 0, "no extent"),
    ):
        gltf = Gltf()
        gltf.show(gltf.pyramid(None, corners))
        with pytest.raises(DataError, match=line):
            read_model(gltf.write(path))
    gltf = Gltf()
    gltf.show(gltf.pyramid(), gltf.pyramid(None, CORNERS * 1e-3 + [500, 0, 0]))
    with pytest.raises(DataError, match="a stray part lies far away.*delete"):
        read_model(gltf.write(path))
    gltf = Gltf()  # a vertex that no triangle uses does no harm
    extra = {"attributes": {"POSITION": gltf.accessor(np.r_[CORNERS, [[np.nan] * 3]])}}
    gltf.show(extra | {"indices": gltf.accessor(FACES.reshape(-1), "u2")})
    same_triangles(read_model(gltf.write(path)).surfaces[0], boxed(TRIANGLES)[0])
