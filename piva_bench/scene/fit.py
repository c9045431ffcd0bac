"""Fits a radiance field to posed views, and finds where it can be empty from their silhouettes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from piva_bench.errors import DataError
from piva_bench.scene.field import Grid, RadianceField, Rays, camera_rays
from piva_bench.scene.params import COARSE
from piva_bench.scene.regularisers import density_variation
from piva_bench.scene.views import PosedViews


@dataclass(frozen=True)
class FitParams:
    """How a field is fitted. The defaults suit 40 to 100 views of 64 pixels on two cores."""

    steps: int = 400
    rays: int = 2048
    """Rays a step, drawn from all views."""
    learning_rate: float = 0.2
    """Adam's, falling exponentially to ``last_rate``."""
    last_rate: float = 0.01
    density_variation: float = 0.01
    seed: int = 0


EMPTY = 0.03
"""Weight of the alpha of rays that show the background's very colour, in opaque views.

Air of that colour and no air look the same before it; this tells the fit which is meant.
"""
SAME = 6 / 255
"""How far such a ray's colour may be off."""

OnStep = Callable[[int, float], None]
"""Called after a step with its index and loss."""


@torch.no_grad()
def silhouette_hull(field: RadianceField, views: PosedViews) -> Tensor:
    """[Z, Y, X] nodes that no view shows to be empty (the visual hull, a pixel wider)."""
    nodes = field.nodes()
    points = nodes.reshape(-1, 3)
    left = torch.arange(len(points), device=points.device)
    for index in range(len(views)):
        world = torch.as_tensor(
            views.cameras.camera_to_world[index], dtype=torch.float64, device=points.device
        )
        fx, fy, cx, cy = views.cameras.intrinsics[index].tolist()
        # What a view has shown to be empty needs no further one.
        local = (points[left].double() - world[:3, 3]) @ world[:3, :3]
        depth = -local[:, 2]
        column = (fx * local[:, 0] / depth + cx).floor()
        row = (-fy * local[:, 1] / depth + cy).floor()
        # What a camera does not see, it says nothing about.
        seen = (depth > 0) & (column >= 0) & (column < views.cameras.width)
        seen &= (row >= 0) & (row < views.cameras.height)
        alpha = torch.as_tensor(views.alpha[index], device=points.device)
        covered = F.max_pool2d(alpha[None, None], 3, stride=1, padding=1)[0, 0] > 0
        kept = ~seen
        kept[seen] = covered[row[seen].long(), column[seen].long()]
        left = left[kept]
    hull = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    hull[left] = True
    return hull.view(nodes.shape[:3])


def fit_field(
    views: PosedViews,
    grid: Grid,
    params: FitParams | None = None,
    *,
    background: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
) -> RadianceField:
    """A field that renders the views.

    Args:
        views: what it shall show. With transparent pixels alpha is fitted too; opaque pictures need
            ``background``.
        grid: box and resolution.
        params: of the fit.
        background: colour of what lies behind opaque pictures; where they show it, there is nothing before it.
        device: where to compute.
        on_step: progress.

    Raises:
        DataError: opaque pictures without a known background; silhouettes that leave nothing.
    """
    params = params or FitParams()
    if views.opaque and background is None:
        raise DataError(
            "these views have no transparent pixel: name the background's colour, or give them masks"
        )
    sizes = growth(grid.resolution)
    ends = [params.steps * (number + 1) // len(sizes) for number in range(len(sizes))]
    generator = torch.Generator().manual_seed(params.seed)
    field, first = None, 0
    for resolution, end in zip(sizes, ends, strict=True):
        grown = _opened(Grid(grid.box, resolution), views, device)
        if field is not None:
            grown.take(field)
        field = grown
        _train(field, views, params, range(first, end), background, generator, on_step)
        first = end
    assert field is not None, "a grid has at least one size"
    field.prune()
    return field


def growth(resolution: int) -> list[int]:
    """The resolutions that a fit goes through, an equal share of its steps at each: halves of the last, down to 64.

    A fine grid begun from fog learns each of its voxels from the few rays that meet it; begun from a coarse fit it has
    the shape, and only details are left (coarse to fine, as DVGO's progressive scaling).
    """
    sizes = [resolution]
    while sizes[0] > COARSE:
        sizes.insert(0, -(-sizes[0] // 2))
    return sizes


def _opened(grid: Grid, views: PosedViews, device: torch.device | str) -> RadianceField:
    """Fog wherever the silhouettes allow it."""
    field = RadianceField(grid).to(device)
    if not views.opaque:
        hull = silhouette_hull(field, views)
        if not hull.any():
            raise DataError(
                "the views' silhouettes share no point of the box: do poses and box belong together?"
            )
        field.set_open(hull)
    return field


def _train(
    field: RadianceField,
    views: PosedViews,
    params: FitParams,
    steps: range,
    background: Sequence[float] | None,
    generator: torch.Generator,
    on_step: OnStep | None,
) -> None:
    device = field.low.device
    rays, target = _pixels(field, views, device)
    behind = None if background is None else torch.tensor(background, device=device)
    decay = (params.last_rate / params.learning_rate) ** (1 / max(params.steps - 1, 1))
    optimizer = torch.optim.Adam(
        [field.raw], lr=params.learning_rate * decay**steps.start, betas=(0.9, 0.99), eps=1e-12
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    for step in steps:
        chosen = torch.randint(len(target), (params.rays,), generator=generator).to(device)
        jitter = torch.rand(params.rays, generator=generator).to(device)
        shown = field.render_rays(Rays(rays.origins[chosen], rays.directions[chosen]), jitter)
        loss = _loss(shown.colour, shown.alpha, target[chosen], behind if views.opaque else None)
        if params.density_variation:
            loss = loss + params.density_variation * density_variation(field)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step, loss.item())


def _pixels(field: RadianceField, views: PosedViews, device: torch.device | str) -> tuple[Rays, Tensor]:
    """Rays that meet open voxels, and their premultiplied RGBA [R, 4]."""
    origins, directions, targets = [], [], []
    for index in range(len(views)):
        rays = camera_rays(views.cameras[index : index + 1], device)
        hit = field.touched(rays)
        rgba = torch.as_tensor(views.images[index], device=device).reshape(-1, 4)[hit].float() / 255
        origins.append(rays.origins[hit])
        directions.append(rays.directions[hit])
        targets.append(torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1))
    return Rays(torch.cat(origins), torch.cat(directions)), torch.cat(targets)


def _loss(colour: Tensor, alpha: Tensor, target: Tensor, behind: Tensor | None) -> Tensor:
    if behind is not None:
        bare = ((target[:, :3] - behind).abs() <= SAME).all(dim=1, keepdim=True)
        return F.mse_loss(colour + (1 - alpha) * behind, target[:, :3]) + EMPTY * (alpha * bare).mean()
    return F.mse_loss(torch.cat([colour, alpha], dim=1), target)
