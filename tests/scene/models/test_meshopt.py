"""Streams that the reference encoder (meshoptimizer 0.22) made of numbers that have a formula."""

import base64

import numpy as np
import pytest

from piva_bench.errors import DataError
from piva_bench.scene.models import read_model
from piva_bench.scene.models.meshopt import decode_view
from tests.scene.models.gltf_writer import CORNERS, FACES, Gltf

POSITIONS = (
    "oAAAAQDAAAD/ATPAAAD//4IAAAEAwAAAfwEAwAAAfgAAAQDAAAD/AQzAAAD/fQAAAAAAAAAAAAAAAAAAAAAAAAAAAACAvwAAAAAAAIC/"
)
TRIANGLES = "4fAAQAIRFAB2h1ZneKmGZYlomAFpAAA="
INDICES = "0QAEBAYIBAYCEAYCDAICCA4MBAAAAAA="
LATTICE = (
    "//////Ev/////ve///df////+K/////5//yv7/z////////////w//////HP///6///xQCCv8DDAH/BAIK/zECCj8NDI8aDPIXAv8FAgr/BQIK"
    "Hf8sDAHPJww/EAo/Gwz7Dwz/JQIK/hoC9xcMzxIK/ysCChgWCw8d9wMCOP8JAgr8Lwz/BgIK8hMM/woCCvo1DI8aDH8JDP8tDAEL/wUMAf8cDAH/"
    "AgwBfT1/HAr/BgwB8xMMFW8ICgB2h1ZneKmGZYlomAFpAAA="
)
TABLE = (
    "oB8AhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhv//AACGhoaGhoaGhh8AhISEhoSEhIaEhISGhISEhoSEhIaEhIaEhISGhISEhv//AACE"
    "hISGhISEhh8AHh4eIB4eHiAeHh4gHh4eIB4eHiAeHh4gHh4eIB4eIP//AAAeHh4gHh4eIBQgAAAACAAAAB8ACAwQFBgcICSZLDA0iTxAfUhMcVRp"
    "XGFkWWxRdElFgP//AAA9OYwxLSkloAAAAB8ADhIWGh4iJpcuMjaHPkJ7SnNSVmdeX2ZXbk9LekM/hv//AAA3My+WJyMfGwAAAB8AFBgcICQolTA0"
    "OIVARHlMcVRpXGBdWWxRdElFgD05jP//AAAxLSmcIR0ZFQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)


def decode(text, count, stride, mode, **more):
    return decode_view(base64.b64decode(text), {"count": count, "byteStride": stride, "mode": mode, **more})


def turned(triangles):
    """Each triangle with its smallest index first: the encoder may turn them."""
    triangles = triangles.reshape(-1, 3)
    first = triangles.argmin(1)
    return np.stack([triangles[np.arange(len(first)), (first + step) % 3] for step in range(3)], 1)


def test_attributes_come_back_to_the_bit():
    found = np.frombuffer(decode(POSITIONS, 5, 12, "ATTRIBUTES"), "<f4").reshape(5, 3)
    assert np.array_equal(found, CORNERS)
    rows = np.arange(40)
    table = np.stack([rows * 1000003, *((rows**2 + column * 3 * rows) % 97 for column in (1, 2, 3))], 1)
    assert np.array_equal(np.frombuffer(decode(TABLE, 40, 16, "ATTRIBUTES"), "<u4").reshape(40, 4), table)


@pytest.mark.parametrize("version", ["4f", "4P"])
def test_triangles_in_any_order_come_back(version):
    at = (np.arange(5)[:, None] * 6 + np.arange(5)).reshape(-1)
    lattice = np.stack([at, at + 1, at + 6, at + 1, at + 7, at + 6], 1).reshape(-1, 3)
    mixed = lattice[np.random.default_rng(0).permutation(50)]
    found = np.frombuffer(decode(version + LATTICE, 150, 4, "TRIANGLES"), "<u4")
    assert np.array_equal(turned(found), turned(mixed))
    found = np.frombuffer(decode(INDICES, 18, 2, "INDICES"), "<u2")
    assert np.array_equal(found, FACES.reshape(-1))


def test_filters_undo_what_the_extension_says():
    """Values that are computed here by the formulas' other direction."""
    from piva_bench.scene.models.meshopt import _filtered

    rng = np.random.default_rng(1)
    normals = rng.normal(size=(500, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    folded = normals / np.abs(normals).sum(1, keepdims=True)
    corner = np.sign(folded[:, :2]) * (1 - np.abs(folded[:, 1::-1]))
    flat = np.where(folded[:, 2:] < 0, corner, folded[:, :2])
    for dtype, one in (("i1", 127), ("<i2", 1023)):
        stored = np.c_[np.rint(flat * one), np.full(500, one), np.zeros(500)].astype(dtype)
        stride = stored.dtype.itemsize * 4
        found = _filtered(stored.view(np.uint8).reshape(500, stride), "OCTAHEDRAL", stride)
        assert found[:, :3] / np.iinfo(dtype).max == pytest.approx(normals, abs=2.5 / one)
    turns = rng.normal(size=(500, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    most = np.abs(turns).argmax(1)
    turns *= np.sign(turns[np.arange(500), most])[:, None]
    others = np.stack([turns[np.arange(500), (most + step) % 4] for step in (1, 2, 3)], 1)
    stored = np.c_[np.rint(others * np.sqrt(2) * 2047), 2047 & ~3 | most].astype("<i2")
    found = _filtered(stored.view(np.uint8).reshape(500, 8), "QUATERNION", 8) / 32767
    assert found == pytest.approx(turns, abs=2e-3)
    words = (np.array([[-3, 5]]) << 24 | np.array([[-7, 9]]) & 0xFFFFFF).astype("<i4")
    assert _filtered(words.view(np.uint8).reshape(1, 8), "EXPONENTIAL", 8).tolist() == [[-7 / 8, 9 * 32]]


def compressed(path, positions=POSITIONS, head=b""):
    gltf = Gltf()
    gltf.add("buffers", byteLength=200, extensions={"EXT_meshopt_compression": {"fallback": True}})
    views = []
    for text, count, stride, mode in ((positions, 5, 12, "ATTRIBUTES"), (TRIANGLES, 18, 2, "TRIANGLES")):
        data = head + base64.b64decode(text)[len(head) :]
        packed = gltf.tree["bufferViews"][gltf.view(data)]
        packed = packed | {"count": count, "byteStride": stride, "mode": mode}
        extensions = {"EXT_meshopt_compression": packed}
        views.append(gltf.add("bufferViews", buffer=1, byteLength=count * stride, extensions=extensions))
    position = gltf.add("accessors", bufferView=views[0], componentType=5126, count=5, type="VEC3")
    index = gltf.add("accessors", bufferView=views[1], componentType=5123, count=18, type="SCALAR")
    gltf.require("EXT_meshopt_compression")
    gltf.show({"attributes": {"POSITION": position}, "indices": index})
    return gltf.write(path)


def test_a_compressed_model_is_the_model(tmp_path):
    (surface,) = read_model(compressed(tmp_path / "packed.glb")).surfaces
    plain = Gltf()
    plain.show(plain.pyramid())
    (other,) = read_model(plain.write(tmp_path / "plain.glb")).surfaces
    found, expected = (np.unique(each.positions.round(6), axis=0) for each in (surface, other))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("damage", [{"head": b"\0"}, {"positions": "oAAA"}, {"positions": POSITIONS[:40]}])
def test_what_cannot_be_decoded_is_one_line(tmp_path, damage):
    with pytest.raises(DataError, match="compressed by meshopt and cannot be decoded") as error:
        read_model(compressed(tmp_path / "torn.glb", **damage))
    assert "\n" not in str(error.value)
