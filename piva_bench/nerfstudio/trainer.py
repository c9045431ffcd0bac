"""``ns-train`` for edits: nerfstudio's loop, viewer, logs and checkpoints; the step is the distillation engine's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import yaml
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from piva_bench.diffusion.load import load_denoiser
from piva_bench.distillation.engine import Distillation
from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.scenes import SceneViews
from piva_bench.errors import DataError, ModelError, UnknownName, UserError
from piva_bench.nerfstudio.edit import SceneEdit, squares
from piva_bench.nerfstudio.pipeline import EditPipelineConfig
from piva_bench.nerfstudio.scene import (
    NerfstudioScene,
    checkpoint_dir,
    one_line,
    read_checkpoint,
    read_config,
)
from piva_bench.profiles import EMBEDDED_MODEL, get_profile, resolve_model
from piva_bench.registry import METHODS
from piva_bench.runs.single import variant_for
from piva_bench.runs.variants import Variant

SMALLEST_EPS = 1e-8
"""Of Adam in an edit. Scenes are trained with 1e-15, with which rounding errors move what has no gradient."""


@dataclass
class EditTrainerConfig(TrainerConfig):
    """An edit: ``max_num_iterations`` is its number of steps, ``machine.seed`` the seed of its noise."""

    _target: type = field(default_factory=lambda: EditTrainer)
    """Target class to instantiate."""
    pipeline: EditPipelineConfig = field(default_factory=EditPipelineConfig)
    """The edit."""
    optimizers: dict[str, Any] = field(default_factory=dict)
    """The scene's."""
    experiment_name: str | None = None
    """By default the scene's."""
    max_num_iterations: int = 200
    """Steps of the edit."""
    steps_per_save: int = 50
    """Steps between checkpoints; each of them is a scene that can be rendered."""

    def save_config(self) -> None:
        """See ``ExperimentConfig``; what is saved holds all that the scene's configuration says."""
        with one_line_errors():
            self.take_over()
        super().save_config()

    def take_over(self) -> None:
        """Completes the configuration from that of the scene.

        The scene's optimisers go on at the rates they began with, without their schedules.

        Raises:
            UserError: no scene, no prompt, or options that mean nothing here.
        """
        edit = self.pipeline
        if edit.scene is None:
            raise UserError("Which scene? Give its config.yml with --pipeline.scene.")
        if not edit.source_prompt or not edit.target_prompt:
            raise UserError(
                "Say what the scene shows with --pipeline.source-prompt, and --pipeline.target-prompt."
            )
        if self.load_dir or self.load_checkpoint:
            raise UserError("An edit starts from its scene: give --pipeline.scene, not --load-dir.")
        if self.machine.num_devices * self.machine.num_machines != 1:
            raise UserError("An edit runs on one device: leave --machine.num-devices at 1.")
        settings = read_config(edit.scene)
        edit.take_over(settings)
        self.experiment_name = self.experiment_name or settings.experiment_name
        self.optimizers = {
            name: {"optimizer": _for_edit(group["optimizer"], edit.rate), "scheduler": None}
            for name, group in settings.optimizers.items()
        }


def _for_edit(optimizer: Any, rate: float) -> Any:
    return replace(optimizer, lr=optimizer.lr * rate, eps=max(optimizer.eps, SMALLEST_EPS))


class EditTrainer(Trainer):
    """Runs an edit; the engine's step stands where nerfstudio's training iteration stood."""

    config: EditTrainerConfig

    def setup(self, test_mode: str = "val") -> None:
        """See ``Trainer.setup``; also loads the diffusion model and trains what is trained before the edit."""
        with one_line_errors(), torch.no_grad():
            variant = self._variant()
            self._open_scene()
            self.distillation = self._distillation(variant)
            self.distillation.warm_up()

    @torch.enable_grad()
    def _open_scene(self) -> None:
        try:
            # Of the dataset only the cameras are needed, not the photographs.
            super().setup("inference")
        except OSError as error:
            raise DataError(
                f"cannot open the scene: {one_line(error)}; has its dataset moved? Give --data."
            ) from error

    def _variant(self) -> Variant:
        """The rule with its parameters."""
        edit = self.config.pipeline
        cls = METHODS.load(edit.method)
        if not issubclass(cls, DistillationMethod):
            raise UserError(
                f"{edit.method} takes no steps that could move a scene: choose a distillation method."
            )
        given = {name.replace("-", "_"): _read(value) for name, value in edit.params.items()}
        for name in given:
            _check_parameter(edit.method, cls, name)
        if given.get("adapter") == "controlnet":
            raise UserError(
                "adapter=controlnet is not supported for nerfstudio's scenes: leave it out, or edit the capture with "
                "`piva-bench edit3d`."
            )
        given["steps"] = self.config.max_num_iterations
        return variant_for(edit.method, given, self._embedded)

    @property
    def _embedded(self) -> bool:
        return self.config.pipeline.diffusion_model == EMBEDDED_MODEL

    def _load_checkpoint(self) -> None:
        """Starts from the scene's latest checkpoint; the loop counts the edit's own steps, from 0."""
        scene = self.config.pipeline.scene
        assert scene is not None
        state = read_checkpoint(checkpoint_dir(scene, read_config(scene)))
        self.pipeline.load_pipeline(state["pipeline"], state["step"])
        self._scene_steps = state["step"] + 1

    def save_checkpoint(self, step: int) -> None:
        """See ``Trainer.save_checkpoint``; the number saved counts on from the scene's own steps.

        Whoever loads it tells the model so many steps: TensoRF's grid has the size of that step of its training.
        """
        super().save_checkpoint(self._scene_steps + step)

    def _distillation(self, variant: Variant) -> Distillation:
        options = self.config.pipeline
        try:
            path = resolve_model(options.diffusion_model)
        except ModelError as error:
            raise ModelError(str(error).replace("--model", "--pipeline.diffusion-model")) from error
        denoiser = load_denoiser(path, self.device, getattr(torch, options.dtype))
        variant.attach_models(denoiser, get_profile("embedded" if self._embedded else "paper"))
        scene = NerfstudioScene(self.pipeline.model, self.pipeline.datamanager.train_dataset.cameras)
        cameras = squares(scene.cameras, options.size or denoiser.resolution)
        # Asked for by the trainer; without photographs the data manager does not know.
        rays = options.views * cameras.width * cameras.height
        self.pipeline.datamanager.get_train_rays_per_batch = lambda: rays
        prompts = options.source_prompt, options.target_prompt
        edit = SceneEdit(scene, cameras, prompts, self.optimizers)
        seed = self.config.machine.seed
        rule = variant.method()
        assert isinstance(rule, DistillationMethod)
        return Distillation(rule, SceneViews([edit], denoiser, options.views, seed), denoiser, seed)

    def eval_iteration(self, step: int) -> None:
        """Nothing: the photographs an edit could be held against show the source."""

    def train_iteration(self, step: int) -> tuple[Tensor, dict[str, Tensor], dict[str, float]]:
        """A step of the edit; its loss, and its scalars for nerfstudio's logs."""
        with one_line_errors(), torch.no_grad():
            scalars = self.distillation.step(step)
            if reason := self.distillation.standing().reason(0):
                raise UserError(
                    f"The edit {reason}. Try a smaller --pipeline.rate, other parameters, another seed."
                )
        means = self.distillation.means(scalars)
        return scalars["loss"].mean(), {}, means


def _read(value: str) -> Any:
    """A parameter's value, read as the command line's are: as YAML, or else as it stands."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _check_parameter(method: str, cls: type[DistillationMethod], name: str) -> None:
    """Refuses what is not the rule's own.

    Raises:
        UserError: steps, or a parameter of how latents or our fields follow a gradient.
        UnknownName: no parameter of the method.
    """
    if name == "steps":
        raise UserError("steps: nerfstudio counts them; give --max-num-iterations.")
    if name in cls.Params.model_fields:
        return
    if any(name in follow.model_fields for follow in cls.kinds.values()):
        raise UserError(
            f"{name}: nerfstudio's own optimisers move the scene; see --pipeline.rate, --pipeline.views and "
            "--pipeline.size."
        )
    raise UnknownName(f"parameter of {method}", name, cls.Params.model_fields)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Lets what a user can mend end the program with its one line."""
    try:
        yield
    except UserError as error:
        CONSOLE.print(str(error), style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
