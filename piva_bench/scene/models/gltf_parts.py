"""Primitives of glTF meshes: triangles of every mode, their attributes, Draco, morph targets (section 3.7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError
from piva_bench.scene.models.gltf_accessors import as_floats, read_accessor, read_floats
from piva_bench.scene.models.gltf_file import Document, Tree
from piva_bench.scene.models.surface import Floats

DRACO = "KHR_draco_mesh_compression"
UNSEEN = {0: "points", 1: "lines", 2: "lines", 3: "lines"}
STRIP, FAN = 5, 6


@dataclass(frozen=True)
class Attributes:
    """What a primitive's vertices carry, and the triangles they make.

    Attributes:
        corners: [3 F] vertex numbers, three a triangle.
        values: by semantic ("POSITION", "TEXCOORD_0" ...), float64 [V, width]; joints are vertex numbers.
    """

    corners: NDArray[np.int64]
    values: dict[str, Floats]

    def at_corners(self, name: str) -> Floats | None:
        """An attribute for each corner, or None if the vertices do not have it."""
        values = self.values.get(name)
        return None if values is None else values[self.corners]


def read_primitive(doc: Document, primitive: Tree, weights: Sequence[float]) -> Attributes | None:
    """A primitive's triangles; None if it is made of points or lines, which is noted.

    Args:
        doc: the file.
        primitive: its entry.
        weights: of the morph targets.

    Raises:
        DataError: it is malformed, in one line.
    """
    mode = primitive.get("mode", 4)
    if mode in UNSEEN:
        doc.notes.not_shown(UNSEEN[mode])
        return None
    if mode not in (4, STRIP, FAN):
        raise DataError(f"it is damaged: a primitive has mode {mode}")
    packed = primitive.get("extensions", {}).get(DRACO)
    if packed is None:
        values = {name: _read(doc, name, index) for name, index in primitive.get("attributes", {}).items()}
        order = read_accessor(doc, primitive["indices"])[:, 0] if "indices" in primitive else None
    else:
        order, values = _unpack(doc, primitive, packed)
    if "POSITION" not in values:
        raise DataError("it is damaged: a primitive has no positions")
    count = len(values["POSITION"])
    if any(len(each) != count for each in values.values()):
        raise DataError("it is damaged: a primitive's attributes are of different lengths")
    if values["POSITION"].shape[1] != 3:
        raise DataError("it is damaged: positions do not have three coordinates")
    corners = _corners(np.arange(count) if order is None else order.astype(np.int64), mode)
    if len(corners) and corners.max() >= count:
        raise DataError(f"it is damaged: a triangle has vertex {corners.max()} of {count}")
    _morph(doc, primitive, weights, values)
    return Attributes(corners, values)


def _corners(order: NDArray[np.int64], mode: int) -> NDArray[np.int64]:
    """Triangle lists of lists, strips and fans (section 3.7.2.1)."""
    if mode == 4:
        return order[: len(order) // 3 * 3]
    if len(order) < 3:
        return order[:0]
    if mode == FAN:
        return np.stack([np.broadcast_to(order[0], len(order) - 2), order[1:-1], order[2:]], 1).reshape(-1)
    triangles = np.stack([order[:-2], order[1:-1], order[2:]], 1)
    triangles[1::2] = triangles[1::2][:, [0, 2, 1]]
    return triangles.reshape(-1)


def _read(doc: Document, name: str, index: int) -> Floats:
    # Colours are always shares of one; some writers forget to say so of integers.
    return read_floats(doc, index, normalise=True if name.startswith(("COLOR_", "WEIGHTS_")) else None)


def _unpack(
    doc: Document, primitive: Tree, packed: Tree
) -> tuple[NDArray[np.int64] | None, dict[str, Floats]]:
    import DracoPy

    data, _ = doc.view(packed["bufferView"])
    try:
        mesh = DracoPy.decode(data)
    except Exception as error:  # its own kinds, and the decoder's
        raise DataError(f"one of its parts is compressed by Draco and cannot be decoded ({error})") from error
    values: dict[str, Floats] = {}
    for name, number in packed["attributes"].items():
        stated = doc.item("accessors", primitive["attributes"][name]).get("normalized", False)
        raw = _draco_attribute(mesh, number)
        values[name] = as_floats(raw, bool(stated) or name.startswith(("COLOR_", "WEIGHTS_")))
    for name, index in primitive.get("attributes", {}).items():
        if name not in values and "bufferView" in doc.item("accessors", index):
            values[name] = _read(doc, name, index)
    faces = getattr(mesh, "faces", None)
    return None if faces is None else np.asarray(faces, np.int64).reshape(-1), values


def _draco_attribute(mesh: Any, number: int) -> NDArray[Any]:
    for attribute in mesh.attributes:
        if attribute["unique_id"] == number:
            data = np.asarray(attribute["data"])
            return data.reshape(len(data), -1)
    raise DataError(f"it is damaged: its Draco data has no attribute {number}")


def _morph(doc: Document, primitive: Tree, weights: Sequence[float], values: dict[str, Floats]) -> None:
    for weight, target in zip(weights, primitive.get("targets", ()), strict=False):
        if not weight:
            continue
        for name, index in target.items():
            if name == "TANGENT":
                continue
            change = read_floats(doc, index)
            old = values.get(name)
            if old is None:
                continue
            if len(change) != len(old):
                raise DataError("it is damaged: a morph target is not as long as its primitive")
            new = old.copy()
            new[:, : change.shape[1]] += weight * change
            values[name] = new
