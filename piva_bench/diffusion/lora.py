"""LoRA with weights of its own for every row of a batch.

Each edit of a batch has its own adapters. The weights of R adapters are the rows of one tensor, so that one
optimiser step and one batched product per layer serve all of them; ``LayerLora`` adds their deltas to the
layers of a UNet while it runs, or to those of a ControlNet and what it hands to the UNet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from piva_bench.diffusion.condition import Condition
    from piva_bench.diffusion.effects import Host

Layers = Literal["attention", "all"]

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""Projections that get an adapter: q, k, v and out of every self and cross attention, as in VSD."""
FURTHER_TARGETS = (
    "ff.net.0.proj",
    "ff.net.2",
    "proj_in",
    "proj_out",
    "conv1",
    "conv2",
    "conv_shortcut",
    "conv",
)
"""What ``all`` adds: feed-forwards, and the convolutions of residual blocks and samplers, as peft adapts them."""
CONTROL_TARGETS = ("controlnet_down_blocks.", "controlnet_mid_block")
"""And of a ControlNet the 1 x 1 convolutions through which it speaks: they alone reach all that it says."""


@dataclass(frozen=True)
class LoraRows:
    """Adapters for consecutive rows of a batch, from row ``start``; the other rows get no delta. A ``RowEffect``.

    Attributes:
        factors: for each layer A [R, rank, in] and B [R, out, rank].
        start: the first row that has an adapter.
        owner: whose layers they are for.
        repeat: rows in succession that each adapter serves.
    """

    factors: tuple[tuple[Tensor, Tensor], ...]
    start: int
    owner: LayerLora
    repeat: int = 1

    @contextmanager
    def on(
        self, denoiser: Host, noisy: Tensor, t: Tensor, condition: Condition
    ) -> Iterator[Mapping[str, Any]]:
        """See ``RowEffect.on``."""
        with self.owner.active(self):
            yield {}


class LayerLora:
    """Forward hooks on a network's layers that add the deltas of the active ``LoraRows``.

    Without active rows the network's output is its own, bit for bit. The weights of R adapters of rank r are a
    tensor [R, r * (sum of in + sum of out)]: all A factors [r, in], then all B factors [out, r], layer by
    layer; of a convolution A is one of its own size and stride, and in counts its whole kernel. The scale (peft's
    alpha / rank) is 1.

    Attributes:
        names: the adapted layers.
        layers: their (in, out) features.

    Args:
        network: diffusers' UNet2DConditionModel or ControlNetModel.
        which: its attention alone, or feed-forwards and convolutions too.
    """

    def __init__(self, network: nn.Module, which: Layers = "attention") -> None:
        modules = [
            (name, module) for name, module in network.named_modules() if _adapted(name, module, which)
        ]
        self.names = [name for name, _ in modules]
        self.layers = [(module.weight[0].numel(), module.weight.shape[0]) for _, module in modules]
        self._modules = [module for _, module in modules]
        for module in self._modules:
            if not hasattr(module, _ACTIVE):
                module.register_forward_hook(_add_delta)
            setattr(module, _ACTIVE, None)

    def a_numel(self, rank: int) -> int:
        """Number of values in the A factors of one adapter."""
        return rank * sum(fan_in for fan_in, _ in self.layers)

    def initial(self, uniform: Tensor) -> Tensor:
        """Weights [R, P] of new adapters, which change nothing yet, from values [R, a_numel] in [0, 1).

        peft's initialisation: A uniform in +-1 / sqrt(in) (Kaiming with a = sqrt 5), B zero.
        """
        rank = uniform.shape[1] // self.a_numel(1)
        parts = uniform.split([rank * fan_in for fan_in, _ in self.layers], dim=1)
        scaled = [
            (2 * part - 1) / math.sqrt(fan_in) for part, (fan_in, _) in zip(parts, self.layers, strict=True)
        ]
        b_numel = rank * sum(fan_out for _, fan_out in self.layers)
        return torch.cat([*scaled, uniform.new_zeros(len(uniform), b_numel)], dim=1)

    def rows(self, weights: Tensor, start: int = 0, repeat: int = 1) -> LoraRows:
        """The adapters ``weights`` [R, P], ``repeat`` rows each, from ``start`` on; differentiable."""
        rank = weights.shape[1] // sum(fan_in + fan_out for fan_in, fan_out in self.layers)
        sizes = [rank * fan_in for fan_in, _ in self.layers] + [rank * fan_out for _, fan_out in self.layers]
        # One split: its backward is one concatenation, where slices would each make a full-size gradient.
        parts = weights.split(sizes, dim=1)
        half = len(self.layers)
        factors = tuple(
            (a.view(-1, rank, fan_in), b.view(-1, fan_out, rank))
            for (fan_in, fan_out), a, b in zip(self.layers, parts[:half], parts[half:], strict=True)
        )
        return LoraRows(factors, start, self, repeat)

    @contextmanager
    def active(self, rows: LoraRows | None) -> Iterator[None]:
        """Within the block the network runs with these adapters."""
        if rows is not None:
            for module, (a, b) in zip(self._modules, rows.factors, strict=True):
                setattr(module, _ACTIVE, (a, b, rows.start, rows.start + a.shape[0] * rows.repeat))
        try:
            yield
        finally:
            for module in self._modules:
                setattr(module, _ACTIVE, None)


def _adapted(name: str, module: nn.Module, which: Layers) -> bool:
    if isinstance(module, nn.Conv2d) and name.startswith(CONTROL_TARGETS):
        return True
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return False
    last = name.rpartition(".")[2]
    further = name.endswith(FURTHER_TARGETS[:2]) or last in FURTHER_TARGETS[2:]
    return name.endswith(TARGETS) or (which == "all" and further)


# What is active lies on the modules and the hook is one for all, so that equal blocks stay equal to a compiler.
_ACTIVE = "active_lora_rows"


def _add_delta(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    active: Any = module.active_lora_rows
    if active is None:
        return None
    a, b, start, stop = active
    x = inputs[0]
    if start == 0 and stop == x.shape[0]:
        return _with_delta(module, output, x, a, b)
    part = slice(start, stop)
    if torch.is_grad_enabled():
        return torch.cat([output[:start], _with_delta(module, output[part], x[part], a, b), output[stop:]])
    output[part] = _with_delta(module, output[part], x[part], a, b)
    return output


def _with_delta(module: nn.Module, output: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``output + B A x`` for each row; the adapters stay in float32 whatever the network's precision is."""
    if isinstance(module, nn.Conv2d):
        low = _convolved(module, x.to(a.dtype), a).transpose(-1, -2)
        return output + torch.matmul(b[:, None], low).reshape(output.shape).to(output.dtype)
    # The rows that share an adapter are one matrix to it.
    low = torch.bmm(x.reshape(len(a), -1, a.shape[2]).to(a.dtype), a.transpose(1, 2))
    if output.dtype == a.dtype:
        tokens = output.reshape(len(b), -1, b.shape[1])
        return torch.baddbmm(tokens, low, b.transpose(1, 2)).view_as(output)
    return output + torch.bmm(low, b.transpose(1, 2)).to(output.dtype).view_as(output)


def _convolved(module: nn.Conv2d, x: Tensor, a: Tensor) -> Tensor:
    """A [R, rank, in * k * k] as a convolution like ``module``'s on x [N, in, h, w]: [R, N / R, h' * w', rank]."""
    rows, rank, channels = len(a), a.shape[1], x.shape[1]
    if module.kernel_size == (1, 1) and module.stride == (1, 1):
        tokens = x.flatten(2).transpose(1, 2).reshape(rows, -1, channels)
        return torch.bmm(tokens, a.transpose(1, 2)).view(rows, len(x) // rows, -1, rank)
    # Adapters side by side as groups of one convolution; the rows that share one are its batch.
    grouped = x.reshape(rows, -1, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
    kernel = a.reshape(rows * rank, channels, *module.kernel_size)
    low = F.conv2d(grouped, kernel, stride=module.stride, padding=module.padding, groups=rows)
    return low.view(len(low), rows, rank, -1).permute(1, 0, 3, 2)
