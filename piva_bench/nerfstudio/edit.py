"""A nerfstudio scene as something a gradient on its pictures can move; see ``distillation.scenes.EditableScene``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.optimizers import Optimizers
from torch import Tensor

from piva_bench.diffusion.kept import digest
from piva_bench.distillation.scenes import View
from piva_bench.nerfstudio.scene import NerfstudioScene, Shown, picture_name
from piva_bench.scene.cameras import Cameras

RAYS = 1024
"""Rays a step on which samplers are taught."""

SAMPLER_LOSSES = ("interlevel_loss", "rgb_loss_coarse")
"""Teach nerfacto's proposal networks and vanilla-nerf's coarse field; neither reaches the field that is shown."""


class SceneEdit:
    """The edit of a scene.

    Args:
        scene: where the edit starts. Its model is moved; what it was is kept as a copy.
        cameras: the views that may be looked at.
        prompts: what the scene shows, and what it shall show.
        optimizers: nerfstudio's, of the model's parameters.

    Attributes:
        sample_id: noise is drawn by it; the same for all scenes, so that a moved folder makes no other edit.
        optimizer: all of nerfstudio's as one.
    """

    sample_id = "scene"
    still = True
    """A capture has its own surroundings."""

    def __init__(
        self, scene: NerfstudioScene, cameras: Cameras, prompts: tuple[str, str], optimizers: Optimizers
    ) -> None:
        self.scene, self.source, self.cameras = scene, scene.copy(), cameras
        self.optimizer: Any = _Together(optimizers)
        self._prompts = prompts
        self._looks, self._views = 0, tuple[int, ...]()

    @property
    def count(self) -> int:
        """How many views may be looked at."""
        return len(self.cameras)

    def prompts(self, view: int) -> tuple[str, str]:
        """Source and target prompt, the same for every view: which side of a capture is its front, nobody knows."""
        return self._prompts

    def show(self, views: Sequence[int], step: int) -> View:
        """The edit as it is, with gradients."""
        self._looks, self._views = self._looks + 1, tuple(views)
        return _view(self.scene.render(self.cameras[self._views]))

    def source_digest(self) -> bytes:
        """See ``EditableScene.source_digest``."""
        cameras, weights = self.cameras, self.source.model.state_dict()
        words = [(cameras.width, cameras.height), self._prompts[0], sorted(weights)]
        arrays = torch.from_numpy(
            np.concatenate([cameras.camera_to_world.ravel(), cameras.intrinsics.ravel()])
        )
        return digest(repr(words).encode(), arrays, *(weights[name] for name in sorted(weights)))

    @torch.no_grad()
    def show_source(self, view: int, step: int, name: str) -> View:
        """The scene as it was."""
        return _view(self.source.render(self.cameras[[view]]))

    def penalty(self) -> Tensor:
        """What keeps the networks that choose samples in step with the edit, on some rays of the views last shown.

        It is the part of the method's training loss that teaches them, with the scene's own picture in the place
        of the photograph. The rest would move the field whether the edit asks for it or not.
        """
        model, draw = self.scene.model, np.random.default_rng([self._looks, len(self.cameras)])
        total = torch.zeros((), device=model.device)
        model.train()
        for view in self._views:
            rays = self.scene.rays(self.cameras, view).flatten()
            chosen = draw.integers(len(rays), size=RAYS // len(self._views))
            outputs = model(rays[torch.from_numpy(chosen).to(model.device)])
            batch = {"image": model.get_rgba_image(outputs, picture_name(outputs)).detach()}
            losses = model.get_loss_dict(outputs, batch, model.get_metrics_dict(outputs, batch))
            total = total + sum(losses[name] for name in SAMPLER_LOSSES if name in losses)
        return total


class _Together:
    """nerfstudio's optimisers as one of torch's."""

    def __init__(self, optimizers: Optimizers) -> None:
        self.zero_grad, self.step = optimizers.zero_grad_all, optimizers.optimizer_step_all


def _view(shown: Shown) -> View:
    return View(shown.rgb, torch.where(shown.alpha >= 0.5, shown.depth, 0).detach())


def squares(cameras: Cameras, side: int) -> Cameras:
    """The cameras with the middle square of their pictures, ``side`` pixels wide."""
    scale = side / min(cameras.width, cameras.height)
    lens = cameras.intrinsics * scale
    lens[:, 2:] += (side - scale * np.array([cameras.width, cameras.height])) / 2
    return Cameras(cameras.camera_to_world, lens, side, side)
