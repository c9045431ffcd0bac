"""Counts what a computation costs on any machine: floating-point operations, and the most memory its tensors take."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.module_tracker import ModuleTracker
from torch.utils.weak import WeakIdKeyDictionary

_FLOPS = dict(flop_registry) | {
    # PyTorch's registry does not know its own attention on a CPU.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, out_val=None, **__: sdpa_flop_count(q.shape, k.shape, v.shape)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, out_val=None, **__: sdpa_backward_flop_count(
            grad.shape, q.shape, k.shape, v.shape
        )
    ),
}


class Counting(TorchDispatchMode):
    """Within the block, every operation of PyTorch is counted.

    FLOPs are those of PyTorch's own formulas: products of matrices, convolutions and attention, a multiplication and
    an addition counted as two. ``FlopCounterMode`` has the same formulas, but neither tells the backward pass apart
    nor sees memory.

    Attributes:
        forward: FLOPs outside backward passes.
        backward: FLOPs of backward passes.
        alive: bytes of the tensors made within the block that there still are.
        peak: the most that ``alive`` has been. What an operation needs within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.backward = self.alive = self.peak = 0
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._tracker = ModuleTracker()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts it."""
        kwargs = kwargs or {}
        flops = _FLOPS.get(func.overloadpacket)
        if flops is None and func is not torch.ops.prim.device.default:
            # In inference mode compound operations arrive whole.
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                # What was there before the block is not the block's.
                self._known.setdefault(leaf.untyped_storage(), True)
        made = func(*args, **kwargs)
        if flops is not None:
            count = flops(*args, **kwargs, out_val=made)
            if self._tracker.is_bw:
                self.backward += count
            else:
                self.forward += count
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._notice(leaf.untyped_storage())
        return made

    def _notice(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known[storage] = True
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, size).atexit = False

    def _forget(self, size: int) -> None:
        self.alive -= size
