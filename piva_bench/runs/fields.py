"""Fitted source fields, kept on disk: all edits of an object, by all methods, start from one field."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from piva_bench.errors import DataError
from piva_bench.runs.files import write_atomic
from piva_bench.runs.key import content_key
from piva_bench.scene.field import FORMAT, Grid, RadianceField
from piva_bench.scene.fit import FitParams, fit_field

if TYPE_CHECKING:
    from piva_bench.distillation.scene_params import FieldParams
    from piva_bench.scene.cameras import Floats
    from piva_bench.scene.views import PosedViews

ROOT_VARIABLE = "PIVA_BENCH_FIELDS"
FIT_VERSION = 1
"""To be raised when a change to the fit changes its fields."""


def fields_root() -> Path:
    """Where fitted fields are kept."""
    chosen = os.environ.get(ROOT_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "piva-bench" / "fields"


def fitted_field(
    scene_id: str,
    views: PosedViews,
    box: Floats,
    params: FieldParams,
    device: torch.device | str = "cpu",
    *,
    background: tuple[float, float, float] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> RadianceField:
    """The field fitted to a scene's views, on the CPU: read if it was fitted before, else fitted and kept.

    A field that was just fitted is read back too, so that both are the same to the last bit. Not to be changed:
    callers share it.

    Args:
        scene_id: content fingerprint of the views.
        views: what is fitted to.
        box: [2, 3] of the field.
        params: of the fit.
        device: where to fit.
        background: of opaque views, see ``fit_field``.
        on_step: progress of a fit.

    Raises:
        DataError: the views cannot be fitted.
    """
    identity = {
        "scene": scene_id,
        "format": FORMAT,
        "fit": FIT_VERSION,
        "box": [list(map(float, corner)) for corner in box],
        "params": params.model_dump(mode="json", include={"fit_steps", "fit_resolution"}),
    }
    path = fields_root() / f"{content_key(identity)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        try:
            return _read(path)
        except DataError:  # not there, or torn
            fitted = fit_field(
                views,
                Grid.around(box, params.fit_resolution, margin=0.0),
                FitParams(steps=params.fit_steps),
                background=background,
                device=device,
                on_step=on_step,
            )
            write_atomic(path, fitted.to_bytes())
    return _read(path)


@lru_cache(maxsize=16)
def _read(path: Path) -> RadianceField:
    return RadianceField.load(path)
