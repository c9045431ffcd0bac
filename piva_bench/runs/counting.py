"""Counts what a computation costs on any machine: floating-point operations, and the most memory its tensors take."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
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


@dataclass(frozen=True)
class _Kind:
    """What there is to know of an operation.

    Attributes:
        flops: its formula.
        compound: whether it is made of other operations.
        fresh: whether its result is memory of its own, not an argument's.
    """

    flops: Callable[..., int] | None
    compound: bool
    fresh: bool

    @classmethod
    def of(cls, func: Any) -> _Kind:
        flops = _FLOPS.get(func.overloadpacket)
        rule = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        aliases = any(result.alias_info is not None for result in func._schema.returns)
        return cls(flops, flops is None and rule and func is not torch.ops.prim.device.default, not aliases)


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
        self._kinds: dict[Any, _Kind] = {}
        self._tracker = ModuleTracker()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts it."""
        kwargs = kwargs or {}
        kind = self._kinds.get(func) or self._kinds.setdefault(func, _Kind.of(func))
        if kind.compound:
            # In inference mode compound operations arrive whole.
            with self:
                return func.decompose(*args, **kwargs)
        made = func(*args, **kwargs)
        if kind.flops is not None:
            count = kind.flops(*args, **kwargs, out_val=made)
            if self._tracker.is_bw:
                self.backward += count
            else:
                self.forward += count
        if kind.fresh:
            for each in made if isinstance(made, (tuple, list)) else (made,):
                if isinstance(each, Tensor):
                    self._notice(each.untyped_storage())
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
