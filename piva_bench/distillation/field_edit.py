"""Edits of radiance fields: their views as pictures with gradients, their sources' views, their optimisers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from piva_bench.diffusion.kept import digest
from piva_bench.distillation.scenes import View
from piva_bench.distillation.state import optimizer_tensors, restore_optimizer
from piva_bench.method import SceneTask
from piva_bench.scene.cameras import Cameras
from piva_bench.scene.field import Rendered, grow
from piva_bench.scene.regularisers import (
    colour_variation,
    density_variation,
    half_transparency,
    outside,
    sparsity,
)
from piva_bench.session.noise import BatchNoise
from piva_bench.session.rows import view_names

AIR = -5.0
"""Raw density at which opened nodes begin. A gradient is felt there, and none of it is seen: the edit's floor is its
thickness (0.7 % a voxel), which over the tens of voxels that a ray crosses would be a grey block round the object."""
MULTIPLE = 8
"""Of which the sides of views are multiples where a parameter sets their size; 8 is Stable Diffusion's."""
SOLID = 0.5
"""Alpha from which a pixel has a depth."""


class FieldEdit:
    """A copy of a task's field, to be moved; see ``EditableScene``.

    Args:
        task: the field, the cameras that may look at it, and how it follows.
        device: where to compute.
        seed: of the random backgrounds.
    """

    def __init__(self, task: SceneTask, device: torch.device | str, seed: int = 0) -> None:
        self.sample_id, self.params = task.sample_id, task.params
        self._cameras = _sized(task.cameras, task.params.view_size)
        self.count, self.seed = len(task.cameras), seed
        self.still = task.params.background == "scene"
        self._backgrounds = _scaled(task.backgrounds.to(device), self._cameras)
        plain = task.source_prompt, task.target_prompt
        sides = task.side_prompts if task.params.view_prompts else {}
        self._prompts = [sides.get(side, plain) for side in task.cameras.view_names]
        self.source = copy.deepcopy(task.field).to(device)
        self.field = copy.deepcopy(self.source)
        self._make_room(task.params.field_room)
        self.optimizer = torch.optim.Adam(
            [self.field.raw],
            lr=task.params.field_learning_rate,
            betas=(0.9, 0.99),
            eps=task.params.field_epsilon,
        )
        self._alpha: Tensor | None = None
        self._source_views: dict[int, Rendered] = {}

    @torch.no_grad()
    def _make_room(self, voxels: int) -> None:
        opened = grow(self.field.open, voxels) & ~self.field.open
        if not opened.any():
            return
        self.field.raw[0, 0][opened] = AIR
        # Rounded up, so that the air itself is nothing.
        self.field.floor = float(F.softplus(torch.tensor(AIR))) * (1 + 1e-5)
        self.field.open |= opened

    def prompts(self, view: int) -> tuple[str, str]:
        """Source and target prompt as they describe a view."""
        return self._prompts[view]

    def show(self, views: Sequence[int], step: int) -> View:
        """The edit, with gradients."""
        shown = self.field.render(self._cameras[list(views)])
        self._alpha = shown.alpha
        return self._view(shown, views, step, self.sample_id)

    def source_digest(self) -> bytes:
        """See ``EditableScene.source_digest``."""
        field, cameras = self.source, self._cameras
        words = [
            field.grid,
            (field.step, field.floor, self.still),
            (cameras.width, cameras.height),
            [source for source, _ in self._prompts],
        ]
        arrays = torch.from_numpy(
            np.concatenate([cameras.camera_to_world.ravel(), cameras.intrinsics.ravel()])
        )
        places = [self._backgrounds] if self.still else []
        return digest(repr(words).encode(), field.raw, field.open, arrays, *places)

    @torch.no_grad()
    def show_source(self, view: int, step: int, name: str) -> View:
        """The source, before what the edit stands before."""
        if view not in self._source_views:
            self._source_views[view] = self.source.render(self._cameras[[view]])
        return self._view(self._source_views[view], [view], step, name)

    def _view(self, shown: Rendered, views: Sequence[int], step: int, name: str) -> View:
        depth = torch.where(shown.alpha >= SOLID, shown.depth, 0).detach()
        return View(shown.over(self._behind(views, step, name)), depth)

    def _behind(self, views: Sequence[int], step: int, name: str) -> Tensor:
        """What the views stand before in a step: the scene's own place, or each a colour of its own."""
        if self.still:
            return self._backgrounds[list(views)]
        draws = BatchNoise(self.seed, view_names(name, views), self._backgrounds.device)
        return draws.uniform(step, "edit/background", (3, 1, 1))

    def state(self, prefix: str) -> dict[str, Tensor]:
        """What is moved and its optimiser, by name."""
        return {f"{prefix}/raw": self.field.raw, **optimizer_tensors(self.optimizer, f"{prefix}/optimizer")}

    @torch.no_grad()
    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what ``state`` gave."""
        self.field.raw.copy_(tensors[f"{prefix}/raw"])
        restore_optimizer(self.optimizer, f"{prefix}/optimizer", tensors)

    def penalty(self) -> Tensor:
        """The weighted regularisers of the field and of the views last shown."""
        params, alpha = self.params, self._alpha
        assert alpha is not None, "show() comes before penalty()"
        total = alpha.new_zeros(())
        terms: Sequence[tuple[float, Callable[[], Tensor]]] = (
            (params.colour_variation, lambda: colour_variation(self.field)),
            (params.density_variation, lambda: density_variation(self.field)),
            (params.sparsity, lambda: sparsity(self.field)),
            (params.half_transparency, lambda: half_transparency(alpha)),
            (params.outside, lambda: outside(self.field, self.source.open)),
        )
        for weight, term in terms:
            if weight:
                total = total + weight * term()
        return total


def _sized(cameras: Cameras, size: int) -> Cameras:
    """The cameras with pictures whose long side is ``size``, and sides that an encoder can halve; 0 leaves them."""
    long = max(cameras.width, cameras.height)
    if size in (0, long):
        return cameras
    width, height = (
        max(round(side * size / long / MULTIPLE), 1) * MULTIPLE for side in (cameras.width, cameras.height)
    )
    return cameras.resized(width, height)


def _scaled(pictures: Tensor, cameras: Cameras) -> Tensor:
    """Pictures [N, 3, h, w] in the cameras' size; those of one colour stay a pixel."""
    size = cameras.height, cameras.width
    if pictures.shape[2:] in (size, (1, 1)):
        return pictures
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)
