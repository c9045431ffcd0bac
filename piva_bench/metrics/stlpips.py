"""ST-LPIPS: a perceptual distance that a shift of a pixel hardly moves.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022, arXiv 2207.13686. It is LPIPS (a
calibrated distance between deep features) on a network whose strided layers blur before they subsample. Its
numbers are not LPIPS's and are never to be set beside them.

The weights (AlexNet variant, BSD-2-Clause) come from the installed distribution ``stlpips-pytorch``, which is
used as a data package: none of its code is imported, because that code imports a notebook shell.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piva_bench.errors import ModelError

DISTRIBUTION = "stlpips-pytorch"
WEIGHTS = "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth"

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS's input scaling, for [-1, 1]
_CONVOLUTIONS = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")
_SHAPES = ((3, 64, 11, 2), (64, 192, 5, 2), (192, 384, 3, 1), (384, 256, 3, 1), (256, 256, 3, 1))


def weights_path() -> Path:
    """Where the installed distribution keeps the weights.

    Raises:
        ModelError: the distribution is not installed, or installed without its weights.
    """
    try:
        path = Path(str(importlib.metadata.distribution(DISTRIBUTION).locate_file(WEIGHTS)))
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(f"ST-LPIPS needs its weights: pip install {DISTRIBUTION}") from error
    if not path.is_file():
        raise ModelError(f"{path} is missing: pip install --force-reinstall --no-deps {DISTRIBUTION}")
    return path


def _blur_pool(x: Tensor) -> Tensor:
    """Halve the resolution behind a 3x3 binomial blur, with two reflected pixels on each side."""
    taps = x.new_tensor((1.0, 2.0, 1.0))
    kernel = (taps[:, None] * taps[None] / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class STLPIPS(nn.Module):
    """Shift-tolerant LPIPS, AlexNet variant.

    Args:
        path: the weights; by default those of the installed distribution.

    Raises:
        ModelError: no weights, or not these.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        path = path or weights_path()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, size, padding=padding) for inputs, outputs, size, padding in _SHAPES
        )
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(_SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(3, 1, 1))
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            for layer, name in zip(self.convolutions, _CONVOLUTIONS, strict=True):
                layer.load_state_dict({"weight": stored[f"{name}.weight"], "bias": stored[f"{name}.bias"]})
            for i, (_, channels, _, _) in enumerate(_SHAPES):
                self.register_buffer(
                    f"channel_weights{i}", stored[f"lin{i}.model.1.weight"].reshape(channels)
                )
        except Exception as error:  # torch.load raises whatever its unpickler meets
            raise ModelError(f"{path} holds no ST-LPIPS weights: {str(error).splitlines()[0]}") from error
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Five unit-length feature maps of pictures [N, 3, H, W] in [-1, 1]."""
        x = (images - self.shift) / self.scale
        maps = []
        for i, convolution in enumerate(self.convolutions):
            if i == 0:
                # Only here the non-linearity follows the blur.
                x = torch.relu(_blur_pool(convolution(x)))
            else:
                if i < 3:
                    x = _blur_pool(F.max_pool2d(x, 3, stride=1))
                x = torch.relu(convolution(x))
            maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance [N] between pictures [N, 3, H, W] in [-1, 1], at least 16 pixels a side."""
        return self.compare(self.features(first), self.features(second))

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distance [N] between two lists of feature maps."""
        total = torch.zeros(first[0].shape[0])
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            weights = self.get_buffer(f"channel_weights{i}").view(-1, 1, 1)
            total = total + (weights * (a - b).square()).sum(1).mean((1, 2))
        return total

    @torch.inference_mode()
    def distances(self, image: np.ndarray, others: list[np.ndarray]) -> list[float]:
        """Distance of one uint8 picture [H, W, 3] to each of several of its size."""
        pixels = torch.from_numpy(np.stack([image, *others])).permute(0, 3, 1, 2).float() / 127.5 - 1
        maps = self.features(pixels)
        one = [m[:1].expand(len(others), -1, -1, -1) for m in maps]
        return self.compare(one, [m[1:] for m in maps]).tolist()

    @torch.inference_mode()
    def pairwise(self, first: np.ndarray, second: np.ndarray) -> list[float]:
        """Distances of uint8 pictures [N, H, W, 3] one by one."""
        pixels = [
            torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
            for pictures in (first, second)
        ]
        return self(*pixels).tolist()
