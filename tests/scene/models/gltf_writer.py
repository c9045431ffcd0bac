"""Writes glTF files entry by entry, so that a test can make any feature and any mistake; numpy and struct alone."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}

# A pyramid on a square: six triangles, no two sides alike.
CORNERS = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1], [0, 1.5, 0]], float)
FACES = np.array([[0, 1, 2], [0, 2, 3], [1, 0, 4], [2, 1, 4], [3, 2, 4], [0, 3, 4]])
UVS = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]])


def picture(pixels, format="PNG", **options) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))).save(
        file, format, **options
    )
    return file.getvalue()


QUARTERS = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 30]]], np.uint8)
"""Red, green; blue, yellow."""


class Gltf:
    def __init__(self) -> None:
        self.binary = bytearray()
        self.tree: dict = {
            "asset": {"version": "2.0"}, "bufferViews": [], "accessors": [], "meshes": [], "nodes": [],
            "materials": [], "images": [], "textures": [], "samplers": [],
        }  # fmt: skip

    def add(self, kind: str, **entry) -> int:
        self.tree.setdefault(kind, []).append(entry)
        return len(self.tree[kind]) - 1

    def view(self, data: bytes, **more) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        start = len(self.binary)
        self.binary += data
        return self.add("bufferViews", buffer=0, byteOffset=start, byteLength=len(data), **more)

    def accessor(self, values, dtype="f4", **more) -> int:
        values = np.ascontiguousarray(values, f"<{dtype}")
        values = values.reshape(len(values), -1)
        return self.add(
            "accessors", bufferView=self.view(values.tobytes()), componentType=COMPONENTS[dtype],
            count=len(values), type=KINDS[values.shape[1]], **more,
        )  # fmt: skip

    def texture(self, data: bytes, **sampler) -> dict:
        image = self.add("images", bufferView=self.view(data), mimeType="image/png")
        more = {"sampler": self.add("samplers", **sampler)} if sampler else {}
        return {"index": self.add("textures", source=image, **more)}

    def material(self, **entry) -> int:
        return self.add("materials", **entry)

    def painted(self, *factor) -> int:
        return self.material(pbrMetallicRoughness={"baseColorFactor": [*factor, 1][:4]})

    def pyramid(self, material=None, corners=CORNERS, *, index=True, **attributes) -> dict:
        """A primitive; values of attributes are numbers of accessors."""
        entry = {"attributes": {"POSITION": self.accessor(corners), **attributes}}
        if index:
            entry["indices"] = self.accessor(FACES.reshape(-1), "u2")
        return entry if material is None else entry | {"material": material}

    def show(self, *primitives, **node) -> int:
        """A node with a mesh of these primitives."""
        mesh = self.add("meshes", primitives=list(primitives))
        return self.add("nodes", mesh=mesh, **node)

    def require(self, *names) -> None:
        self.tree["extensionsUsed"] = [*self.tree.get("extensionsUsed", []), *names]
        self.tree["extensionsRequired"] = [*self.tree.get("extensionsRequired", []), *names]

    def glb(self) -> bytes:
        tree = dict(self.tree)
        if self.binary:
            tree["buffers"] = [{"byteLength": len(self.binary)}, *tree.get("buffers", [])]
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        body = bytes(self.binary) + b"\0" * (-len(self.binary) % 4)
        chunks = (
            struct.pack("<II", len(text), 0x4E4F534A)
            + text
            + struct.pack("<II", len(body), 0x004E4942)
            + body
        )
        return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks

    def write(self, path: Path) -> Path:
        path.write_bytes(self.glb())
        return path
