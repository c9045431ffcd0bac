"""EXT_meshopt_compression: vertex and index streams, version 0 and 1 of the extension's bit streams (appendix A, B).

A decoder in Python, for there is no wheel of the library: some hundred thousand vertices a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError

Bytes = NDArray[np.uint8]


def decode_view(data: bytes, packed: dict[str, Any]) -> bytes:
    """The bytes of a compressed buffer view.

    Args:
        data: as they are stored.
        packed: the extension's entry.

    Raises:
        DataError: they are of another version or damaged, in one line.
    """
    count, stride, mode = packed["count"], packed["byteStride"], packed["mode"]
    try:
        if mode == "ATTRIBUTES":
            values = _filtered(_attributes(data, count, stride), packed.get("filter", "NONE"), stride)
            return values.tobytes()
        indices = _triangles(data, count) if mode == "TRIANGLES" else _indices(data, count)
        return np.asarray(indices, f"<u{stride}").tobytes()
    except (IndexError, ValueError, OverflowError) as error:
        raise DataError("one of its parts is compressed by meshopt and cannot be decoded") from error


def _need(data: bytes, *heads: int) -> None:
    if not data or data[0] not in heads:
        head = f"0x{data[0]:02x}" if data else "nothing"
        raise DataError(
            f"one of its parts is compressed by meshopt and cannot be decoded: its stream begins with {head}"
        )


def _attributes(data: bytes, count: int, stride: int) -> Bytes:
    """Appendix A, mode 0: blocks of elements, each byte of them a stream of differences in groups of 16."""
    _need(data, 0xA0)
    if not 0 < stride <= 256 or count < 0 or count * stride > 1 << 31:
        raise ValueError("size")
    source = np.frombuffer(data, np.uint8)
    out = np.empty((count, stride), np.uint8)
    last = source[len(source) - stride :].copy()
    block, at = min(8192 // stride & ~15, 256), 1
    for first in range(0, count, block):
        size = min(block, count - first)
        for byte in range(stride):
            stream, at = _groups(source, at, -(-size // 16))
            signed = (stream >> 1) ^ (0 - (stream & 1)).astype(np.uint8)
            out[first : first + size, byte] = np.cumsum(signed[:size], dtype=np.uint8) + last[byte]
        last = out[first + size - 1]
    return out


def _groups(source: Bytes, at: int, count: int) -> tuple[Bytes, int]:
    """The bytes of ``count`` groups of 16 and where the next stream begins."""
    heads = source[at : at + -(-count // 4)]
    at += len(heads)
    out = np.zeros((count, 16), np.uint8)
    for group in range(count):
        width = int(heads[group // 4]) >> group % 4 * 2 & 3
        if width == 3:
            out[group] = source[at : at + 16]
            at += 16
        elif width:
            bits = 2 * width
            per, most = 8 // bits, (1 << bits) - 1
            packed = source[at : at + 16 // per]
            shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
            values = (packed[:, None] >> shifts & most).reshape(16)
            at += 16 // per
            escaped = values == most
            more = int(escaped.sum())
            values[escaped] = source[at : at + more]
            out[group] = values
            at += more
    return out.reshape(-1), at


def _filtered(values: Bytes, name: str, stride: int) -> NDArray[Any]:
    """Appendix B: what encoders did to the numbers before they packed them."""
    if name == "NONE":
        return values
    if name == "OCTAHEDRAL" and stride in (4, 8):
        return _octahedral(values.view(f"<i{stride // 4}"))
    if name == "QUATERNION" and stride == 8:
        return _quaternion(values.view("<i2"))
    if name == "EXPONENTIAL" and stride % 4 == 0:
        words = values.view("<i4")
        return np.ldexp((words << 8 >> 8).astype(np.float64), words >> 24).astype("<f4")
    raise ValueError(name)


def _octahedral(values: NDArray[Any]) -> NDArray[Any]:
    most = np.iinfo(values.dtype).max
    x, y, one = (values[:, column].astype(np.float64) for column in range(3))
    z = one - np.abs(x) - np.abs(y)
    fold = np.minimum(z, 0)
    x, y = x + np.where(x >= 0, fold, -fold), y + np.where(y >= 0, fold, -fold)
    scale = most / np.sqrt(x * x + y * y + z * z)
    out = values.copy()
    for column, each in enumerate((x, y, z)):
        out[:, column] = np.rint(each * scale)
    return out


def _quaternion(values: NDArray[Any]) -> NDArray[Any]:
    scale = np.sqrt(0.5) / (values[:, 3] | 3)
    small = values[:, :3] * scale[:, None]
    largest = np.sqrt(np.maximum(1 - (small**2).sum(1), 0))
    out, rows, where = np.empty_like(values), np.arange(len(values)), values[:, 3] & 3
    for step, each in enumerate((largest, *small.T)):
        out[rows, where + step & 3] = np.rint(each * 32767)
    return out


class _Reader:
    """The bytes after the codes: variable-length integers, and differences to the last free index."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at, self.last = data, at, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def index(self) -> int:
        value = self.number()
        self.last = self.last + (value >> 1 ^ -(value & 1)) & 0xFFFFFFFF
        return self.last


class _Fifo:
    """The last 16 edges and vertices, newest first."""

    def __init__(self) -> None:
        self.edges, self.vertices = [(0, 0)] * 16, [0] * 16

    def push(self, *edges: tuple[int, int]) -> None:
        for edge in edges:
            self.edges = [edge, *self.edges[:15]]

    def keep(self, vertex: int) -> None:
        self.vertices = [vertex, *self.vertices[:15]]


def _triangles(data: bytes, count: int) -> list[int]:
    """Appendix A, mode 1: each triangle by an edge and a vertex seen lately, where there are such."""
    _need(data, 0xE0, 0xE1)
    recent = 13 if data[0] == 0xE1 else 15
    reader, fifo, table = _Reader(data, 1 + count // 3), _Fifo(), data[-16:]
    out: list[int] = []
    fresh = 0
    for code in data[1 : 1 + count // 3]:
        if code < 0xF0:
            first, second = fifo.edges[code >> 4]
            fresh, third = _beside_edge(code & 15, recent, fresh, reader, fifo)
            fifo.push((third, second), (first, third))
            out += (first, second, third)
        else:
            fresh, corners = _apart(code, fresh, table, reader, fifo)
            first, second, third = corners
            fifo.push((second, first), (third, second), (first, third))
            out += corners
    return out


def _beside_edge(code: int, recent: int, fresh: int, reader: _Reader, fifo: _Fifo) -> tuple[int, int]:
    """The third corner of a triangle at a known edge, and the next vertex that nobody has used."""
    if code == 0:
        fifo.keep(fresh)
        return fresh + 1, fresh
    if code < recent:
        return fresh, fifo.vertices[code]
    if code == 15:
        third = reader.index()
    else:
        third = reader.last = reader.last + (-1 if code == 13 else 1)
    fifo.keep(third)
    return fresh, third


def _apart(
    code: int, fresh: int, table: bytes, reader: _Reader, fifo: _Fifo
) -> tuple[int, tuple[int, int, int]]:
    """The corners of a triangle at no known edge, and the next vertex that nobody has used."""
    more = table[code & 15] if code < 0xFE else reader.byte()
    if code >= 0xFE and more == 0:
        fresh = 0
    codes = (15 if code == 0xFF else 0, more >> 4, more & 15)
    before = fifo.vertices
    corners = []
    for each in codes:
        if each == 0:
            corners.append(fresh)
            fresh += 1
        else:
            # Stated from one place further on than at an edge; 15 is a free index where the code says so.
            corners.append(before[each - 1])
    if code >= 0xFE:
        corners = [
            reader.index() if each == 15 else corner for each, corner in zip(codes, corners, strict=True)
        ]
    for each, corner in zip(codes, corners, strict=True):
        if each == 0 or (each == 15 and code >= 0xFE):
            fifo.keep(corner)
    return fresh, (corners[0], corners[1], corners[2])


def _indices(data: bytes, count: int) -> list[int]:
    """Appendix A, mode 2: differences to one of two indices."""
    _need(data, 0xD0, 0xD1)
    reader, last, out = _Reader(data, 1), [0, 0], []
    for _ in range(count):
        value = reader.number()
        which, value = value & 1, value >> 1
        last[which] = last[which] + (value >> 1 ^ -(value & 1)) & 0xFFFFFFFF
        out.append(last[which])
    return out
