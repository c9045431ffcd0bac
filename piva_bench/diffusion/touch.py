"""Features and attention of a UNet, read and written by query name during one call.

What is installed is removed when the call ends, also when the method raises inside: nothing of one method
reaches the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from piva_bench.errors import ModelError

if TYPE_CHECKING:
    from piva_bench.diffusion.condition import Condition
    from piva_bench.diffusion.effects import Host


Kind = Literal["self", "cross", "residual"]
Part = Literal["down", "mid", "up"]

_PARTS_IN_ORDER: tuple[Part, ...] = ("down", "mid", "up")


@dataclass(frozen=True)
class Site:
    """A place in the network that a touch is called at.

    Attributes:
        layer: the module's name, for example ``up_blocks.1.attentions.0.transformer_blocks.0.attn1``.
        kind: self attention, cross attention, or a residual block.
        part: of the UNet.
        side: "in" is before the attention is computed (q, k, v, probabilities), "out" is what the layer gives
            (after its output projection; of a residual block before the shortcut is added, as Plug-and-Play means it).
    """

    layer: str
    kind: Kind
    part: Part
    side: Literal["in", "out"]


class Features:
    """What one query's R rows have at a site; what is set replaces what the network would have used.

    Attributes:
        q: queries [R, heads, N, d]; at the "in" side of attention.
        k: keys [R, heads, M, d].
        v: values [R, heads, M, d].
        out: tokens [R, N, C] or, of a residual block, [R, C, h, w]; at the "out" side.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor

    def __init__(self, scale: float = 1.0, **values: Tensor) -> None:
        self._scale = scale
        self._probabilities: Tensor | None = None
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def probabilities(self) -> Tensor:
        """Attention probabilities [R, heads, N, M] of the present q and k; settable."""
        if self._probabilities is None:
            self._probabilities = (self.q @ self.k.transpose(-1, -2) * self._scale).softmax(dim=-1)
        return self._probabilities

    @probabilities.setter
    def probabilities(self, value: Tensor) -> None:
        self._probabilities = value

    def attend(self) -> Tensor:
        """The attention's result [R, heads, N, d]."""
        if self._probabilities is not None:
            return self._probabilities @ self.v
        return nn.functional.scaled_dot_product_attention(self.q, self.k, self.v, scale=self._scale)


Touch = Callable[[Site, Mapping[str, Features]], None]
"""Called at every site of a call with the features of the queries computed in it, by query name. The rows of a
guided query's unconditional (negative) half are under ``name/null``."""


@dataclass(frozen=True)
class TouchedRows:
    """A touch on a call whose blocks of R rows belong to these names, in order; a ``RowEffect``."""

    touch: Touch
    names: Sequence[str]

    @contextmanager
    def on(
        self, denoiser: Host, noisy: Tensor, t: Tensor, condition: Condition
    ) -> Iterator[Mapping[str, Any]]:
        """See ``RowEffect.on``.

        Raises:
            ModelError: the network is no UNet of Stable Diffusion's kind.
        """
        del noisy, t, condition
        network = denoiser.network
        before: list[tuple[Any, Any]] = []
        hooks: list[Any] = []
        try:
            for layer, (kind, part) in touched_layers(denoiser).items():
                module = network.get_submodule(layer)
                if kind == "residual":
                    site = Site(layer, kind, part, "out")
                    hooks.append(module.conv2.register_forward_hook(self._residual_hook(site)))
                else:
                    before.append((module, module.processor))
                    module.processor = _TouchedAttention(self, layer, kind, part)
            yield {}
        finally:
            for module, processor in before:
                module.processor = processor
            for hook in hooks:
                hook.remove()

    def call(self, site: Site, rows: Sequence[Features]) -> None:
        """Shows the touch its queries' features; the call's blocks in order."""
        self.touch(site, dict(zip(self.names, rows, strict=True)))

    def _residual_hook(self, site: Site) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            rows = [Features(out=part) for part in output.chunk(len(self.names))]
            self.call(site, rows)
            return torch.cat([features.out for features in rows])

        return hook


class _TouchedAttention:
    """An attention processor of diffusers (after ``AttnProcessor2_0``) that shows a touch what it computes."""

    def __init__(
        self,
        rows: TouchedRows,
        layer: str,
        kind: Literal["self", "cross"],
        part: Part,
    ) -> None:
        self._rows = rows
        self._in, self._out = Site(layer, kind, part, "in"), Site(layer, kind, part, "out")

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if attention_mask is not None or attn.group_norm is not None or attn.spatial_norm is not None:
            raise ModelError(
                "This model's attention has masks or norms of its own, which a touch does not know."
            )
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads, count = attn.heads, len(self._rows.names)

        def split(values: Tensor) -> tuple[Tensor, ...]:
            return values.view(*values.shape[:2], heads, -1).transpose(1, 2).chunk(count)

        parts = zip(
            split(attn.to_q(hidden_states)), split(attn.to_k(context)), split(attn.to_v(context)), strict=True
        )
        rows = [Features(attn.scale, q=q, k=k, v=v) for q, k, v in parts]
        self._rows.call(self._in, rows)
        attended = torch.cat([features.attend() for features in rows])
        tokens = attended.transpose(1, 2).flatten(2).to(hidden_states.dtype)
        output = attn.to_out[1](attn.to_out[0](tokens))
        given = [Features(out=part) for part in output.chunk(count)]
        self._rows.call(self._out, given)
        output = torch.cat([features.out for features in given])
        if attn.residual_connection:
            output = output + hidden_states
        return output / attn.rescale_output_factor


def touched_layers(denoiser: Host) -> dict[str, tuple[Kind, Part]]:
    """The attention layers and residual blocks of a UNet by name; those of a kind in the order they are computed in.

    Raises:
        ModelError: the network is no UNet of Stable Diffusion's kind.
    """
    found: dict[str, tuple[Kind, Part]] = {}
    for name, module in denoiser.network.named_modules():
        part = next((part for part in _PARTS_IN_ORDER if name.startswith(f"{part}_block")), None)
        if part is None:
            continue
        if hasattr(module, "set_processor") and name.endswith(("attn1", "attn2")):
            found[name] = "self" if name.endswith("attn1") else "cross", part
        elif name.endswith(".conv2"):
            found[name.removesuffix(".conv2")] = "residual", part
    if not any(kind != "residual" for kind, _ in found.values()):
        raise ModelError(
            f"{denoiser.path.name} is no UNet whose attention can be looked into: this method edits with "
            "Stable Diffusion's UNets only."
        )
    return dict(sorted(found.items(), key=lambda entry: _PARTS_IN_ORDER.index(entry[1][1])))
