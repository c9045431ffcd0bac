"""What people are shown of a sample and of its edits: a picture as it is, a scene from four sides at once."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piva_bench.data.sample import Sample
from piva_bench.data.scene_sample import SceneSample, Shots
from piva_bench.data.sprites import tile, untile
from piva_bench.errors import DataError
from piva_bench.runs.inside import read_inside
from piva_bench.text import one_line

QUARTERS = (0.0, 90.0, 180.0, -90.0)
"""Azimuths of the views of a scene that are shown: front and right above, back and left below."""


def source_look(sample: Sample) -> Image.Image:
    """A sample's source.

    Raises:
        DataError: a file is missing or damaged.
    """
    return four_sides(sample.load_turntable()) if isinstance(sample, SceneSample) else sample.load_source()


def reference_look(sample: Sample) -> Image.Image | None:
    """A sample's counterfactual, if it has one.

    Raises:
        DataError: a file is missing or damaged.
    """
    if not isinstance(sample, SceneSample):
        return sample.load_reference()
    shots = sample.load_counterfactual()
    return None if shots is None else four_sides(shots)


def edit_look(sample: Sample | None, path: Path) -> Image.Image:
    """An edit, from the picture that the run has stored of it.

    Args:
        sample: what was edited, if it is at hand.
        path: of the picture, in the run's folder of pictures.

    Raises:
        DataError: the picture or a file of the sample is missing or damaged.
    """
    try:
        data = read_inside(path.parents[1], f"{path.parent.name}/{path.name}")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if not isinstance(sample, SceneSample):
                return picture.convert("RGB")
            sheet = np.asarray(picture.convert("RGBA"))
    except Exception as error:  # Pillow raises whatever it meets in a foreign file
        raise DataError(f"{path} is missing or torn ({one_line(error)})") from error
    shots = sample.load_turntable()
    cameras = shots.views.cameras
    try:
        images = untile(sheet, len(cameras), cameras.height, cameras.width)
    except ValueError as error:
        raise DataError(f"{path} is no sheet of {len(cameras)} views") from error
    return four_sides(shots, images)


def four_sides(shots: Shots, images: NDArray[np.uint8] | None = None) -> Image.Image:
    """Four views of a turntable on their backgrounds, two a row.

    Args:
        shots: of the source or the counterfactual.
        images: other views of the same cameras to show in their place, RGBA [V, H, W, 4].
    """
    azimuths = shots.views.cameras.azimuths
    chosen = [int(np.abs((azimuths - wanted + 180) % 360 - 180).argmin()) for wanted in QUARTERS]
    pictures = (shots.views.images if images is None else images)[chosen].astype(np.float32)
    alpha = pictures[..., 3:] / 255
    mixed = pictures[..., :3] * alpha + shots.backgrounds[chosen] * (1 - alpha)
    return Image.fromarray(tile(np.rint(mixed).astype(np.uint8), columns=2))
