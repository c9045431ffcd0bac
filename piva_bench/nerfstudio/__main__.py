"""``python -m piva_bench.nerfstudio ns-train ...``: nerfstudio's commands where they do not run as installed.

``ns-train`` itself will do where torchvision matches torch, AlexNet's weights are at hand and torch is older than 2.6.
Where not, this runs the same command after mending what can be mended:

- torchvision's CUDA build beside a CPU build of torch (see ``piva_bench._torchvision``);
- torch's refusal, since 2.6, to read the numpy numbers in nerfstudio's checkpoints;
- nerfstudio's download of AlexNet for LPIPS whenever it builds a model. Without the weights LPIPS is reported as NaN.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

ALEXNET = "alexnet-owt-7be5be79.pth"


def main(arguments: Sequence[str]) -> int:
    """Runs one of nerfstudio's commands; returns the exit status."""
    points = {point.name: point for point in entry_points(group="console_scripts")}
    commands = sorted(name for name in points if name.startswith("ns-"))
    if not commands:
        return _fail("nerfstudio is not installed: pip install 'piva-bench[nerfstudio]'")
    if not arguments or arguments[0] not in commands:
        return _fail(f"usage: python -m piva_bench.nerfstudio COMMAND ..., one of {', '.join(commands)}")
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    without_missing_lpips()
    sys.argv = list(arguments)
    return points[arguments[0]].load()() or 0


def without_missing_lpips() -> None:
    """Where AlexNet's weights are missing, lets torchmetrics' LPIPS be NaN instead of a download."""
    import torch
    import torchmetrics.image.lpip as lpip
    from torch import Tensor

    if (Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET).is_file():
        return

    class Undefined(torch.nn.Module):
        """In the place of LPIPS."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()

        def forward(self, *args: Tensor) -> Tensor:
            return args[0].new_tensor(float("nan"))

    for module in (lpip, sys.modules["torchmetrics.image"]):
        vars(module)["LearnedPerceptualImagePatchSimilarity"] = Undefined


def _fail(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
