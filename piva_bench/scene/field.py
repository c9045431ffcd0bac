"""A radiance field one can read in a sitting: density and colour on a dense grid, in plain PyTorch.

As in DVGO (arXiv 2111.11215) raw values are interpolated and activated after, which keeps edges sharp; as in
Plenoxels there is no network. Nodes known to be empty are never evaluated. A render is differentiable with
respect to the grid, so a field is one more thing that a gradient in picture space can move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from piva_bench.errors import DataError
from piva_bench.scene.cameras import Cameras, Floats
from piva_bench.scene.views import PosedViews

FORMAT = "piva-bench radiance field 1"
FOG, EMPTY = -3.0, -8.0
"""Raw densities: where a fit begins, and of nodes closed as empty (3e-4 a voxel)."""
TOGETHER = 1 << 22
"""Rays rendered at once, times voxels along the box: 65536 rays through 64 voxels, 16384 through 256."""
BLOCK, RUN = 4, 8
"""Rays are looked at in runs of so many samples first: where all blocks of voxels about a run are closed it is left
out."""


class Rays(NamedTuple):
    """Rays [R, 3]. A direction's length is 1 along the optical axis, so that distance along it is depth."""

    origins: Tensor
    directions: Tensor


class Rendered(NamedTuple):
    """Pictures of a field, or values of single rays (then without H and W)."""

    colour: Tensor
    """[V, 3, H, W] premultiplied by alpha: what is in front of a black background."""
    alpha: Tensor
    """[V, 1, H, W] in [0, 1]."""
    depth: Tensor
    """[V, 1, H, W] expected distance along the optical axis where alpha is positive, else 0."""

    def over(self, background: Sequence[float] | Tensor) -> Tensor:
        """The pictures on a background: a colour, or pictures that broadcast to [V, 3, H, W]."""
        if not isinstance(background, Tensor):
            background = self.colour.new_tensor(background).view(1, 3, 1, 1)
        return self.colour + (1 - self.alpha) * background


@dataclass(frozen=True)
class Grid:
    """Size of a field: a box [2, 3] in the world and the number of voxels along its longest edge."""

    box: tuple[tuple[float, float, float], tuple[float, float, float]]
    resolution: int = 64

    @classmethod
    def around(cls, box: Floats, resolution: int = 64, margin: float = 0.03) -> Grid:
        """The grid round an object's box, with a margin as a share of its largest edge."""
        low, high = np.asarray(box, float)
        room = margin * float((high - low).max())
        (a, b, c), (d, e, f) = (low - room).tolist(), (high + room).tolist()
        return cls(((a, b, c), (d, e, f)), resolution)

    @property
    def voxel(self) -> float:
        """Edge of a voxel in world units."""
        return float(np.ptp(np.array(self.box), axis=0).max()) / self.resolution

    @property
    def shape(self) -> tuple[int, int, int]:
        """Nodes along z, y and x."""
        nodes = np.ceil(np.ptp(np.array(self.box), axis=0) / self.voxel - 1e-6).astype(int) + 1
        return int(nodes[2]), int(nodes[1]), int(nodes[0])


class RadianceField(nn.Module):
    """Density and view-independent colour in a box; outside it there is nothing.

    Args:
        grid: box and resolution.
        step: distance between samples on a ray, in voxels.
        floor: optical thickness of a voxel that is not seen: only what exceeds it is there. A gradient is felt below
            it all the same, so that something can grow out of clear air.
    """

    def __init__(self, grid: Grid, step: float = 0.75, floor: float = 0.0) -> None:
        super().__init__()
        self.grid, self.step, self.floor = grid, step, floor
        raw = torch.zeros(1, 4, *grid.shape)
        raw[:, 0] = FOG
        self.raw = nn.Parameter(raw)
        self.open: Tensor
        self.low: Tensor
        self.register_buffer("open", torch.ones(grid.shape, dtype=torch.bool))
        self.register_buffer("low", torch.tensor(grid.box[0]))

    @property
    def _high(self) -> Tensor:
        nodes = torch.tensor(self.grid.shape[::-1], device=self.low.device)
        return self.low + (nodes - 1) * self.grid.voxel

    def nodes(self) -> Tensor:
        """[Z, Y, X, 3] where the nodes lie in the world."""
        z, y, x = (torch.arange(n, device=self.low.device) * self.grid.voxel for n in self.grid.shape)
        lattice = torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], dim=-1)
        return self.low + lattice

    @property
    def density(self) -> Tensor:
        """[Z, Y, X] optical thickness of a voxel, 0 at closed nodes."""
        return torch.where(self.open, self._thickness(self.raw[0, 0]), 0)

    def _thickness(self, raw: Tensor) -> Tensor:
        """Optical thickness of a voxel from raw density."""
        full = F.softplus(raw)
        if not self.floor:
            return full
        # Forward what exceeds the floor, backward as if there were none.
        return full + ((full - self.floor).clamp(min=0) - full).detach()

    @property
    def colour(self) -> Tensor:
        """[3, Z, Y, X] in [0, 1]."""
        return self.raw[0, 1:].sigmoid()

    @torch.no_grad()
    def set_open(self, mask: Tensor, dilate: int = 1) -> None:
        """Where density may be: ``mask`` [Z, Y, X] grown by some voxels. The rest is emptied and never looked at."""
        grown = grow(mask, dilate)
        self.raw[0, 0][self.open & ~grown] = EMPTY
        self.open.copy_(grown)

    @torch.no_grad()
    def prune(self, threshold: float = 0.02, dilate: int = 2) -> None:
        """Closes what is empty: nodes with no density above ``threshold`` within ``dilate`` voxels."""
        self.set_open(self.density > threshold, dilate)

    @torch.no_grad()
    def take(self, other: RadianceField) -> None:
        """Density and colour of another field, between its nodes linearly, at the nodes that are open here."""
        last = torch.tensor(other.grid.shape[::-1], device=self.low.device) - 1
        # Slices: at 256 voxels the places of all nodes would be larger than the field.
        for z, nodes in enumerate(self.nodes()):
            at = (nodes - other.low) / other.grid.voxel / last * 2 - 1
            values = F.grid_sample(other.raw, at[None, None], align_corners=True, padding_mode="border")[
                0, :, 0
            ]
            # A voxel's thickness is that of its share of the other's, and softplus(x) = log(1 + e^x).
            thickness = F.softplus(values[0]) * (self.grid.voxel / other.grid.voxel)
            values[0] = torch.where(self.open[z], torch.expm1(thickness.clamp(min=1e-6)).log(), EMPTY)
            self.raw[0, :, z] = values

    def inside(self, box: Floats) -> Tensor:
        """[Z, Y, X] nodes inside a box [2, 3] of the world."""
        low, high = (torch.as_tensor(np.asarray(corner), device=self.low.device) for corner in box)
        nodes = self.nodes()
        return ((nodes >= low) & (nodes <= high)).all(dim=-1)

    def _spans(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Where each ray enters and leaves the box, in depth."""
        # A component of 0 would make 0/0 on a face of the box.
        directions = torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
        first, second = (self.low - rays.origins) / directions, (self._high - rays.origins) / directions
        near = torch.minimum(first, second).amax(dim=1).clamp(min=0)
        return near, torch.maximum(first, second).amin(dim=1)

    def _samples(self, rays: Rays, jitter: Tensor | None) -> tuple[Tensor, Tensor, Tensor, int]:
        """Samples in open voxels: their ray, number on it and depth [S]; and the numbers a ray can have."""
        near, far = self._spans(rays)
        pace = self.step * self.grid.voxel / rays.directions.norm(dim=1)
        # One more than the box needs: with a jitter the last may fall behind it, and is then left out.
        count = max(int(((far - near) / pace).clamp(min=0).max().ceil()), 1) if len(near) else 1
        ray, first = self._runs(rays, near, far, pace, count)
        number = first[:, None] + torch.arange(RUN, device=near.device)
        offset = 0.5 if jitter is None else jitter[ray, None]
        depth = near[ray, None] + (number + offset) * pace[ray, None]
        run, place = torch.nonzero((depth < far[ray, None]) & (number < count), as_tuple=True)
        ray, number, depth = ray[run], number[run, place], depth[run, place]
        keep = self._at(self.open, self._lattice(rays, ray, depth).round().long())
        return ray[keep], number[keep], depth[keep], count

    def _runs(self, rays: Rays, near: Tensor, far: Tensor, pace: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Runs of samples that may meet an open voxel: their ray and the number of their first sample [N]."""
        # From a run's middle to a sample, and both are rounded to a node.
        reach = math.ceil((RUN * self.step / 2 + 1) / BLOCK)
        blocks = F.max_pool3d(self.open[None, None].float(), BLOCK, ceil_mode=True)[0, 0] > 0
        first = torch.arange(0, count, RUN, device=near.device)
        begin = near[:, None] + first * pace[:, None]
        ray, run = torch.nonzero(begin < far[:, None], as_tuple=True)
        middle = begin[ray, run] + RUN / 2 * pace[ray]
        block = self._lattice(rays, ray, middle).round().long().div(BLOCK, rounding_mode="floor")
        keep = self._at(grow(blocks, reach), block)
        return ray[keep], first[run[keep]]

    @staticmethod
    def _at(mask: Tensor, index: Tensor) -> Tensor:
        """A mask [Z, Y, X] at indices [S, 3] of x, y and z; beyond its faces as at them."""
        z, y, x = (index[:, 2 - i].clamp(0, n - 1) for i, n in enumerate(mask.shape))
        return mask[z, y, x]

    def _lattice(self, rays: Rays, ray: Tensor, depth: Tensor) -> Tensor:
        """Positions [S, 3] in voxels from the box's corner."""
        points = rays.origins[ray] + rays.directions[ray] * depth[:, None]
        return (points - self.low) / self.grid.voxel

    @torch.no_grad()
    def touched(self, rays: Rays) -> Tensor:
        """[R] rays that meet an open voxel: only these can learn or show anything."""
        hit = torch.zeros(len(rays.origins), dtype=torch.bool, device=self.low.device)
        hit[self._samples(rays, None)[0]] = True
        return hit

    def render_rays(self, rays: Rays, jitter: Tensor | None = None) -> Rendered:
        """Colour [R, 3], alpha [R, 1] and depth [R, 1] of rays.

        Args:
            rays: what is rendered.
            jitter: [R] in [0, 1), where on its step each ray is sampled; the middle by default.
        """
        ray, number, depth, count = self._samples(rays, jitter)
        total = len(rays.origins)
        last = torch.tensor(self.grid.shape[::-1], device=self.low.device) - 1
        place = self._lattice(rays, ray, depth) / last * 2 - 1
        values = F.grid_sample(self.raw, place.view(1, -1, 1, 1, 3), align_corners=True)[0, :, :, 0, 0]
        thickness = self._thickness(values[0]) * self.step
        on_rays = thickness.new_zeros(total * count).index_put((ray * count + number,), thickness)
        before = on_rays.view(total, count).cumsum(dim=1)[ray, number] - thickness
        weight = torch.exp(-before) * -torch.expm1(-thickness)
        colour = weight.new_zeros(total, 3).index_add(0, ray, weight[:, None] * values[1:].sigmoid().T)
        alpha = weight.new_zeros(total).index_add(0, ray, weight)
        mean = weight.new_zeros(total).index_add(0, ray, weight * depth) / alpha.clamp(min=1e-6)
        return Rendered(colour, alpha[:, None], mean[:, None])

    def render(self, cameras: Cameras, together: int = TOGETHER) -> Rendered:
        """Pictures from all the cameras.

        Args:
            cameras: V views of one size.
            together: rays rendered at once, times voxels along the box; with more of them, gradients cost a second
                forward pass instead of memory.
        """
        rays = camera_rays(cameras, self.low.device)
        chunk = max(together // max(self.grid.resolution, 64), 1)
        total = len(rays.origins)
        pieces = [Rays(*(part[i : i + chunk] for part in rays)) for i in range(0, total, chunk)]
        if len(pieces) > 1 and torch.is_grad_enabled():
            done = [checkpoint(self.render_rays, piece, use_reentrant=False) for piece in pieces]
        else:
            done = [self.render_rays(piece) for piece in pieces]
        shape = (len(cameras), cameras.height, cameras.width, -1)
        return Rendered(
            *(torch.cat(parts).view(shape).permute(0, 3, 1, 2) for parts in zip(*done, strict=True))
        )

    @torch.no_grad()
    def render_views(self, cameras: Cameras, solid: float = 0.5) -> PosedViews:
        """Pictures as posed views; depth where alpha is at least ``solid``."""
        shots = [self.render(cameras[i : i + 1]) for i in range(len(cameras))]
        colour, alpha, depth = (torch.cat(parts).cpu() for parts in zip(*shots, strict=True))
        straight = torch.cat([colour / alpha.clamp(min=1e-6), alpha], dim=1).clamp(0, 1)
        images = (straight * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return PosedViews(images, cameras, torch.where(alpha >= solid, depth, 0)[:, 0].float().numpy())

    def save(self, path: Path) -> None:
        """Writes the field as safetensors: raw values in fp16, open nodes, box, step and, of edits, the floor."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file that ``save`` writes."""
        tensors = {
            "raw": self.raw.detach().half().cpu().contiguous(),
            "open": self.open.cpu(),
            "box": torch.tensor(self.grid.box, dtype=torch.float64),
            "sampling": torch.tensor(
                [self.grid.resolution, self.step, *([self.floor] if self.floor else [])], dtype=torch.float64
            ),
        }
        return save(tensors, metadata={"format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> RadianceField:
        """Reads a saved field.

        Raises:
            DataError: the file is missing, torn or holds something else; in one line.
        """
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("format") != FORMAT:
                    raise DataError(f"{path} is not a radiance field of this program (format {FORMAT!r})")
                tensors = {name: file.get_tensor(name) for name in ("raw", "open", "box", "sampling")}
            low, high = tensors["box"].tolist()
            resolution, *sampling = tensors["sampling"].tolist()
            field = cls(Grid((tuple(low), tuple(high)), int(resolution)), *sampling)
            with torch.no_grad():
                field.raw.copy_(tensors["raw"])
            field.open.copy_(tensors["open"])
        except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"cannot read the radiance field {path}: {reason}") from error
        return field


def camera_rays(cameras: Cameras, device: torch.device | str = "cpu") -> Rays:
    """One ray through the centre of every pixel, [V * H * W, 3], views first, then rows."""
    pose = torch.as_tensor(cameras.camera_to_world, dtype=torch.float32, device=device)
    lens = torch.as_tensor(cameras.intrinsics, dtype=torch.float32, device=device).view(-1, 4, 1, 1)
    rows = torch.arange(cameras.height, device=device).view(1, -1, 1) + 0.5
    columns = torch.arange(cameras.width, device=device).view(1, 1, -1) + 0.5
    x = ((columns - lens[:, 2]) / lens[:, 0]).expand(-1, cameras.height, -1)
    y = (-(rows - lens[:, 3]) / lens[:, 1]).expand(-1, -1, cameras.width)
    local = torch.stack([x, y, -torch.ones_like(x)], dim=-1)
    directions = torch.einsum("vij,vhwj->vhwi", pose[:, :3, :3], local)
    origins = pose[:, None, None, :3, 3].expand_as(directions)
    return Rays(origins.reshape(-1, 3), directions.reshape(-1, 3))


def grow(mask: Tensor, voxels: int) -> Tensor:
    """A mask [Z, Y, X] and all nodes within so many voxels of it along each axis."""
    grown = mask[None, None].float()
    for _ in range(voxels):
        grown = F.max_pool3d(grown, 3, stride=1, padding=1)
    return grown[0, 0] > 0
