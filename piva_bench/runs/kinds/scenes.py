"""Scenes: a fitted field to edit, an outcome's sheets of views, pairs of turntables to score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from piva_bench.data.sample import UnreadableSample
from piva_bench.data.scene_sample import SIDES, SceneSample
from piva_bench.errors import DataError
from piva_bench.method import EditMethod, EditOutcome, SceneOutcome, SceneTask
from piva_bench.metrics.protocol import ViewsPair
from piva_bench.runs.edit import sha256
from piva_bench.runs.kinds.base import Encoded, Kind, Task
from piva_bench.runs.views import depth_path, encode_field, encode_views, field_path
from piva_bench.scene.kept_fields import fitted_field, unfitted_field
from piva_bench.scene.params import FieldEditParams, FieldParams

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.runs.edit import Edit
    from piva_bench.runs.variants import Variant


class Scenes(Kind):
    """See ``Kind``."""

    name = "scenes"
    protocols = "views-v1, views-clean and voxhammer-v1 score 3D edits"
    resumes = True

    def task(
        self,
        sample: Sample,
        variant: Variant,
        resolution: int,
        device: torch.device | str = "cpu",
        *,
        trial: bool = False,
    ) -> SceneTask:
        """See ``Kind.task``. The field is fitted, unless it has been before or it is a trial."""
        if isinstance(sample, UnreadableSample):
            raise DataError(sample.fault)
        assert isinstance(sample, SceneSample), "both are of a scene"
        assert isinstance(variant.follow, FieldParams), "a scene's"
        shots = sample.load_views()
        true = sample.load_counterfactual() if variant.cls.card.kind == "reference" else None
        backgrounds = torch.from_numpy(shots.backgrounds.copy()).permute(0, 3, 1, 2).float() / 255
        make = unfitted_field if trial else fitted_field
        return SceneTask(
            sample_id=sample.id,
            field=make(
                sample.scene_id, shots.views, sample.box, variant.follow, device, background=shots.colour
            ),
            cameras=shots.views.cameras,
            backgrounds=backgrounds,
            turntable=sample.scene.turntable_cameras,
            source_prompt=sample.source_prompt,
            target_prompt=sample.target_prompt,
            params=field_edit_params(variant),
            side_prompts=sample.side_prompts,
            reference=true.views if true is not None else None,
            instruction=sample.instruction,
        )

    def call(
        self, method: EditMethod, tasks: Sequence[Task], denoiser: Denoiser, seed: int, **more: Any
    ) -> Sequence[EditOutcome]:
        """See ``Kind.call``."""
        return method.edit_scenes(cast("Sequence[SceneTask]", tasks), denoiser, seed, **more)

    def fault(self, outcome: EditOutcome, resolution: int) -> str | None:
        """See ``Kind.fault``."""
        if not isinstance(outcome, SceneOutcome) or outcome.views is None:
            return outcome.reason or "the method returned no views and no reason"
        return None

    def encode(self, outcome: EditOutcome, key: str, keep_field: bool) -> Encoded:
        """See ``Kind.encode``."""
        assert isinstance(outcome, SceneOutcome), "a scene's"
        assert outcome.views is not None, "only what has no fault is encoded"
        png, depth = encode_views(outcome.views)
        files = {depth_path(key): depth}
        if keep_field and outcome.field is not None:
            files[field_path(key)] = outcome.field.to_bytes()
            for name, content in encode_field(outcome.field, outcome.views.cameras).items():
                what, _, ending = name.partition(".")
                files[f"{what}/{key}.{ending}"] = content
        return Encoded(png, sha256(png), files)

    def pair(self, sample: Sample, edit: Edit) -> ViewsPair:
        """See ``Kind.pair``."""
        assert isinstance(sample, SceneSample), "a scene's"
        source, reference = sample.load_turntable(), sample.load_counterfactual()
        region = sample.load_region()
        return ViewsPair(
            source=source.views,
            edited=edit.views(source.views.cameras),
            reference=None if reference is None else reference.views,
            backgrounds=source.backgrounds,
            backdrops=sample.load_backdrops(),
            prompts={side: sample.prompts(side) for side in SIDES},
            target_prompt=sample.target_prompt,
            region=region,
            surface=None if region is None else edit.surface(),
        )


def field_edit_params(variant: Variant) -> FieldEditParams:
    """How a setting moves fields; of one that moves none (a reference) it does not matter."""
    return variant.follow if isinstance(variant.follow, FieldEditParams) else FieldEditParams()
