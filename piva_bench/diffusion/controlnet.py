"""The depth ControlNet: what the prior predicts, given how far everything is; adaptable for every sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from piva_bench.diffusion.checkpoint import load_network
from piva_bench.diffusion.fingerprints import control_fingerprint
from piva_bench.diffusion.lora import LayerLora, Layers, LoraRows
from piva_bench.errors import ModelError

if TYPE_CHECKING:
    from piva_bench.diffusion.condition import Condition
    from piva_bench.diffusion.effects import Host

REPORT = "studio-report.json"
"""Lies beside the weights of a ControlNet that was trained here, and names its model."""

Residuals = tuple[tuple[Tensor, ...], Tensor]
"""What a ControlNet adds to a UNet: at each skip connection, and in the middle."""


@dataclass(frozen=True)
class ControlRows:
    """Depth for consecutive rows of a batch, from row ``start``; the others are not controlled. A ``RowEffect``.

    Attributes:
        depth: [R, 1, H, W] distance along the optical axis in any unit, 0 where nothing is; H and W in pixels.
        lora: adapters of these rows on the ControlNet, counted from the first of them; None for none.
        start: the first row that is controlled.
    """

    depth: Tensor
    lora: LoraRows | None = None
    start: int = 0

    @contextmanager
    def on(
        self, denoiser: Host, noisy: Tensor, t: Tensor, condition: Condition
    ) -> Iterator[Mapping[str, Any]]:
        """See ``RowEffect.on``: what the ControlNet adds to the UNet; nothing to rows that are not controlled."""
        stop = self.start + len(self.depth)
        part = slice(self.start, stop)
        control = denoiser.need_depth_control()
        down, middle = control.residuals(noisy[part], t[part], condition.rows(part), self)

        def all_rows(residual: Tensor) -> Tensor:
            before = residual.new_zeros(self.start, *residual.shape[1:])
            after = residual.new_zeros(len(noisy) - stop, *residual.shape[1:])
            return torch.cat([before, residual, after]).to(denoiser.dtype)

        yield {
            "down_block_additional_residuals": tuple(all_rows(residual) for residual in down),
            "mid_block_additional_residual": all_rows(middle),
        }


class DepthControl:
    """A frozen depth ControlNet, and adapters on it with weights of their own for every row.

    Every row sharing the one ControlNet, a sample's own is that network with a low-rank change: a copy for each
    sample would be half a UNet to train and to keep.

    Args:
        net: diffusers' ControlNetModel, of a depth picture [N, 3, H, W] in [0, 1], near = 1.
        path: the folder it came from; identifies it.

    """

    def __init__(self, net: Any, path: Path) -> None:
        self.net, self.path = net.eval().requires_grad_(False), path
        self._loras: dict[Layers, LayerLora] = {}
        self.lora()

    @classmethod
    def from_pretrained(
        cls, path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> DepthControl:
        """Loads a ControlNet folder in diffusers' layout, from disk, safetensors only.

        Raises:
            ModelError: one line that says what is missing, torn or unsuitable.
        """
        path = Path(path)
        if not path.is_dir():
            raise ModelError(f"There is no ControlNet folder at {path}.")
        return cls(load_network(ControlNetModel, path, dtype).to(device), path)

    def lora(self, which: Layers = "attention") -> LayerLora:
        """Adapters on its attention, or more, and on the convolutions through which it speaks to the UNet."""
        if which not in self._loras:
            self._loras[which] = LayerLora(self.net, which)
        return self._loras[which]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weights and the configuration that were loaded."""
        return control_fingerprint(self.path)

    def check_fit(self, denoiser: Host) -> None:
        """Refuses a ControlNet made for another model.

        Raises:
            ModelError: its shape, or the size it expects of a depth map, is not the model's; or it says which model
                it was trained for (only those of ``piva-bench studio train controlnet`` do), and that is another.
        """
        self.check_shape(denoiser)
        if (report := self.path / REPORT).exists():
            model = json.loads(report.read_text())["model"]
            if model != denoiser.fingerprint:
                raise ModelError(
                    f"The ControlNet {self.path} was trained for the model {model}, and {denoiser.path} is "
                    f"{denoiser.fingerprint}; train it on: piva-bench studio train controlnet."
                )

    def check_shape(self, denoiser: Host) -> None:
        """Refuses a ControlNet that cannot be run beside this model.

        Raises:
            ModelError: its shape, or the size it expects of a depth map, is not the model's.
        """
        ours, theirs = self.net.config, denoiser.network.config
        for name in ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"):
            # Configurations hold tuples or lists, as they were made or read.
            mine, wanted = (list(v) if isinstance(v, tuple) else v for v in (ours[name], theirs[name]))
            if mine != wanted:
                raise ModelError(
                    f"The ControlNet {self.path} does not fit the model {denoiser.path}: {name} is {mine}, the model's "
                    f"{wanted}; use the one that was trained for it."
                )
        factor = 2 ** (len(ours.conditioning_embedding_out_channels) - 1)
        pixels = denoiser.resolution // int(theirs.sample_size)
        if factor != pixels:
            raise ModelError(
                f"The ControlNet {self.path} reads depth maps {factor} times the size of the latents, the pictures of "
                f"{denoiser.path} are {pixels} times as large; use the one that was trained for it."
            )

    def residuals(self, noisy: Tensor, t: Tensor, condition: Condition, control: ControlRows) -> Residuals:
        """What to add to the UNet's features for the controlled rows, in the ControlNet's precision.

        Differentiable with respect to the adapters.

        Args:
            noisy: [R, C, h, w].
            t: [R] integers.
            condition: R rows.
            control: their depth, and adapters.
        """
        dtype = self.net.dtype
        with control.lora.owner.active(control.lora) if control.lora else nullcontext():
            down, middle = self.net(
                noisy.to(dtype), t, encoder_hidden_states=condition.text.to(dtype),
                controlnet_cond=depth_picture(control.depth).to(dtype), return_dict=False,
            )  # fmt: skip
        return tuple(down), middle


def depth_picture(depth: Tensor) -> Tensor:
    """What a depth ControlNet is shown: [N, 3, H, W] in [0, 1], the nearest 1, the farthest 0.

    Inverse depth, stretched over each picture by itself: what MiDaS estimates and how ControlNet's annotator
    scales it (``annotator/midas`` of ControlNet 1.1: minus the minimum, divided by the maximum). Nothing at all is
    infinitely far.

    Args:
        depth: [N, 1, H, W] distance along the optical axis in any unit, 0 where nothing is.
    """
    inverse = torch.where(depth > 0, 1 / depth, 0)
    low, high = inverse.amin(dim=(1, 2, 3), keepdim=True), inverse.amax(dim=(1, 2, 3), keepdim=True)
    # A picture without any relief is 0 / 1.
    return ((inverse - low) / torch.where(high > low, high - low, 1)).expand(-1, 3, -1, -1)
