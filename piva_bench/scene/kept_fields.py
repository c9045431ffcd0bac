"""Fitted source fields, kept on disk: all edits of an object, by all methods, start from one field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import torch

from piva_bench.errors import DataError
from piva_bench.kept import kept, kept_root
from piva_bench.key import content_key
from piva_bench.scene.field import FORMAT, Grid, RadianceField
from piva_bench.scene.fit import EMPTY, FitParams, fit_field, growth, silhouette_hull

if TYPE_CHECKING:
    from piva_bench.scene.cameras import Floats
    from piva_bench.scene.views import PosedViews

FIT_VERSION = 1
"""To be raised when a change to the fit changes its fields."""


class HowFitted(Protocol):
    """What a method's field parameters say of the fit."""

    @property
    def fit_steps(self) -> int:
        """Steps of the fit."""

    @property
    def fit_resolution(self) -> int:
        """Voxels along the box's longest edge."""


@dataclass(frozen=True)
class UsualFit:
    """The fit that methods' field parameters have by default."""

    fit_steps: int = 400
    fit_resolution: int = 64


def fitted_field(
    scene_id: str,
    views: PosedViews,
    box: Floats,
    params: HowFitted,
    device: torch.device | str = "cpu",
    *,
    background: tuple[float, float, float] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> RadianceField:
    """The field fitted to a scene's views, on the CPU: read if it was fitted before, else fitted and kept.

    A field that was just fitted is read back too, so that both are the same to the last bit. Not to be changed:
    callers share it. It lies below ``PIVA_BENCH_FIELDS``, by default ``~/.cache/piva-bench/fields``.

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
        UserError: the field cannot be stored.
    """
    name = _file_name(scene_id, views, box, params, background)

    def fit(file: BinaryIO) -> None:
        fitted = fit_field(
            views,
            Grid.around(box, params.fit_resolution, margin=0.0),
            FitParams(steps=params.fit_steps),
            background=background,
            device=device,
            on_step=on_step,
        )
        file.write(fitted.to_bytes())

    return kept("fields", name, _read, fit)


def unfitted_field(
    scene_id: str,
    views: PosedViews,
    box: Floats,
    params: HowFitted,
    device: torch.device | str = "cpu",
    *,
    background: tuple[float, float, float] | None = None,
) -> RadianceField:
    """What a trial edits to learn what an edit costs: the fitted field if it is there, else fog that is as large.

    Args: see ``fitted_field``. Nothing is fitted or kept.
    """
    try:
        return _read(kept_root("fields") / _file_name(scene_id, views, box, params, background))
    except DataError:
        field = RadianceField(Grid.around(box, params.fit_resolution, margin=0.0))
        if not views.opaque:
            field.set_open(silhouette_hull(field, views))
        return field


def _file_name(
    scene_id: str,
    views: PosedViews,
    box: Floats,
    params: HowFitted,
    background: tuple[float, float, float] | None,
) -> str:
    """Under which name a field is kept."""
    identity = {
        "scene": scene_id,
        "format": FORMAT,
        "fit": FIT_VERSION,
        "box": [list(map(float, corner)) for corner in box],
        "params": {"fit_steps": params.fit_steps, "fit_resolution": params.fit_resolution},
        **({"growth": sizes} if len(sizes := growth(params.fit_resolution)) > 1 else {}),
        **({"empty": EMPTY} if background is not None and views.opaque else {}),
    }
    return f"{content_key(identity)}.safetensors"


@lru_cache(maxsize=16)
def _read(path: Path) -> RadianceField:
    return RadianceField.load(path)
