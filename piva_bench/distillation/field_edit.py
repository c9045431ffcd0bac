"""Edits of radiance fields: their views as pictures with gradients, their sources' views, their optimisers."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.engine import Distillation
from piva_bench.distillation.rule import DistillationMethod
from piva_bench.distillation.scenes import SceneViews, View
from piva_bench.errors import UserError
from piva_bench.method import OnStep, SceneOutcome, SceneTask
from piva_bench.scene.field import Rendered, grow
from piva_bench.scene.regularisers import (
    colour_variation,
    density_variation,
    half_transparency,
    outside,
    sparsity,
)

AIR = -5.0
"""Raw density at which opened nodes begin (0.7 % a voxel): clear, but a gradient can be felt there."""
SOLID = 0.5
"""Alpha from which a pixel has a depth."""


class FieldEdit:
    """A copy of a task's field, to be moved; see ``EditableScene``.

    Args:
        task: the field, the cameras that may look at it, and how it follows.
        device: where to compute.
    """

    def __init__(self, task: SceneTask, device: torch.device | str) -> None:
        self.sample_id, self.params, self._cameras = task.sample_id, task.params, task.cameras
        self.count = len(task.cameras)
        self._backgrounds = task.backgrounds.to(device)
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

    @torch.no_grad()
    def _make_room(self, voxels: int) -> None:
        opened = grow(self.field.open, voxels) & ~self.field.open
        self.field.raw[0, 0][opened] = AIR
        self.field.open |= opened

    def prompts(self, view: int) -> tuple[str, str]:
        """Source and target prompt as they describe a view."""
        return self._prompts[view]

    def show(self, views: Sequence[int]) -> View:
        """The edit, with gradients."""
        shown = self.field.render(self._cameras[list(views)])
        self._alpha = shown.alpha
        return self._view(shown, views)

    @torch.no_grad()
    def show_source(self, view: int) -> View:
        """The source."""
        return self._view(self.source.render(self._cameras[[view]]), [view])

    def _view(self, shown: Rendered, views: Sequence[int]) -> View:
        depth = torch.where(shown.alpha >= SOLID, shown.depth, 0).detach()
        return View(shown.over(self._backgrounds[list(views)]), depth)

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


def distill_scenes(
    rule: DistillationMethod,
    batch: Sequence[SceneTask],
    denoiser: Denoiser,
    seed: int,
    on_step: OnStep | None = None,
) -> list[SceneOutcome]:
    """Edits a batch of radiance fields by a rule; see ``EditMethod.edit_scenes``."""
    if not batch:
        return []
    if len({task.params for task in batch}) > 1 or len({task.size for task in batch}) > 1:
        raise UserError("A batch holds scenes of one size, edited alike: group them.")
    start = time.perf_counter()
    with torch.inference_mode(False), torch.no_grad():
        edits = [FieldEdit(task, denoiser.device) for task in batch]
        run = Distillation(rule, SceneViews(edits, denoiser, batch[0].params.views, seed), denoiser, seed)
        run.run(on_step)
        reasons = [run.reason(row) or _not_finite(edit) for row, edit in enumerate(edits)]
        shown = [
            None if reason else edit.field.render_views(task.turntable)
            for edit, reason, task in zip(edits, reasons, batch, strict=True)
        ]
    seconds = (time.perf_counter() - start) / len(batch)
    return [
        SceneOutcome(
            task.sample_id,
            reason=reasons[row],
            seconds=seconds,
            **run.account(row),
            views=shown[row],
            field=None if reasons[row] else edits[row].field.cpu(),
        )
        for row, task in enumerate(batch)
    ]


def _not_finite(edit: FieldEdit) -> str | None:
    return None if edit.field.raw.isfinite().all() else "the field's values are not finite"
