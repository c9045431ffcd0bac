"""Structure distance: how far the self-similarity of DINO's keys moves (Splice, arXiv 2201.00424)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from piva_bench.errors import ModelError
from piva_bench.metrics.weights import load_state

HEAD_WIDTH = 64
"""Of every ViT that DINO published; a file of weights does not say it."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COSINE_EPSILON = 1e-8


class Dino(nn.Module):
    """A DINO vision transformer that gives the keys of its last layer.

    Args:
        state: weights under the original repository's names, which are timm's, too.

    Raises:
        ModelError: they are not a vision transformer's.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        try:
            width, _, patch, _ = state["patch_embed.proj.weight"].shape
            depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
            grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
            self.size = grid * patch
            self.vit = VisionTransformer(
                img_size=self.size, patch_size=patch, embed_dim=width, depth=depth,
                num_heads=max(width // HEAD_WIDTH, 1), num_classes=0,
            )  # fmt: skip
            self.vit.load_state_dict({n: v.float() for n, v in state.items() if not n.startswith("head.")})
        except (KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"no weights of a DINO ViT: {str(error).splitlines()[0][:200]}") from error
        self.architecture = f"ViT depth {depth} width {width} patch {patch} input {self.size}"
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self._qkv: list[Tensor] = []
        last = self.vit.get_submodule(f"blocks.{depth - 1}.attn.qkv")
        last.register_forward_hook(lambda module, inputs, output: self._qkv.append(output))
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> Dino:
        """Reads ``model.safetensors`` of a folder.

        Raises:
            ModelError: it is torn, or holds another model.
        """
        path = folder / "model.safetensors"
        try:
            return cls(load_state(path))
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    @torch.inference_mode()
    def keys(self, images: Tensor, antialias: bool) -> Tensor:
        """Keys of the last layer, heads side by side, [N, 1 + patches, width]: the class token comes first.

        Args:
            images: [N, 3, H, W] at any scale; they are normalised as if in [0, 1].
            antialias: whether shrinking them averages.
        """
        shrunk = F.interpolate(
            images, (self.size, self.size), mode="bilinear", align_corners=False, antialias=antialias
        )
        self._qkv.clear()
        self.vit.forward_features((shrunk - self.get_buffer("mean")) / self.get_buffer("std"))
        (qkv,) = self._qkv
        self._qkv.clear()
        # Without gradients timm may fuse attention, but never the projection whose output is read here.
        return qkv.chunk(3, dim=-1)[1]

    def structure_distance(self, first: Tensor, second: Tensor, antialias: bool) -> float:
        """Mean squared difference of two pictures' [3, H, W] key self-similarities."""
        one, other = self_similarity(self.keys(torch.stack([first, second]), antialias))
        return float((one - other).square().mean())


def self_similarity(keys: Tensor) -> Tensor:
    """Cosine similarity of every two tokens, [N, T, T], of keys [N, T, D]."""
    lengths = keys.norm(dim=2, keepdim=True)
    return keys @ keys.mT / (lengths @ lengths.mT).clamp(min=COSINE_EPSILON)
