"""Scenes as a parameterization: at every step a few views of each scene stand where pictures' latents stood.

The latents are renders through the autoencoder's encoder; the gradient on them flows back through both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.distillation.parameterization import source_name
from piva_bench.errors import UserError
from piva_bench.session.rows import Observation, view_names


@dataclass(frozen=True)
class View:
    """Views of a scene.

    Attributes:
        pictures: [V, 3, H, W] in [0, 1], on their background.
        depth: [V, 1, H, W] distance along the optical axis, detached, 0 where there is nothing.
    """

    pictures: Tensor
    depth: Tensor


class EditableScene(Protocol):
    """One scene that can be moved by a gradient on its pictures."""

    @property
    def sample_id(self) -> str:
        """Of the sample."""

    @property
    def count(self) -> int:
        """How many views may be looked at."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Of all that is moved."""

    def prompts(self, view: int) -> tuple[str, str]:
        """Source and target prompt as they describe a view."""

    @property
    def still(self) -> bool:
        """Whether a view of the source looks the same at every step."""

    def show(self, views: Sequence[int], step: int) -> View:
        """The edit as it is, as a step sees it, with gradients."""

    def show_source(self, view: int, step: int, name: str) -> View:
        """The source as a step sees it, V = 1; random numbers are drawn by a name."""

    def source_digest(self) -> bytes:
        """Of all that decides what views of the source show, prompts included."""

    def penalty(self) -> Tensor:
        """What the edit pays beside the rule's gradient; a scalar."""


def choose_views(seed: int, step: int, count: int, wanted: int) -> tuple[int, ...]:
    """The views of a step: different ones, drawn without repetition within a round through all of them.

    Args:
        seed: of the edit.
        step: of the edit.
        count: how many there are.
        wanted: how many a step looks at; at most ``count``.
    """
    steps_a_round = count // wanted
    order = np.random.default_rng([seed, step // steps_a_round]).permutation(count)
    first = step % steps_a_round * wanted
    return tuple(int(view) for view in order[first : first + wanted])


class SceneViews:
    """Views of a batch of scenes; see ``Parameterization``.

    A view of a source that is still is encoded once. Adapters trained after the edit has moved learn the views it was
    moved by, as in the official code of VSD.

    Args:
        scenes: to be edited.
        denoiser: the model.
        views: of each scene in every step.
        seed: of the choice of views.

    Raises:
        UserError: more views than a scene has.
    """

    still = False

    def __init__(self, scenes: Sequence[EditableScene], denoiser: Denoiser, views: int, seed: int) -> None:
        for scene in scenes:
            if views > scene.count:
                raise UserError(
                    f"views={views}: {scene.sample_id} has {scene.count}; set views to at most that."
                )
        self.scenes, self.denoiser, self.views, self.seed = scenes, denoiser, views, seed
        self.sample_ids = tuple(scene.sample_id for scene in scenes)
        self._sources: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in scenes]
        self._seen: tuple[Tensor, Tensor] | None = None

    def observe(self, index: int) -> Observation:
        """The views of a step; the graph back to the scenes is kept until ``step`` is called."""
        chosen = [choose_views(self.seed, index, scene.count, self.views) for scene in self.scenes]
        pairs = list(zip(self.scenes, chosen, strict=True))
        with torch.inference_mode(False), torch.enable_grad():
            with self.denoiser.section("render"):
                shown = [scene.show(views, index) for scene, views in pairs]
                pictures = torch.cat([one.pictures for one in shown])
            with self.denoiser.section("encoder"):
                latents = self.denoiser.encode(pictures * 2 - 1)
            self._seen = pictures, latents
        known = [
            self._source(number, view, index, self.sample_ids[number])
            for number, views in enumerate(chosen)
            for view in views
        ]
        prompts = [scene.prompts(view) for scene, views in pairs for view in views]
        return Observation(
            latents.detach(),
            torch.cat([latents for latents, _ in known]),
            tuple(name for scene, views in pairs for name in view_names(scene.sample_id, views)),
            tuple(source for source, _ in prompts),
            tuple(target for _, target in prompts),
            torch.cat([one.depth for one in shown]),
            torch.cat([depth for _, depth in known]),
        )

    @cached_property
    def source_names(self) -> tuple[str, ...]:
        """See ``Parameterization``."""
        return tuple(source_name(scene.source_digest()) for scene in self.scenes)

    def observe_sources(self, index: int, samples: Sequence[int]) -> Observation:
        """The views that step ``index`` looks at, of the sources; see ``Parameterization``."""
        views = {n: choose_views(self.seed, index, self.scenes[n].count, self.views) for n in samples}
        known = [self._source(n, view, index, self.source_names[n]) for n in samples for view in views[n]]
        texts = tuple(self.scenes[n].prompts(view)[0] for n in samples for view in views[n])
        names = tuple(name for n in samples for name in view_names(self.source_names[n], views[n]))
        latents, depth = (torch.cat(parts) for parts in zip(*known, strict=True))
        return Observation(latents, latents, names, texts, texts, depth, depth)

    def _source(self, number: int, view: int, step: int, name: str) -> tuple[Tensor, Tensor]:
        """Latents and depth of a source's view."""
        kept, scene = self._sources[number], self.scenes[number]
        if view in kept:
            return kept[view]
        with self.denoiser.section("render"):
            shown = scene.show_source(view, step, name)
        with self.denoiser.section("encoder"):
            seen = self.denoiser.encode_images(shown.pictures * 2 - 1), shown.depth
        if scene.still:
            kept[view] = seen
        return seen

    def step(self, gradient: Tensor) -> None:
        """Moves the scenes along a gradient [R, C, h, w]; of a scene's views the mean."""
        if self._seen is None:
            raise RuntimeError("observe() comes before step()")
        (pictures, latents), self._seen = self._seen, None
        with torch.inference_mode(False), torch.enable_grad():
            for scene in self.scenes:
                scene.optimizer.zero_grad()
            # The gradient may have been made in inference mode, where autograd cannot use it; a copy it can.
            loss = (latents * gradient.clone()).sum() / self.views
            # In two: the encoder's graph is gone before rays are rendered again.
            section = self.denoiser.section
            with section("encoder"), section("backward"):
                (on_pictures,) = torch.autograd.grad(loss, pictures)
            with section("render"), section("backward"):
                penalties = [each for scene in self.scenes if (each := scene.penalty()).requires_grad]
                ones = [torch.ones_like(each) for each in penalties]
                torch.autograd.backward([pictures, *penalties], [on_pictures, *ones])
                for scene in self.scenes:
                    scene.optimizer.step()
