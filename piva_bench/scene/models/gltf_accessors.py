"""Numbers out of glTF buffers: strided, sparse, normalised (section 3.6.2 of the specification)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError
from piva_bench.scene.models.gltf_file import Document, Tree
from piva_bench.scene.models.surface import Floats

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
MOST = 1 << 28
"""Elements; a larger number is a fault of the file, and memory would not hold it."""


def read_accessor(doc: Document, index: int) -> NDArray[Any]:
    """The stored numbers, [count, width].

    Raises:
        DataError: the accessor is malformed or its bytes are not there.
    """
    accessor = doc.item("accessors", index)
    dtype, width, count = _shape(accessor, index)
    if "bufferView" in accessor:
        data, stride = doc.view(accessor["bufferView"])
        values = _elements(data, accessor.get("byteOffset", 0), stride, dtype, width, count)
    else:
        values = np.zeros((count, width), dtype)
    if (sparse := accessor.get("sparse")) is not None:
        values = values.copy()
        where, what = sparse["indices"], sparse["values"]
        rows = _packed(doc, where, np.dtype(COMPONENTS[where["componentType"]]), 1, sparse["count"])[:, 0]
        if len(rows) and rows.max() >= count:
            raise DataError(f"it is damaged: accessor {index} replaces elements beyond its end")
        values[rows] = _packed(doc, what, dtype, width, sparse["count"])
    return values


def read_floats(doc: Document, index: int, *, normalise: bool | None = None) -> Floats:
    """The numbers that are meant, float64 [count, width].

    Args:
        doc: the file.
        index: of the accessor.
        normalise: whether integers stand for [0, 1] or [-1, 1]; by default what the accessor says.
    """
    stated = bool(doc.item("accessors", index).get("normalized", False))
    return as_floats(read_accessor(doc, index), stated if normalise is None else normalise)


def as_floats(values: NDArray[Any], normalised: bool) -> Floats:
    """Stored numbers as those that are meant (section 3.6.2.2)."""
    if not normalised or values.dtype.kind == "f":
        return values.astype(np.float64)
    return np.maximum(values / np.iinfo(values.dtype).max, -1.0)


def _shape(accessor: Tree, index: int) -> tuple[np.dtype[Any], int, int]:
    component, kind, count = accessor.get("componentType"), accessor.get("type"), accessor.get("count")
    if component not in COMPONENTS or kind not in WIDTHS:
        raise DataError(f"it is damaged: accessor {index} has component type {component} and type {kind}")
    if not isinstance(count, int) or not 0 < count <= MOST:
        raise DataError(f"it is damaged: accessor {index} has {count} elements")
    return np.dtype(COMPONENTS[component]), WIDTHS[kind], count


def _packed(doc: Document, where: Tree, dtype: np.dtype[Any], width: int, count: int) -> NDArray[Any]:
    data, _ = doc.view(where["bufferView"])
    return _elements(data, where.get("byteOffset", 0), None, dtype, width, count)


def _elements(
    data: bytes, start: int, stride: int | None, dtype: np.dtype[Any], width: int, count: int
) -> NDArray[Any]:
    size = dtype.itemsize * width
    stride = stride or size
    if start < 0 or stride < size or start + (count - 1) * stride + size > len(data):
        raise DataError(
            f"it is damaged or cut short: {count} elements, {stride} bytes apart, do not fit into {len(data)} bytes"
        )
    return np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize))
