"""The attribute classifier: reads a studio picture's object, colour, material ... off its pixels.

It is trained on renders alone and judges both the generator (does a sample show what its prompt says?) and
edits (does the edit show what the counterfactual shows?).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from piva_bench.errors import ModelError

RESOLUTION = 64
WIDTHS = (32, 64, 128, 192)
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut (He et al., arXiv 1512.03385, basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        return torch.relu(self.body(x) + self.shortcut(x))


class StudioClassifier(nn.Module):
    """A small residual network (1.9M parameters, 64 px) with one linear head per attribute.

    Args:
        heads: attribute name to its classes, in order.
        widths: channels at 32, 16, 8 and 4 pixels.
    """

    def __init__(self, heads: Mapping[str, Sequence[str]], widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.classes = {head: tuple(names) for head, names in heads.items()}
        self.widths = tuple(widths)
        first, *rest = self.widths
        layers: list[nn.Module] = [nn.Conv2d(3, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
        for inputs, outputs in zip(self.widths, rest, strict=False):
            layers += [ResidualBlock(inputs, outputs, 2), ResidualBlock(outputs, outputs, 1)]
        self.trunk = nn.Sequential(*layers)
        # The maximum beside the mean keeps small things (a print, a hat) from drowning in the background.
        self.heads = nn.ModuleDict(
            {head: nn.Linear(2 * self.widths[-1], len(names)) for head, names in self.classes.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits [N, classes] of every head for pictures [N, 3, 64, 64] in [-1, 1]."""
        features = self.trunk(images)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        return {head: layer(pooled) for head, layer in self.heads.items()}

    @torch.inference_mode()
    def predict(
        self, images: np.ndarray | Sequence[np.ndarray], batch_size: int = 64
    ) -> list[dict[str, str]]:
        """The most likely class of every head, for uint8 pictures [N, H, W, 3] of any size."""
        answers: list[dict[str, str]] = []
        for start in range(0, len(images), batch_size):
            logits = self(to_input(images[start : start + batch_size]))
            best = {head: values.argmax(1).tolist() for head, values in logits.items()}
            count = len(next(iter(best.values())))
            answers += [{h: self.classes[h][best[h][i]] for h in self.classes} for i in range(count)]
        return answers

    def save(self, directory: Path, report: Mapping[str, Any]) -> None:
        """Write ``model.safetensors`` (fp16) and ``config.json`` (heads, widths, the training report)."""
        directory.mkdir(parents=True, exist_ok=True)
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, directory / WEIGHTS)
        config = {"heads": self.classes, "widths": self.widths, "resolution": RESOLUTION, **report}
        (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> StudioClassifier:
        """Read a saved classifier, ready to predict (fp32, evaluation mode).

        Raises:
            ModelError: a file is missing or does not fit the configuration.
        """
        try:
            config = json.loads((directory / CONFIG).read_text())
            model = cls(config["heads"], config["widths"])
            model.load_state_dict({k: v.float() if v.is_floating_point() else v
                                   for k, v in load_file(directory / WEIGHTS).items()})  # fmt: skip
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"no usable attribute classifier in {directory}: {reason}") from error
        return model.eval()


def to_input(images: np.ndarray | Sequence[np.ndarray]) -> Tensor:
    """uint8 pictures [N, H, W, 3] as the network's input: float [N, 3, 64, 64] in [-1, 1], area-resized."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    if pixels.shape[-2:] != (RESOLUTION, RESOLUTION):
        pixels = torch.nn.functional.interpolate(pixels, (RESOLUTION, RESOLUTION), mode="area")
    return pixels
