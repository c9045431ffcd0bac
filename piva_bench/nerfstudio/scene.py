"""A trained nerfstudio scene as something to render: from a picture's gradient to the model's parameters.

Any ray-based method of nerfstudio will do; what is used of its model is the forward pass. Pictures are rendered in
evaluation mode, where nothing is random: the same parameters make the same picture.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import Model
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from piva_bench.errors import DataError
from piva_bench.nerfstudio.untrusted import load_checkpoint, load_configuration
from piva_bench.scene.cameras import Cameras
from piva_bench.scene.views import PosedViews


class Shown(NamedTuple):
    """Pictures of a scene, each with the background its method gives it."""

    rgb: Tensor
    """[V, 3, H, W] in [0, 1]."""
    alpha: Tensor
    """[V, 1, H, W] opacity along the ray."""
    depth: Tensor
    """[V, 1, H, W] distance along the optical axis, in the scene's units."""


class NerfstudioScene:
    """A scene of nerfstudio, and the cameras it was trained on.

    Args:
        model: a trained, ray-based model.
        cameras: of its training pictures, as nerfstudio holds them. They are taken as pinholes: an edit looks at
            undistorted views.

    Raises:
        DataError: the model renders no rays (Gaussian splats); pictures of several sizes.
    """

    def __init__(self, model: Model, cameras: NerfstudioCameras) -> None:
        if not hasattr(model, "field") and not hasattr(model, "field_fine"):
            raise DataError(
                f"{type(model).__name__} renders no rays: train the scene with a method of radiance fields, "
                "for example nerfacto"
            )
        self.model, self.cameras = model, pinholes(cameras)

    @classmethod
    def load(cls, config: Path) -> NerfstudioScene:
        """The scene behind a ``config.yml`` that ns-train wrote, with its latest checkpoint.

        Like nerfstudio itself this runs what the file asks for: open scenes you trust.

        Raises:
            DataError: file, checkpoint or dataset are missing or damaged; in one line.
        """
        settings = read_config(config)
        state = read_checkpoint(checkpoint_dir(config, settings))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            pipeline = settings.pipeline.setup(device=device, test_mode="inference")
            pipeline.load_pipeline(state["pipeline"], state["step"])
        except (OSError, AssertionError, RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"cannot open the scene {config}: {one_line(error)}") from error
        return cls(pipeline.model.eval(), pipeline.datamanager.train_dataset.cameras)

    def copy(self) -> NerfstudioScene:
        """The scene as it is now; what changes it later does not change the copy."""
        for module in self.model.modules():
            for name, value in vars(module).items():
                # What the last picture left behind (nerfacto's densities) hangs on its graph and cannot be copied.
                if isinstance(value, Tensor) and not value.is_leaf:
                    vars(module)[name] = value.detach()
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        return other

    def render(self, cameras: Cameras) -> Shown:
        """Pictures from all the cameras, differentiable with respect to the model's parameters.

        As many rays are rendered at once as the model's ``eval_num_rays_per_chunk`` says; with more of them,
        gradients cost a second forward pass instead of memory.
        """
        training = self.model.training
        self.model.eval()
        try:
            shots = [self._shot(cameras, index) for index in range(len(cameras))]
        finally:
            self.model.train(training)
        return Shown(*(torch.stack(parts) for parts in zip(*shots, strict=True)))

    def rays(self, cameras: Cameras, index: int) -> RayBundle:
        """The rays [H, W] of one of the cameras, under its number."""
        everywhere = to_nerfstudio(cameras).to(self.model.device)
        return everywhere.generate_rays(camera_indices=index, keep_shape=True)

    def _shot(self, cameras: Cameras, index: int) -> tuple[Tensor, ...]:
        """Picture [3, H, W], alpha and depth [1, H, W] of one camera."""
        rays = self.rays(cameras, index)
        chunk, total = self.model.config.eval_num_rays_per_chunk, len(rays)
        parts = [rays.get_row_major_sliced_ray_bundle(i, i + chunk) for i in range(0, total, chunk)]
        if len(parts) > 1 and torch.is_grad_enabled():
            done = [checkpoint(self._trace, part, use_reentrant=False) for part in parts]
        else:
            done = [self._trace(part) for part in parts]
        rgb, alpha, depth = (torch.cat(values) for values in zip(*done, strict=True))
        # nerfstudio measures depth along the ray.
        depth = depth / rays.metadata["directions_norm"].view(-1, 1)
        shape = (cameras.height, cameras.width, -1)
        return tuple(values.view(shape).permute(2, 0, 1) for values in (rgb, alpha, depth))

    def _trace(self, rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
        outputs = self.model(rays)
        picture = picture_name(outputs)
        suffix = picture.removeprefix("rgb")
        return outputs[picture], outputs[f"accumulation{suffix}"], outputs[f"depth{suffix}"]

    @torch.no_grad()
    def render_views(self, cameras: Cameras) -> PosedViews:
        """Pictures as posed views: opaque, for a scene has its surroundings; depth where alpha is at least a half."""
        shots = [self.render(cameras[i : i + 1]) for i in range(len(cameras))]
        rgb, alpha, depth = (torch.cat(parts).cpu() for parts in zip(*shots, strict=True))
        opaque = torch.cat([rgb.clamp(0, 1), torch.ones_like(alpha)], dim=1)
        images = (opaque * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return PosedViews(images, cameras, torch.where(alpha >= 0.5, depth, 0)[:, 0].numpy())


def picture_name(outputs: Mapping[str, object]) -> str:
    """What a model calls its final picture; the suffix is that of its opacity and depth.

    Raises:
        DataError: none of the names that nerfstudio's own methods use.
    """
    for name in ("rgb", "rgb_fine"):
        if name in outputs:
            return name
    raise DataError("the scene's method renders no picture called rgb or rgb_fine: train it with nerfacto")


def pinholes(cameras: NerfstudioCameras) -> Cameras:
    """Nerfstudio's cameras as ours; what their lenses distort is left out.

    Raises:
        DataError: pictures of several sizes.
    """
    sizes = {(int(w), int(h)) for w, h in zip(cameras.width.flatten(), cameras.height.flatten(), strict=True)}
    if len(sizes) > 1:
        listed = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
        raise DataError(f"the scene's pictures have several sizes ({listed}); bring them to one")
    ((width, height),) = sizes
    poses = np.tile(np.eye(4), (len(cameras), 1, 1))
    poses[:, :3] = cameras.camera_to_worlds.cpu().double().numpy()
    lens = torch.cat([cameras.fx, cameras.fy, cameras.cx, cameras.cy], dim=-1).cpu().double().numpy()
    return Cameras(poses, lens, width, height)


def to_nerfstudio(cameras: Cameras) -> NerfstudioCameras:
    """Our cameras as nerfstudio's; poses and axes are the same."""
    fx, fy, cx, cy = (torch.tensor(values, dtype=torch.float32) for values in cameras.intrinsics.T)
    poses = torch.tensor(cameras.camera_to_world[:, :3], dtype=torch.float32)
    return NerfstudioCameras(poses, fx, fy, cx, cy, cameras.width, cameras.height)


def read_config(path: Path) -> TrainerConfig:
    """What ns-train wrote about a scene.

    Raises:
        DataError: the file is missing or no such configuration; in one line.
    """
    try:
        settings = load_configuration(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ImportError, AttributeError, ValueError) as error:
        raise DataError(f"cannot read {path}: {one_line(error)}; give a scene's config.yml") from error
    if not isinstance(settings, TrainerConfig):
        raise DataError(f"{path} is no configuration written by ns-train; give a scene's config.yml")
    return settings


def checkpoint_dir(path: Path, settings: TrainerConfig) -> Path:
    """Where a scene's checkpoints lie: beside its configuration, even if that has been moved."""
    return path.parent / settings.relative_model_dir


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """A scene's latest checkpoint: ``step`` and the ``pipeline``'s state.

    Raises:
        DataError: there is none, or it is torn; in one line.
    """
    found = max(folder.glob("step-*.ckpt"), default=None)
    if found is None:
        raise DataError(f"no checkpoint step-*.ckpt in {folder}: train the scene with ns-train first")
    try:
        return load_checkpoint(found)
    except Exception as error:  # unpickling raises whatever it meets
        raise DataError(f"cannot read the checkpoint {found}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
