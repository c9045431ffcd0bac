"""Editing one picture that belongs to no dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from piva_bench.data.files import refuse_pipes
from piva_bench.data.pictures import Frame, fit, fit_mask
from piva_bench.errors import DataError, UserError
from piva_bench.method import EditMethod, EditOutcome, EditTask, MethodCard, OnStep, Progress
from piva_bench.picture_reader import decode
from piva_bench.profiles import Profile, get_profile
from piva_bench.runs.kinds.pictures import latent_params
from piva_bench.runs.pictures import to_pixels, to_tensor
from piva_bench.runs.variants import Variant, resolve_variants

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser

FRAMES = 24
"""Frames of an animation, the last one included."""

GAP = 4
"""Pixels between two pictures that stand side by side."""


@dataclass(frozen=True)
class SingleEdit:
    """What came of it.

    Attributes:
        source: the picture as it was edited, without padding.
        edited: the result, without padding.
        frames: the edit on its way, first to last; empty unless asked for.
        frame: how the picture was prepared.
        seconds: wall time.
        unet_evaluations: rows that the network computed.
        trace: scalars of every step, by name.
    """

    source: Image.Image
    edited: Image.Image
    frames: list[Image.Image] = field(default_factory=list)
    frame: Frame | None = None
    seconds: float = 0.0
    unet_evaluations: int = 0
    trace: dict[str, list[float]] = field(default_factory=dict)

    def side_by_side(self) -> Image.Image:
        """Source and edit in one picture."""
        return beside(self.source, self.edited)

    def animation(self) -> list[Image.Image]:
        """Frames for an animation, each beside the source; the result stands for a while."""
        return [beside(self.source, frame) for frame in [self.source, *self.frames, *[self.edited] * 8]]


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one size side by side on white."""
    canvas = Image.new("RGB", (2 * left.width + GAP, left.height), "white")
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + GAP, 0))
    return canvas


def open_picture(path: Path) -> Image.Image:
    """A picture file, loaded.

    Raises:
        DataError: it is missing or no picture.
    """
    refuse_pipes(path)
    try:
        return decode(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise DataError(f"There is no picture at {path}.") from error
    except OSError as error:
        raise DataError(f"{path} is no picture that can be read: {error.strerror or error}") from error


def check_edits(card: MethodCard) -> None:
    """Refuses what edits nothing.

    Raises:
        UserError: the card is a reference row's.
    """
    if card.kind == "reference":
        raise UserError(f"{card.name} is a reference row of tables, no editing method: choose another.")


def edit_failed(outcome: EditOutcome) -> UserError:
    """What to tell somebody whose edit failed."""
    return UserError(f"The edit failed: {outcome.reason}. Other parameters or another seed may help.")


def edit_one(
    picture: Image.Image,
    variant: Variant,
    denoiser: Denoiser,
    source_prompt: str,
    target_prompt: str,
    *,
    instruction: str = "",
    seed: int = 0,
    size: int | None = None,
    mask: Image.Image | None = None,
    keep_frames: bool = False,
    prepared: Callable[[Frame], None] = lambda frame: None,
    on_step: OnStep | None = None,
) -> SingleEdit:
    """Edits one picture of any size and kind.

    Args:
        picture: what to edit.
        variant: the method, with its parameters.
        denoiser: the model.
        source_prompt: what the picture shows.
        target_prompt: what it shall show.
        instruction: the edit as an order, for methods that read one.
        seed: of all noise.
        size: side of the square it is edited in; by default that the model was trained at.
        mask: bright where to edit; for methods that read one.
        keep_frames: whether to keep pictures of the way; only rules that take steps have any.
        prepared: told how the picture was fitted, before the edit begins.
        on_step: told of every step.

    Raises:
        UserError: method, picture and options do not fit together, or the edit failed.
    """
    method = variant.method()
    check_edits(method.card)
    if method.card.uses_mask and mask is None:
        raise UserError(f"{method.card.name} reads an edit mask: give one with --mask.")
    square, frame = fit(picture, size or denoiser.resolution)
    prepared(frame)
    region = None if mask is None else torch.from_numpy(fit_mask(mask, frame))
    task = EditTask(
        "picture",
        to_tensor(np.asarray(square)),
        source_prompt=source_prompt,
        target_prompt=target_prompt,
        instruction=instruction,
        mask=region if method.card.uses_mask else None,
        params=latent_params(variant),
    )
    film = Film(method) if keep_frames else None

    def watch(progress: Progress) -> None:
        if film is not None:
            film.see(progress)
        if on_step is not None:
            on_step(progress)

    (outcome,) = method.edit([task], denoiser, seed, on_step=watch)
    if outcome.image is None:
        raise edit_failed(outcome)
    frames = [
        frame.crop(_image(denoiser.decode_latents(latents)[0])) for latents in (film.latents if film else ())
    ]
    edited = frame.crop(_image(outcome.image))
    costs = outcome.seconds, outcome.unet_evaluations, outcome.trace
    return SingleEdit(frame.crop(square), edited, frames, frame, *costs)


class Film:
    """Latents of one edit on its way, a few dozen of them, evenly spread.

    Raises:
        UserError: the method does not say how many steps it takes.
    """

    def __init__(self, method: EditMethod) -> None:
        if method.steps is None:
            raise UserError(f"{method.card.name} has no optimisation to animate: leave --animation out.")
        self._every = max(method.steps // FRAMES, 1)
        self.latents: list[Tensor] = []

    def see(self, progress: Progress) -> None:
        """Keeps what a step leaves behind, except the last one's, which is the result."""
        done = progress.index + 1
        if progress.latents is not None and done % self._every == 0 and done != progress.steps:
            self.latents.append(progress.latents[:1].clone())


def _image(tensor: Tensor) -> Image.Image:
    return Image.fromarray(to_pixels(tensor))


def variant_for(method: str, given: Mapping[str, Any], embedded: bool) -> Variant:
    """A method by name with its parameters: those given, else the defaults that go with the model.

    Args:
        method: name or ``path/to/file.py:Class``.
        given: parameters by name.
        embedded: whether the model is the embedded one, which needs fewer steps.

    Raises:
        UserError: an unknown name, or a value out of bounds.
    """
    (variant,) = resolve_variants([method], given, profile_of(embedded))
    return variant


def profile_of(embedded: bool) -> Profile:
    """The profile that goes with a model: ``embedded`` with the embedded one."""
    return get_profile("embedded" if embedded else "paper")
