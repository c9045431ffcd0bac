"""LPIPS on a local trunk: calibrated heads from the ``lpips`` package, features from torchvision's weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from piva_bench.errors import ModelError
from piva_bench.metrics.protocol import Pixels
from piva_bench.metrics.weights import load_state

Trunk = Literal["squeeze", "alex", "vgg"]
FILES: dict[Trunk, str] = {
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
}


class Lpips(nn.Module):
    """LPIPS v0.1 (arXiv 1801.03924).

    Args:
        trunk: the network whose features are compared.
        state: its weights under torchvision's names.

    Raises:
        ModelError: the weights are another network's.
    """

    def __init__(self, trunk: Trunk, state: dict[str, Tensor]) -> None:
        super().__init__()
        import lpips

        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")  # torchvision's, about lpips' way of asking for no weights
            # On meta: lpips would draw random weights for the trunk's classifier, too, for seconds.
            self.model = lpips.LPIPS(net=trunk, pnet_rand=True, pretrained=False, spatial=True, verbose=False)
        heads = load_state(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth")
        self.model.load_state_dict(heads, strict=False, assign=True)
        self.model.scaling_layer = lpips.ScalingLayer()
        own = self.model.net.state_dict()
        # lpips cuts torchvision's `features` into slices and keeps the layer numbers: slice2.3.weight.
        names = {name: "features." + name.split(".", 1)[1] for name in own}
        if lacking := [name for name in names.values() if name not in state]:
            raise ModelError(f"no weights of LPIPS-{trunk}'s trunk: {lacking[0]} is missing.")
        try:
            self.model.net.load_state_dict(
                {name: state[other].float() for name, other in names.items()}, assign=True
            )
        except RuntimeError as error:
            raise ModelError(
                f"no weights of LPIPS-{trunk}'s trunk: {str(error).splitlines()[-1].strip()}"
            ) from error
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, trunk: Trunk, folder: Path) -> Lpips:
        """Reads the trunk's file of a folder: torchvision's, else ``model.safetensors``.

        Raises:
            ModelError: it is torn, or holds another network.
        """
        path = folder / FILES[trunk]
        if not path.is_file():
            path = folder / "model.safetensors"
        try:
            return cls(trunk, load_state(path))
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    @torch.inference_mode()
    def distance(self, first: Tensor, second: Tensor) -> float:
        """Distance of two pictures [3, H, W] in [-1, 1]: each layer averaged over its own positions."""
        self.model.spatial = False
        return float(self.model(first[None], second[None]))

    @torch.inference_mode()
    def map(self, first: Tensor, second: Tensor) -> Tensor:
        """The distance at every pixel, [H, W]: each layer's map resized bilinearly to the picture."""
        self.model.spatial = True
        return self.model(first[None], second[None])[0, 0]

    def pairwise(self, first: Pixels, second: Pixels) -> list[float]:
        """Distances of uint8 pictures [N, H, W, 3] one by one, so that large ones fit into memory."""
        tensors = (
            torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
            for pictures in (first, second)
        )
        return [self.distance(a / 127.5 - 1, b / 127.5 - 1) for a, b in zip(*tensors, strict=True)]
