"""Reference row: the true edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from piva_bench.method import EditMethod, EditOutcome, EditTask, MethodCard, OnStep, SceneOutcome, SceneTask
from piva_bench.params import MethodParams
from piva_bench.scene.params import FieldParams

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser


class Counterfactual(EditMethod):
    """Returns the dataset's exact counterfactual: what a perfect edit scores."""

    card = MethodCard(
        name="counterfactual",
        title="Counterfactual",
        paper=None,
        summary="The true edited picture, where the dataset has one: what a perfect edit scores.",
        kind="reference",
        needs_reference=True,
        idea_code_license="none needed",
    )

    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": MethodParams, "scenes": FieldParams}

    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """See ``EditMethod.edit``."""
        reason = "the dataset has no counterfactual picture of this sample"
        return [
            EditOutcome(task.sample_id, task.reference, reason=reason if task.reference is None else None)
            for task in batch
        ]

    def edit_scenes(
        self, batch: Sequence[SceneTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[SceneOutcome]:
        """See ``EditMethod.edit_scenes``."""
        reason = "the dataset has no counterfactual of this scene"
        return [
            SceneOutcome(
                task.sample_id, reason=reason if task.reference is None else None, views=task.reference
            )
            for task in batch
        ]
