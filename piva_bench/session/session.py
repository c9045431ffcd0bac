"""The session: a batch of edits of equal shape, and all that a method may do with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.schedule import Schedule
from piva_bench.diffusion.touch import Kind, Touch, touched_layers
from piva_bench.session.noise import BatchNoise
from piva_bench.session.noisy import Noisy, fresh_key
from piva_bench.session.predictor import Predictor
from piva_bench.session.query import Prompt, Query
from piva_bench.session.rows import Rows

T = TypeVar("T")
OnProgress = Callable[[int, int], None]
"""Told how many of how many passes are done."""


@dataclass(frozen=True)
class Random:
    """Random numbers as a function of (seed, row, index, purpose), drawn for all rows of a session.

    Args:
        draws: the law, bound to the rows.
        index: which step the numbers are for.
        shape: of a row's latents, (C, h, w).
    """

    draws: BatchNoise
    index: int
    shape: tuple[int, ...]

    def noise(self, purpose: str, shape: Sequence[int] | None = None) -> Tensor:
        """Standard normal [R, *shape], by default of the latents' shape."""
        return self.draws.noise(self.index, purpose, self.shape if shape is None else shape)

    def uniform(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """[R, *shape], uniform in [0, 1)."""
        return self.draws.uniform(self.index, purpose, shape)

    def timesteps(self, purpose: str, among: range) -> Tensor:
        """[R] integers drawn uniformly from a range, its step included."""
        return self.draws.timesteps(self.index, among, purpose)


class Session:
    """R rows of edits (a row is a sample, or a view of one); the first axis of every tensor here.

    What a method does to one row must not depend on the others: the house batches as it likes.

    Args:
        rows: latents, prompts, random numbers.
        predictor: of this batch.
        tell: told of the passes of ``track``.
    """

    def __init__(self, rows: Rows, predictor: Predictor, tell: OnProgress | None = None) -> None:
        self._rows, self._predictor, self._tell = rows, predictor, tell

    @property
    def latents(self) -> Tensor:
        """Z [R, C, h, w] of the edit as it is; where a sampler starts it is the source."""
        return self._rows.seen.latents

    @property
    def source_latents(self) -> Tensor:
        """z_src [R, C, h, w]."""
        return self._rows.seen.source_latents

    @property
    def schedule(self) -> Schedule:
        """Of the model: grids, DDIM's moves in both directions, posteriors, the flow view."""
        return self._rows.denoiser.schedule

    @property
    def names(self) -> tuple[str, ...]:
        """One a row; random numbers are drawn by it."""
        return self._rows.seen.names

    @property
    def source_prompts(self) -> tuple[str, ...]:
        """One a row."""
        return self._rows.seen.source_prompts

    @property
    def target_prompts(self) -> tuple[str, ...]:
        """One a row."""
        return self._rows.seen.target_prompts

    @property
    def instructions(self) -> tuple[str, ...]:
        """The edit as an order, one a row; "" where the dataset has none."""
        return self._rows.seen.instructions or ("",) * len(self.names)

    @property
    def blended_words(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """For each row pairs of a source's and a target prompt's word that the edit is about; may be empty."""
        return self._rows.seen.blended_words or ((),) * len(self.names)

    @property
    def edit_types(self) -> tuple[str, ...]:
        """The dataset's word for the kind of edit, one a row."""
        return self._rows.seen.edit_types or ("",) * len(self.names)

    @property
    def mask(self) -> Tensor | None:
        """[R, 1, h, w] share of each latent's pixels where the edit belongs; for methods that use it, else None."""
        mask = self._rows.seen.mask
        return None if mask is None else interpolate(mask.float(), self.latents.shape[-2:], mode="area")

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text as the model's text encoder counts them, start and end included.

        Raises:
            AttributeError: the model has several tokenizers (SD3, FLUX).
        """
        denoiser: Any = self._rows.denoiser
        ids: list[int] = denoiser.tokenizer(text, truncation=True).input_ids
        return ids

    def condition(self, prompt: Prompt) -> Condition:
        """What the network is told of a prompt, row by row: where a method learns a prompt of its own, it starts here.

        Raises:
            UnknownName: no prompt of that name.
        """
        return self._rows.condition(prompt)

    def layers(self, kind: Kind) -> tuple[str, ...]:
        """The network's layers of a kind that a ``Touch`` is called at, in the order they are computed in.

        Raises:
            ModelError: the network is no UNet of Stable Diffusion's kind.
        """
        return tuple(
            name for name, (found, _) in touched_layers(self._rows.denoiser).items() if found == kind
        )

    def random(self, index: int) -> Random:
        """The random numbers of a step."""
        return Random(self._rows.draws, index, tuple(self.latents.shape[1:]))

    def noisy(self, of: Literal["edit", "source"], t: Tensor | int, noise: Tensor) -> Noisy:
        """The edit or the source as it is, under this noise at these timesteps.

        Args:
            of: whose picture.
            t: [R], or one number for all rows.
            noise: [R, C, h, w].

        Raises:
            ValueError: a timestep beyond the schedule, or noise of another shape.
        """
        return self.mixed(of, self._rows.data[of], t, noise)

    def mixed(self, of: Literal["edit", "source"], picture: Tensor, t: Tensor | int, noise: Tensor) -> Noisy:
        """Latents of one's own [R, C, h, w] under noise; see ``noisy``."""
        t = self._timesteps(t)
        if noise.shape != picture.shape:
            raise ValueError(f"noise of the shape {tuple(noise.shape)} for latents of {tuple(picture.shape)}")
        alpha, sigma = self.schedule.alpha_sigma(t)
        return Noisy(of, alpha * picture + sigma * noise, picture, noise, t, alpha, sigma, fresh_key())

    def at(self, of: Literal["edit", "source"], latents: Tensor, t: Tensor | int) -> Noisy:
        """Latents [R, C, h, w] that are noisy already (on a sampler's way) as something to ask about.

        Their picture and noise are unknown: ``picture`` is the noisy latents themselves, ``noise`` zero.
        """
        t = self._timesteps(t)
        alpha, sigma = self.schedule.alpha_sigma(t)
        return Noisy(of, latents, latents, torch.zeros_like(latents), t, alpha, sigma, fresh_key())

    def predict(self, queries: Mapping[str, Query], touch: Touch | None = None) -> dict[str, Tensor]:
        """Noise predictions [R, C, h, w] by name, all in one call of the network; as often as a method likes.

        Args:
            queries: what to predict. Those on a ``leaf()`` are computed with a graph, in a call after the others'.
            touch: reads and writes the features of the queries on the way; see ``Touch``.

        Raises:
            UnknownName: a prompt, adapter or model that there is not.
        """
        return self._predictor(queries, self._rows, touch)

    def track(self, passes: Collection[T]) -> Iterator[T]:
        """The same items, telling the run's display how far the sampler is."""
        for done, item in enumerate(passes, start=1):
            yield item
            if self._tell is not None:
                self._tell(done, len(passes))

    def _timesteps(self, t: Tensor | int) -> Tensor:
        """[R] timesteps that are on the schedule."""
        count, last = len(self.latents), len(self.schedule) - 1
        t = torch.as_tensor(t, device=self.latents.device)
        t = t.expand(count) if t.ndim == 0 else t
        if t.shape != (count,) or t.is_floating_point():
            raise ValueError(
                f"timesteps are one integer or one a row, not {t.dtype} of the shape {tuple(t.shape)}"
            )
        low, high = int(t.min()), int(t.max())
        if low < 0 or high > last:
            raise ValueError(f"timesteps {low} to {high} on a schedule of 0 to {last}")
        return t
