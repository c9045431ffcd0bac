"""The library in a notebook: one edit, and the results of a run as frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import piva_bench
from piva_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from piva_bench.diffusion.denoiser import Denoiser


@dataclass(frozen=True)
class Edited:
    """An edited picture and what it cost.

    Attributes:
        image: the edit, of the size the source was fitted to.
        source: the source as it was edited.
        seconds: wall time of the edit.
        unet_evaluations: rows that the network computed.
        trace: scalars of every step, by name.
    """

    image: Image
    source: Image
    seconds: float
    unet_evaluations: int
    trace: dict[str, list[float]]


@lru_cache(maxsize=1)
def _denoiser(model: str, device: str) -> Denoiser:
    from piva_bench.diffusion.load import load_denoiser
    from piva_bench.profiles import resolve_model
    from piva_bench.runs.request import resolve_device

    return load_denoiser(resolve_model(model), device=resolve_device(device))


def edit(
    image: Image | str | Path,
    source_prompt: str,
    target_prompt: str,
    method: str = "piva",
    *,
    instruction: str = "",
    model: str = "studio-sd",
    device: str = "auto",
    seed: int = 0,
    **params: Any,
) -> Edited:
    """Edits one picture.

    Args:
        image: a picture or its file; fitted to the square the model works at.
        source_prompt: what it shows.
        target_prompt: what it shall show.
        method: name, or ``path/to/file.py:Class``.
        instruction: the edit as an order, for methods that read one.
        model: alias, diffusers folder or .safetensors file; the embedded one by default. Kept for the next call.
        device: as ``--device``.
        seed: of all noise.
        **params: of the method.

    Raises:
        UserError: an unknown name, a value out of bounds, a missing model, or the edit failed.
    """
    piva_bench.prepare()
    from piva_bench.profiles import EMBEDDED_MODEL
    from piva_bench.runs import single

    picture = single.open_picture(Path(image)) if isinstance(image, (str, Path)) else image
    chosen = single.variant_for(method, params, model == EMBEDDED_MODEL)
    denoiser = _denoiser(model, device)
    chosen.attach_models(denoiser, single.profile_of(model == EMBEDDED_MODEL))
    made = single.edit_one(
        picture, chosen, denoiser, source_prompt, target_prompt, instruction=instruction, seed=seed
    )
    return Edited(made.edited, made.source, made.seconds, made.unet_evaluations, made.trace)


def load_results(folder: str | Path, protocol: str | None = None) -> pd.DataFrame:
    """The results of a run: a row for each edit, with its record and its scores.

    Args:
        folder: the run's output directory.
        protocol: whose scores; by default those of the run's profile.

    Raises:
        DataError: no records there.
        UserError: it was scored with several protocols and none was named.
    """
    piva_bench.prepare()
    from piva_bench.report.results import load_results as load

    if not Path(folder).is_dir():
        raise UserError(f"There is no folder {folder}: give the --output-dir of a `piva-bench run`.")
    return load(Path(folder), protocol)
