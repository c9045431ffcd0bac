"""What a step of a scene edit holds in memory at Stable Diffusion's size, counted without a GPU and without weights.

    python -m benchmarks.scene_memory --dtype bfloat16

Networks of SD 1.5's shape are run on PyTorch's ``meta`` device, which computes shapes and no values; counted are the
bytes of their weights and of all tensors that autograd keeps for a backward pass.
"""

from __future__ import annotations

import argparse

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from piva_bench.scene.field import Grid

GIB = 2**30
BOX = ((-1.75, -1.75, -1.75), (1.75, 1.75, 1.75))


def weights(network: nn.Module) -> int:
    """Bytes of a network's parameters."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


class Kept:
    """Within it, counts the bytes of what autograd keeps, each tensor once, a network's own left out."""

    def __init__(self, network: nn.Module) -> None:
        self._known = {id(p) for p in network.parameters()}
        self._seen: list[Tensor] = []
        self.bytes = 0

    def __enter__(self) -> Kept:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in self._known:
            self._known.add(id(base))
            self._seen.append(base)  # so that its identity is not used again
            self.bytes += base.numel() * base.element_size()
        return tensor


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--size", type=int, default=512)
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280),
        ).to(dtype)  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        ).to(dtype)  # fmt: skip
        for network in (unet, vae):
            network.requires_grad_(False)
        with Kept(vae) as encoder:
            picture = torch.zeros(1, 3, given.size, given.size, dtype=dtype, requires_grad=True)
            latents = vae.encode(picture).latent_dist.mode()
        side = latents.shape[-1]
        words = torch.zeros(1, 77, 768, dtype=dtype)
        # Adapters' products keep what their layers see: the same as gradients to the prompt and the latents keep.
        with Kept(unet) as row:
            noisy = torch.zeros(1, 4, side, side, dtype=dtype, requires_grad=True)
            unet(noisy, torch.zeros(1), encoder_hidden_states=words.requires_grad_())
    print(f"weights: UNet {weights(unet) / GIB:.2f} GiB, VAE {weights(vae) / GIB:.2f} GiB")
    print(f"kept for the gradient on one view of {given.size} px: encoder {encoder.bytes / GIB:.2f} GiB")
    print(f"kept for the training of an adapter on one row: UNet {row.bytes / GIB:.2f} GiB")
    for resolution in (64, 128, 256):
        shape = Grid(BOX, resolution).shape
        nodes = shape[0] * shape[1] * shape[2]
        # Source, edit, its gradient and Adam's two moments.
        print(
            f"field of {resolution} voxels, its source, gradient and moments: {5 * 16 * nodes / GIB:.2f} GiB"
        )


if __name__ == "__main__":
    main()
