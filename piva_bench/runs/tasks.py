"""What a method gets to see of a sample: a picture or a fitted scene."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from piva_bench.data.scene_sample import SceneSample
from piva_bench.method import EditMethod, EditOutcome, EditTask, OnStep, SceneTask
from piva_bench.runs.pictures import mask_pixels, reference_pixels, source_pixels, to_tensor
from piva_bench.scene.kept_fields import fitted_field
from piva_bench.scene.params import FieldEditParams

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.runs.variants import Variant

Task = EditTask | SceneTask


def make_task(sample: Sample, variant: Variant, resolution: int, device: torch.device | str = "cpu") -> Task:
    """What a method gets to see of a sample: the mask and the counterfactual only if its card claims them.

    A scene's field is fitted, unless it has been before.

    Raises:
        DataError: a file of the sample is missing or torn.
    """
    if isinstance(sample, SceneSample):
        return _scene_task(sample, variant, device)
    card = variant.cls.card
    mask = mask_pixels(sample, resolution) if card.uses_mask else None
    reference = reference_pixels(sample, resolution) if card.kind == "reference" else None
    return EditTask(
        sample_id=sample.id,
        source=to_tensor(source_pixels(sample, resolution)),
        source_prompt=sample.source_prompt,
        target_prompt=sample.target_prompt,
        instruction=sample.instruction,
        blended_words=sample.blended_words,
        edit_type=sample.edit_type,
        mask=None if mask is None else torch.from_numpy(mask.copy()),
        reference=None if reference is None else to_tensor(reference),
    )


def _scene_task(sample: SceneSample, variant: Variant, device: torch.device | str) -> SceneTask:
    assert variant.scene is not None, "variants of a scenes dataset have field parameters"
    shots = sample.load_views()
    true = sample.load_counterfactual() if variant.cls.card.kind == "reference" else None
    backgrounds = torch.from_numpy(shots.backgrounds.copy()).permute(0, 3, 1, 2).float() / 255
    # A reference's own parameters are how the source is fitted; how a field would be moved is nothing to it.
    params = variant.scene if isinstance(variant.scene, FieldEditParams) else FieldEditParams()
    return SceneTask(
        sample_id=sample.id,
        field=fitted_field(
            sample.scene_id, shots.views, sample.box, variant.scene, device, background=shots.colour
        ),
        cameras=shots.views.cameras,
        backgrounds=backgrounds,
        turntable=sample.load_turntable().views.cameras,
        source_prompt=sample.source_prompt,
        target_prompt=sample.target_prompt,
        params=params,
        side_prompts=sample.side_prompts,
        reference=true.views if true is not None else None,
    )


def timed_edit(
    method: EditMethod,
    tasks: Sequence[Task],
    denoiser: Denoiser,
    seed: int,
    on_step: OnStep | None = None,
    snapshots: Sequence[int] = (),
) -> tuple[list[EditOutcome], float]:
    """Edits a batch; outcomes and seconds. One clock for all methods, read when the device has finished."""
    start = time.perf_counter()
    scenes = [task for task in tasks if isinstance(task, SceneTask)]
    pictures = [task for task in tasks if isinstance(task, EditTask)]
    # Only rules that say so can be seen on their way.
    more: dict[str, Any] = {"snapshots": snapshots} if snapshots else {}
    outcomes: list[EditOutcome] = []
    if pictures:
        outcomes += method.edit(pictures, denoiser, seed, on_step=on_step, **more)
    if scenes:
        outcomes += method.edit_scenes(scenes, denoiser, seed, on_step=on_step, **more)
    if denoiser.device.type == "cuda":
        torch.cuda.synchronize(denoiser.device)
    return outcomes, time.perf_counter() - start
