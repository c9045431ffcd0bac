"""Results that several edits have in common, kept in bounded memory and, beyond that, on disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

MEMORY_BYTES = 1 << 30
DISK_BYTES = 16 << 30


class KeptRows:
    """Float32 rows under keys that hold everything they depend on.

    Rows live in memory until there are too many; the oldest then move to a temporary file, which has no name
    and vanishes with the process, and from there they are overwritten, oldest first. A row that was lost is
    computed again: nothing but time depends on what is kept.

    Args:
        memory_bytes: most bytes of rows in memory.
        disk_bytes: most bytes on disk; 0 for none.
        folder: where the temporary file is; by default the system's.

    Attributes:
        hits: rows that were found.
        misses: rows that were not.
    """

    def __init__(
        self, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES, folder: Path | None = None
    ) -> None:
        self._memory_bytes, self._disk_bytes, self._folder = memory_bytes, disk_bytes, folder
        self._memory: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._used = 0
        self._disk = _Ring(disk_bytes, folder)
        self.hits = self.misses = 0

    def get(self, keys: Sequence[bytes], like: Tensor) -> Tensor | None:
        """The rows of these keys, stacked, in the shape of the rows of ``like`` and on its device; None unless
        all are there.
        """
        rows = []
        for key in keys:
            row = self._memory.get(key)
            if row is None and (row := self._disk.read(key)) is None:
                self.misses += len(keys)
                return None
            rows.append(row)
        self.hits += len(keys)
        return torch.from_numpy(np.stack(rows)).view(len(keys), *like.shape[1:]).to(like.device)

    def put(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Keeps a row [any shape] of float32 under each key."""
        values = rows.detach().flatten(1).cpu().numpy()
        for key, value in zip(keys, values, strict=True):
            if key in self._memory:
                continue
            self._memory[key] = value.copy()
            self._used += value.nbytes
        while self._used > self._memory_bytes:
            key, value = self._memory.popitem(last=False)
            self._used -= value.nbytes
            self._disk.write(key, value)


class _Ring:
    """Rows in a file of bounded size, written round and round: a new row takes the place of the oldest."""

    def __init__(self, limit: int, folder: Path | None) -> None:
        self._limit, self._folder = limit, folder
        self._file: IO[bytes] | None = None
        self._next = 0
        self._place: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def read(self, key: bytes) -> np.ndarray | None:
        if self._file is None or key not in self._place:
            return None
        offset, size = self._place[key]
        self._file.seek(offset)
        data = self._file.read(size)
        return np.frombuffer(data, dtype=np.float32) if len(data) == size else None

    def write(self, key: bytes, value: np.ndarray) -> None:
        size = value.nbytes
        if key in self._place or size > self._limit:
            return
        if self._next + size > self._limit:
            self._drop(self._next, self._limit)
            self._next = 0
        self._drop(self._next, self._next + size)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 (kept open)
            self._file.seek(self._next)
            self._file.write(value.tobytes())
        except OSError:  # a full disk: what does not fit is computed again
            self._limit = 0
            return
        self._place[key] = (self._next, size)
        self._next += size

    def _drop(self, start: int, stop: int) -> None:
        """Forgets the rows that reach into this part of the file; they are the oldest."""
        while self._place:
            offset, size = next(iter(self._place.values()))
            if offset >= stop or offset + size <= start:
                return
            self._place.popitem(last=False)


def digest(*parts: bytes | Tensor) -> bytes:
    """16 bytes that stand for texts and tensors, in order."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else _bytes(part)
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.digest()


def _bytes(tensor: Tensor) -> bytes:
    # As bytes, because numpy knows no bfloat16.
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def row_digests(values: Tensor) -> list[bytes]:
    """``digest`` of each row of a tensor."""
    return [digest(row) for row in values.detach().cpu()]
