"""glTF 2.0 files: the container, its JSON, and the bytes that it names (sections 3.6 and 4.4)."""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from piva_bench.errors import DataError
from piva_bench.scene.models.meshopt import decode_view
from piva_bench.scene.models.surface import Notes
from piva_bench.scene.models.textures import find_beside

Tree = dict[str, Any]
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")


@dataclass
class Document:
    """An open glTF file.

    Attributes:
        path: of the file; what it names lies beside it.
        tree: its JSON.
        binary: the GLB's own buffer.
        notes: what is left out, gathered by all who read.
    """

    path: Path
    tree: Tree
    binary: bytes | None
    notes: Notes = field(default_factory=Notes)
    _buffers: dict[int, bytes] = field(default_factory=dict)

    def item(self, kind: str, index: Any) -> Tree:
        """An entry of one of the file's lists, such as "accessors".

        Raises:
            DataError: there is no such entry.
        """
        entries = self.tree.get(kind, [])
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(entries):
            raise DataError(f"it is damaged: it names {kind}[{index}], which it does not hold")
        entry = entries[index]
        if not isinstance(entry, dict):
            raise DataError(f"it is damaged: {kind}[{index}] is no object")
        return entry

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The extensions without which the file must not be shown."""
        return tuple(map(str, self.tree.get("extensionsRequired", ())))

    def view(self, index: int) -> tuple[bytes, int | None]:
        """Bytes of a buffer view, decompressed, and the distance of its elements where it states one."""
        view = self.item("bufferViews", index)
        for name in MESHOPT:
            if (packed := view.get("extensions", {}).get(name)) is not None:
                data = self._span(packed, packed["byteLength"])
                return decode_view(data, packed), packed["byteStride"]
        return self._span(view, view["byteLength"]), view.get("byteStride")

    def uri(self, text: str) -> bytes:
        """What a URI names: data within itself, or a file beside the model.

        Raises:
            DataError: it is neither; in one line.
        """
        if text.startswith("data:"):
            try:
                head, body = text.split(",", 1)
                return base64.b64decode(unquote(body)) if head.endswith(";base64") else _percent(body)
            except (ValueError, binascii.Error) as error:
                raise DataError("a data: address in it is damaged") from error
        if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
            raise DataError(
                f"{text[:100]} lies on a network, which is not asked: fetch it and name it by its file"
            )
        for name in (unquote(text), text):  # encoded by the standard; as it is by many programs
            if (found := find_beside(self.path.parent, name)) is not None:
                return found.read_bytes()
        raise DataError(f"{unquote(text)[:200]} is not beside it: put it there")

    def _span(self, where: Tree, length: int) -> bytes:
        data = self._buffer(where["buffer"])
        start = where.get("byteOffset", 0)
        if start < 0 or length < 0 or start + length > len(data):
            raise DataError(
                f"it is damaged or cut short: bytes {start} to {start + length} of a buffer of {len(data)} bytes"
            )
        return data[start : start + length]

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            entry = self.item("buffers", index)
            if "uri" in entry:
                self._buffers[index] = self.uri(entry["uri"])
            elif index == 0 and self.binary is not None:
                self._buffers[index] = self.binary
            else:
                raise DataError(f"it is damaged: buffer {index} has no bytes")
        return self._buffers[index]


def open_gltf(path: Path) -> Document:
    """Opens a ``.glb`` or ``.gltf`` file; which one it is, its first bytes say.

    Raises:
        DataError: it is neither, torn, or of another version.
    """
    data = path.read_bytes()
    binary = None
    if data[:4] == b"glTF":
        data, binary = _chunks(data)
    try:
        tree = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except ValueError as error:  # of the decoding too
        raise DataError("it is no glTF: its JSON cannot be read") from error
    version = str(tree.get("asset", {}).get("version", "")) if isinstance(tree, dict) else ""
    if not version:
        raise DataError("it is no glTF: it states no version")
    if not version.startswith("2."):
        raise DataError(
            f"it is glTF {version}, and only glTF 2 is read: convert it, in Blender or by gltf-pipeline"
        )
    return Document(path, tree, binary)


def _chunks(data: bytes) -> tuple[bytes, bytes | None]:
    if len(data) < 12:
        raise DataError(f"it is torn: it has {len(data)} bytes")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise DataError(f"it is a GLB of version {version}, and only version 2 is read: convert it")
    if len(data) < length:
        raise DataError(f"it is torn: {len(data)} of {length} bytes are there; get it again")
    found: dict[int, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise DataError("it is torn: one of its chunks goes beyond its end")
        found.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size
    if JSON_CHUNK not in found:
        raise DataError("it is damaged: it holds no JSON")
    return found[JSON_CHUNK], found.get(BINARY_CHUNK)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _percent(body: str) -> bytes:
    return unquote(body, encoding="latin-1").encode("latin-1")
