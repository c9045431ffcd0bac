"""A ball in closed form and a tiny nerfacto that has seen it. Whoever imports this is skipped without the extra."""

# ruff: noqa: E402 nothing of nerfstudio may be imported before it is known to be there

from copy import deepcopy
from pathlib import Path

import pytest
import torch

pytest.importorskip("nerfstudio", reason="the extra is not installed: pip install 'piva-bench[nerfstudio]'")

from piva_bench.nerfstudio.__main__ import without_missing_lpips

without_missing_lpips()

import nerfstudio.configs.method_configs as registered
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers
from nerfstudio.scripts.train import main as train

from methods._nerfstudio import specification
from piva_bench.diffusion.load import load_denoiser
from piva_bench.distillation.scenes import SceneViews
from piva_bench.nerfstudio.edit import SceneEdit, squares
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.field import camera_rays
from piva_bench.scene.transforms import write_nerf_synthetic
from piva_bench.scene.views import PosedViews

SIDE = 16
"""Pixels of the scene's pictures."""


def ball(cameras: Cameras, radius: float = 1.0) -> PosedViews:
    """A red ball about the origin, in closed form."""
    rays = camera_rays(cameras)
    directions = (rays.directions / rays.directions.norm(dim=1, keepdim=True)).double()
    along = (rays.origins.double() * directions).sum(dim=1)
    inside = along**2 - (rays.origins.double() ** 2).sum(dim=1) + radius**2
    hit = inside > 0
    distance = torch.where(hit, -along - inside.clamp(min=0).sqrt(), 0)
    depth = distance / rays.directions.double().norm(dim=1)
    pixels = torch.zeros(len(hit), 4, dtype=torch.uint8)
    pixels[hit] = torch.tensor([200, 30, 30, 255], dtype=torch.uint8)
    shape = (len(cameras), cameras.height, cameras.width)
    return PosedViews(pixels.view(*shape, 4).numpy(), cameras, depth.view(shape).float().numpy())


def write_ball(folder: Path) -> None:
    """The ball's pictures as a NeRF-synthetic folder."""
    for split, cameras in {
        "train": RIG.sphere(12, SIDE),
        "val": RIG.turntable(2, SIDE),
        "test": RIG.turntable(2, SIDE),
    }.items():
        write_nerf_synthetic(ball(cameras).without_depth(), folder, split)


def train_nerfacto(data: Path, outputs: Path) -> Path:
    config = deepcopy(registered.all_methods["nerfacto"])
    quietly(config, outputs)
    config.max_num_iterations = 120
    config.pipeline.datamanager = VanillaDataManagerConfig(
        dataparser=BlenderDataParserConfig(data=data),
        train_num_rays_per_batch=256,
        eval_num_rays_per_batch=64,
    )
    model = config.pipeline.model
    model.implementation, model.background_color = "torch", "white"
    model.log2_hashmap_size, model.num_levels, model.max_res = 11, 4, 32
    model.hidden_dim = model.hidden_dim_color = 16
    model.num_proposal_iterations, model.num_proposal_samples_per_ray = 1, (24,)
    model.proposal_net_args_list = [
        {"hidden_dim": 8, "log2_hashmap_size": 10, "num_levels": 3, "max_res": 24, "use_linear": False}
    ]
    model.num_nerf_samples_per_ray, model.near_plane, model.far_plane = 16, 2.0, 6.0
    model.disable_scene_contraction, model.use_appearance_embedding = True, False
    model.camera_optimizer.mode = "off"
    train(config)
    return config.get_base_dir() / "config.yml"


def quietly(config, outputs: Path) -> None:
    """No device, viewer, evaluation or log that the tests do not need."""
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.output_dir, config.timestamp = outputs, "now"
    config.logging.local_writer.enable = False
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 0


def edit_config(trained: Path, model: Path, outputs: Path, **options):
    """Of a few steps; options are the pipeline's, or else the trainer's."""
    config = deepcopy(specification.config)
    quietly(config, outputs)
    config.max_num_iterations = 3
    options = {
        "scene": trained, "source_prompt": "a red ball", "target_prompt": "a blue ball", "method": "dds",
        "diffusion_model": str(model), "size": 16,
    } | options  # fmt: skip
    for name, value in options.items():
        setattr(config.pipeline if hasattr(config.pipeline, name) else config, name, value)
    return config


def begin(scene, model, target: str, cameras: slice = slice(None)):
    """An edit of a copy of the scene: what the engine moves, the copy and the model."""
    fresh = scene.copy()
    groups = {"fields": list(fresh.model.field.parameters())}
    optimizers = Optimizers(
        {"fields": {"optimizer": AdamOptimizerConfig(lr=2e-3), "scheduler": None}}, groups
    )
    denoiser = load_denoiser(model)
    edit = SceneEdit(fresh, squares(fresh.cameras[cameras], 16), ("a red ball", target), optimizers)
    return SceneViews([edit], denoiser, 1, 0), fresh, denoiser
