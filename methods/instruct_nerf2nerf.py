"""Instruct-NeRF2NeRF: the views that a field is fitted to are edited in turn while it is fitted."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from methods.instruct_pix2pix import fault
from piva_bench.errors import UserError
from piva_bench.method import (
    EditMethod,
    EditOutcome,
    EditTask,
    MethodCard,
    OnStep,
    Progress,
    SceneOutcome,
    SceneTask,
    Strength,
)
from piva_bench.params import MethodParams, parameter
from piva_bench.profiles import INSTRUCTIONS
from piva_bench.scene.params import FieldEditParams
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor, nn

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.distillation.field_edit import FieldEdit
    from piva_bench.session.predictor import Predictor
    from piva_bench.session.session import Session


class InstructNerf2NerfParams(MethodParams):
    """The settings of "in2n" (ayaanzhaque/instruct-nerf2nerf, in2n_config.py and in2n_pipeline.py @ 2c0d385)."""

    steps: int = parameter(
        15_000, ge=1, le=1_000_000, source="official code", embedded=400, description="steps of the field"
    )
    edit_every: int = parameter(
        10,
        ge=1,
        le=10_000,
        source="official code",
        embedded=4,
        description="steps from one edited view to the next",
    )
    diffusion_steps: int = parameter(
        20, ge=1, le=1000, source="official code", description="DDIM steps of an edit of a view"
    )
    t_min: float = parameter(
        0.02,
        gt=0,
        le=1,
        source="official code",
        description="least noise of a view, as a share of the schedule",
    )
    t_max: float = parameter(0.98, gt=0, le=1, source="official code", description="most noise of a view")
    guidance_scale: float = parameter(
        7.5, ge=0, le=1000, source="official code", description="s_T, towards the instruction"
    )
    image_guidance_scale: float = parameter(
        1.5, ge=0, le=1000, source="official code", description="s_I, towards the view of the source"
    )
    lpips_weight: float = parameter(
        1,
        ge=0,
        le=1000,
        source="official code",
        embedded=0,
        description="weight of LPIPS (AlexNet) beside L1; the embedded profile has no such network",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.t_min > self.t_max:
            raise ValueError(f"t_min ({self.t_min}) is above t_max ({self.t_max})")
        return self


class FittedFieldParams(FieldEditParams):
    """How a field follows edited views: they keep the place they were edited in, so it cannot be a random colour."""

    background: Literal["scene"] = parameter(
        "scene", source="official code", description="what views stand before: the scene's own place"
    )


class InstructNerf2Nerf(EditMethod):
    """Every few steps one view's render is noised to a random level, sampled down by InstructPix2Pix under the
    instruction and the source's view, and put in the place of what the field is fitted to there.

    The field is fitted to a few whole views a step by L1 + LPIPS, summed over a view's values so that the field's
    regularisers weigh as they do under a rule. Official: rays of all views, and the capture's own pictures where this
    takes views of the fitted source.
    """

    card = MethodCard(
        name="instruct_nerf2nerf",
        title="Instruct-NeRF2NeRF",
        paper="2303.12789",
        summary="Edits a field's views in turn with InstructPix2Pix while the field is fitted to them.",
        kind="sampling",
        supervised=True,
        strength=Strength(parameter="guidance_scale", values=(2.5, 5, 7.5, 10, 12.5)),
        models=(INSTRUCTIONS,),
        idea_code_license="MIT (ayaanzhaque/instruct-nerf2nerf)",
    )
    Params = InstructNerf2NerfParams
    params: InstructNerf2NerfParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"scenes": FittedFieldParams}

    @property
    def steps(self) -> int:
        """See ``EditMethod.steps``."""
        return self.params.steps

    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """Refuses pictures.

        Raises:
            UserError: always.
        """
        raise UserError("instruct_nerf2nerf edits 3D scenes: for pictures take instruct_pix2pix.")

    def edit_scenes(
        self, batch: Sequence[SceneTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[SceneOutcome]:
        """See ``EditMethod.edit_scenes``; a scene whose instruction is of no use fails by itself."""
        faults = [fault(task.instruction, denoiser) for task in batch]
        told = [task for task, wrong in zip(batch, faults, strict=True) if wrong is None]
        made = iter(self._edit(told, denoiser, seed, on_step))
        return [
            next(made) if wrong is None else SceneOutcome(task.sample_id, reason=wrong)
            for task, wrong in zip(batch, faults, strict=True)
        ]

    def _edit(
        self, batch: Sequence[SceneTask], denoiser: Denoiser, seed: int, on_step: OnStep | None
    ) -> list[SceneOutcome]:
        import torch

        from piva_bench.distillation.field_edit import FieldEdit
        from piva_bench.session.predictor import Predictor

        if not batch:
            return []
        if len({task.params for task in batch}) > 1 or len({task.size for task in batch}) > 1:
            raise UserError("A batch holds scenes of one size, edited alike: group them.")
        start = time.perf_counter()
        predictor, lpips = Predictor(denoiser), _lpips(self.params.lpips_weight, denoiser)
        with torch.inference_mode(False), torch.no_grad():
            scenes = [_Scene(task, FieldEdit(task, denoiser.device, seed)) for task in batch]
            for index in range(self.params.steps):
                if index % self.params.edit_every == 0:
                    self._update(scenes, index, predictor, seed)
                loss = sum(self._fit(scene, index, seed, lpips) for scene in scenes) / len(scenes)
                if on_step is not None:
                    on_step(Progress(index, self.params.steps, {"loss": loss}))
            return _outcomes(scenes, predictor.evaluations, start)

    def _update(self, scenes: Sequence[_Scene], index: int, predictor: Predictor, seed: int) -> None:
        """Edits the next view of every scene, all in one batch."""
        import torch

        from piva_bench.session.rows import Observation, Rows, view_names
        from piva_bench.session.session import Session

        denoiser, number = predictor.denoiser, index // self.params.edit_every
        views = [number % scene.edit.count for scene in scenes]
        pairs = list(zip(scenes, views, strict=True))
        now, before = (
            denoiser.encode_images(torch.cat(pictures) * 2 - 1)
            for pictures in (
                [scene.edit.show([view], index).pictures for scene, view in pairs],
                [scene.edit.show_source(view, index, scene.task.sample_id).pictures for scene, view in pairs],
            )
        )
        prompts = [scene.edit.prompts(view) for scene, view in pairs]
        seen = Observation(
            now,
            before,
            tuple(name for scene, view in pairs for name in view_names(scene.task.sample_id, [view])),
            tuple(source for source, _ in prompts),
            tuple(target for _, target in prompts),
            instructions=tuple(scene.task.instruction for scene in scenes),
        )
        session = Session(Rows.of(seen, denoiser, seed), predictor)
        edited = (denoiser.decode_latents(self._edited(session, index)) + 1) / 2
        for (scene, view), picture in zip(pairs, edited, strict=True):
            scene.pictures[view] = picture

    def _edited(self, session: Session, index: int) -> Tensor:
        """Latents [R, C, h, w] of the views, edited: down from a noise level of each one's own."""
        p, schedule = self.params, session.schedule
        low, high = (int(share * len(schedule)) for share in (p.t_min, p.t_max))
        random = session.random(index)
        stride = (random.timesteps("t", range(low, high + 1)) // p.diffusion_steps).clamp_min(1)
        # As DDIM's scheduler lays a schedule of that length out: multiples of the stride, counted from 1.
        grid = [
            (number * stride + 1).clamp_max(len(schedule) - 1)
            for number in reversed(range(p.diffusion_steps))
        ]
        latents = session.noisy("edit", grid[0], random.noise("noise")).latents
        for place, t in enumerate(grid):
            to = grid[place + 1] if place + 1 < len(grid) else None
            noisy = session.at("edit", latents, t)
            scales = p.guidance_scale, p.image_guidance_scale
            eps = session.predict({"edit": Query(noisy, "instruction", scales, model=INSTRUCTIONS)})["edit"]
            latents = schedule.ddim(latents, eps, t, to)
        return latents

    def _fit(self, scene: _Scene, index: int, seed: int, lpips: nn.Module | None) -> float:
        """A step of the field towards the pictures of a few views; the loss a value."""
        import torch

        from piva_bench.distillation.scenes import choose_views

        edit, wanted = scene.edit, scene.task.params.views
        if wanted > edit.count:
            raise UserError(f"views={wanted}: {edit.sample_id} has {edit.count}; set views to at most that.")
        views = choose_views(seed, index, edit.count, wanted)
        target = torch.stack([scene.picture(view, index) for view in views])
        with torch.enable_grad():
            shown = edit.show(views, index).pictures
            loss = (shown - target).abs().mean()
            if lpips is not None:
                distance = lpips(shown * 2 - 1, target * 2 - 1).mean()
                loss = loss + self.params.lpips_weight * distance
            edit.optimizer.zero_grad()
            (loss * shown[0].numel() + edit.penalty()).backward()
        edit.optimizer.step()
        return float(loss)


class _Scene:
    """A scene on its way, and what its views shall look like by now."""

    def __init__(self, task: SceneTask, edit: FieldEdit) -> None:
        self.task, self.edit = task, edit
        self.pictures: dict[int, Tensor] = {}

    def picture(self, view: int, index: int) -> Tensor:
        """[3, H, W] in [0, 1]: the source's view until it has been edited."""
        if view not in self.pictures:
            self.pictures[view] = self.edit.show_source(view, index, self.task.sample_id).pictures[0]
        return self.pictures[view]


def _lpips(weight: float, denoiser: Denoiser) -> nn.Module | None:
    if not weight:
        return None
    from piva_bench.metrics.evaluators import locate
    from piva_bench.metrics.lpips_model import Lpips

    model = Lpips.load("alex", locate("lpips-alex")).model.to(denoiser.device)
    model.spatial = False
    return model


def _outcomes(scenes: Sequence[_Scene], evaluations: int, start: float) -> list[SceneOutcome]:
    fine = [bool(scene.edit.field.raw.isfinite().all()) for scene in scenes]
    shown = [
        scene.edit.field.render_views(scene.task.turntable) if good else None
        for scene, good in zip(scenes, fine, strict=True)
    ]
    seconds = (time.perf_counter() - start) / len(scenes)
    return [
        SceneOutcome(
            scene.task.sample_id,
            reason=None if good else "diverged: the field's values are not finite",
            unet_evaluations=evaluations,
            seconds=seconds,
            views=views,
            field=copy.deepcopy(scene.edit.field).cpu() if good else None,
        )
        for scene, good, views in zip(scenes, fine, shown, strict=True)
    ]
