"""One training by several processes, as ``torchrun`` starts them: each takes batches of its own, all the same steps.

It is how a small network uses a second core: inside one process two threads are hardly faster than one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_size() -> tuple[int, int]:
    """Number of this process and how many there are, which join here the first time; (0, 1) outside ``torchrun``."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor (float32, any shapes) by its mean over the processes, the same bits in all of them."""
    _, size = rank_and_size()
    if size == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= size
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def leave_the_rest_to_the_first() -> int:
    """Ends every process but the first, which measures and writes what all have trained; returns how many trained."""
    rank, size = rank_and_size()
    if rank:
        sys.exit(0)
    return size
