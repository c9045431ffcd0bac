"""The pipeline of an edit: that of the scene it edits, with what the edit was told beside it.

An edited scene is a scene of its source's method. Its configuration holds the source's data manager and model, so
ns-render, ns-viewer, ns-eval and ns-export read it as they read any other, and it can be edited again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from nerfstudio.data.datamanagers.base_datamanager import DataManagerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch.nn import Parameter

from piva_bench.profiles import EMBEDDED_MODEL
from piva_bench.runs.request import Dtype


@dataclass
class EditPipelineConfig(VanillaPipelineConfig):
    """What an edit is told; the strings below the fields are the command line's help."""

    _target: type = field(default_factory=lambda: EditPipeline)
    """Target class to instantiate."""
    datamanager: tyro.conf.Suppress[DataManagerConfig] = field(default_factory=DataManagerConfig)
    """The scene's."""
    model: tyro.conf.Suppress[ModelConfig] = field(default_factory=ModelConfig)
    """The scene's."""
    scene_method: tyro.conf.Suppress[str] = ""
    """nerfstudio's method that made the scene."""
    scene: Path | None = None
    """config.yml of the trained scene that is edited; the scene itself stays as it is."""
    source_prompt: str = ""
    """What the scene shows."""
    target_prompt: str = ""
    """What it shall show: the same sentence with only the wanted change made."""
    method: str = ""
    """Editing method: a name that `piva-bench list` shows, or file.py:Class."""
    params: dict[str, str] = field(default_factory=dict)
    """Parameters of the method as NAME VALUE pairs (`piva-bench describe method NAME` lists them)."""
    diffusion_model: str = EMBEDDED_MODEL
    """Alias (sd-1.5 ...), diffusers folder or .safetensors file. The embedded model knows toy-like product
    photographs and nothing else."""
    dtype: Dtype = "float32"
    """Precision of the diffusion model's networks; the scene's own is untouched."""
    size: int | None = None
    """Side of the rendered squares in pixels; by default what the diffusion model was trained on."""
    views: int = 1
    """Training views looked at in a step."""
    rate: float = 0.1
    """Factor on the learning rates that the training of the scene began with."""

    def take_over(self, settings: TrainerConfig) -> None:
        """Makes this the pipeline of the edit of a scene with these settings."""
        data, scene = self.datamanager.data, copy.deepcopy(settings.pipeline)
        self.datamanager, self.model = scene.datamanager, scene.model
        self.scene_method = getattr(scene, "scene_method", None) or settings.method_name
        if data is not None:
            self.datamanager.data = data


class EditPipeline(VanillaPipeline):
    """The scene's pipeline; its camera poses are not for the edit to move."""

    config: EditPipelineConfig

    def __init__(self, config: EditPipelineConfig, *args: Any, **kwargs: Any) -> None:
        from nerfstudio.configs.method_configs import all_methods

        # Whoever reads an edit's configuration has put in the data manager that `ns-train piva` has by default.
        config.datamanager._target = all_methods[config.scene_method].pipeline.datamanager._target
        super().__init__(config, *args, **kwargs)

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """None: they run the schedules of a training that is over, and would show the edit unlike its source."""
        return []

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The scene's groups but for its cameras'."""
        groups = super().get_param_groups()
        return {name: params for name, params in groups.items() if name != "camera_opt"}
