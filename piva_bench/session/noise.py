"""Noise as a function of (seed, sample, step, purpose).

Every random number of an edit is drawn here, on the CPU, from a counter-based generator keyed by a hash of
these four. Results therefore do not depend on batch size or order, on the number of workers, or on where a
run resumed.

numpy's Philox is used rather than torch's generator: its 128-bit key holds the hash, while torch's CPU
generator keeps only 32 bits of its seed, few enough for two draws of one benchmark to collide.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def _generator(seed: int, sample_id: str, step: int, purpose: str) -> np.random.Generator:
    # The lengths make the encoding unambiguous whatever characters ids and purposes hold.
    name, what = sample_id.encode("utf-8", "surrogatepass"), purpose.encode()
    text = b"%d|%d|%d:%b|%d:%b" % (seed, step, len(name), name, len(what), what)
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def noise(seed: int, sample_id: str, step: int, purpose: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 tensor of ``shape`` on the CPU."""
    values = _generator(seed, sample_id, step, purpose).standard_normal(math.prod(shape), dtype=np.float32)
    return torch.from_numpy(values).reshape(tuple(shape))


def timestep(seed: int, sample_id: str, step: int, among: range, purpose: str) -> int:
    """Integer drawn uniformly from a range."""
    return among[int(_generator(seed, sample_id, step, purpose).integers(len(among)))]


def uniform(seed: int, sample_id: str, step: int, purpose: str, shape: Sequence[int] = ()) -> Tensor:
    """Float32 tensor of ``shape``, uniform in [0, 1), on the CPU."""
    values = _generator(seed, sample_id, step, purpose).random(math.prod(shape), dtype=np.float32)
    return torch.from_numpy(values).reshape(tuple(shape))


class BatchNoise:
    """The functions above for all samples of a batch, on the device of the edit.

    Args:
        seed: seed of the run.
        sample_ids: one per row.
        device: where the tensors go.
    """

    def __init__(self, seed: int, sample_ids: Sequence[str], device: torch.device | str) -> None:
        self.seed, self.sample_ids, self.device = seed, tuple(sample_ids), torch.device(device)

    def noise(self, step: int, purpose: str, shape: Sequence[int]) -> Tensor:
        """[B, *shape], standard normal."""
        values = np.empty((len(self.sample_ids), math.prod(shape)), dtype=np.float32)
        for name, row in zip(self.sample_ids, values, strict=True):
            _generator(self.seed, name, step, purpose).standard_normal(out=row, dtype=np.float32)
        return torch.from_numpy(values).view(-1, *shape).to(self.device)

    def timesteps(self, step: int, among: range, purpose: str) -> Tensor:
        """[B] integers drawn uniformly from a range."""
        rows = [timestep(self.seed, name, step, among, purpose) for name in self.sample_ids]
        return torch.tensor(rows, device=self.device)

    def uniform(self, step: int, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """[B, *shape], uniform in [0, 1)."""
        rows = [uniform(self.seed, name, step, purpose, shape) for name in self.sample_ids]
        return torch.stack(rows).to(self.device)
