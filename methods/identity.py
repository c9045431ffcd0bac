"""Reference row: the unchanged source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from piva_bench.method import EditMethod, EditOutcome, EditTask, MethodCard, OnStep, SceneOutcome, SceneTask
from piva_bench.params import MethodParams
from piva_bench.scene.params import FieldParams

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser


class Identity(EditMethod):
    """Returns the source: the best identity and the worst edit there can be."""

    card = MethodCard(
        name="identity",
        title="Unchanged source",
        paper=None,
        summary="The source picture itself: perfect identity, no edit.",
        kind="reference",
        idea_code_license="none needed",
    )

    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": MethodParams, "scenes": FieldParams}

    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """See ``EditMethod.edit``."""
        return [EditOutcome(task.sample_id, task.source) for task in batch]

    def edit_scenes(
        self, batch: Sequence[SceneTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[SceneOutcome]:
        """See ``EditMethod.edit_scenes``."""
        return [
            SceneOutcome(task.sample_id, views=task.field.render_views(task.turntable), field=task.field)
            for task in batch
        ]
