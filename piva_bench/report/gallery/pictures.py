"""The gallery's picture files: what the page cannot take as it lies in the run or the dataset."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from piva_bench.data.sample import Sample
from piva_bench.data.scene_sample import SceneSample
from piva_bench.errors import DataError
from piva_bench.files import png_bytes, write_atomic
from piva_bench.report.look import edit_look, reference_look, source_look

SMALL = 160
"""Pictures up to this side are shown as they are; larger ones get a thumbnail of this side."""
MASK_COLOUR = (214, 0, 147, 120)


def write_sample_pictures(
    folder: Path, samples: Mapping[str, Sample], ids: Iterable[str], resolution: int
) -> dict[str, dict[str, str]]:
    """Source, counterfactual and mask of each sample as files below ``folder``.

    Files are named by number: a sample's id may hold anything. What cannot be read is left out; the page
    says so.

    Returns:
        for each sample the files' paths relative to ``folder``, and ``<name>_small`` where there is a
        thumbnail.
    """

    def write(numbered: tuple[int, str]) -> tuple[str, dict[str, str]]:
        number, sample_id = numbered
        sample = samples.get(sample_id)
        return sample_id, {} if sample is None else _write_one(folder, number, sample, resolution)

    with ThreadPoolExecutor() as pool:
        return dict(pool.map(write, enumerate(ids)))


def write_edits(
    folder: Path, images: Path, edits: Iterable[tuple[str, Sample | None]], resolution: int
) -> None:
    """The edits' pictures below ``folder``: ``edits/<key>.png``, and ``thumbs/<key>.jpg`` if they are large.

    An edit is linked to the run's file where the file system allows it, and copied otherwise; of a scene's four
    sides are shown.
    """
    (folder / "edits").mkdir(parents=True, exist_ok=True)

    def write(edit: tuple[str, Sample | None]) -> None:
        key, sample = edit
        if isinstance(sample, SceneSample):
            try:
                picture = edit_look(sample, images / f"{key}.png")
            except (OSError, SyntaxError, ValueError, DataError):
                return
            write_atomic(folder / "edits" / f"{key}.png", png_bytes(picture))
            return
        place(images / f"{key}.png", folder / "edits" / f"{key}.png")
        if resolution > SMALL:
            try:
                with Image.open(images / f"{key}.png") as picture:
                    write_atomic(folder / "thumbs" / f"{key}.jpg", _thumbnail(picture))
            except (OSError, SyntaxError, ValueError):
                (folder / "thumbs" / f"{key}.jpg").unlink(missing_ok=True)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, edits))


def place(origin: Path, target: Path) -> None:
    """Makes ``target`` the same file as ``origin``, or a copy of it; no file where there is no origin."""
    try:
        if target.samefile(origin):
            return
    except OSError:
        pass
    target.unlink(missing_ok=True)
    try:
        os.link(origin, target)
    except FileNotFoundError:
        return
    except OSError:
        shutil.copyfile(origin, target)


def remove_others(folder: Path, keep: Iterable[str]) -> None:
    """Removes the files of ``folder`` that an earlier gallery had and this one has not."""
    kept = set(keep)
    for path in folder.glob("*"):
        if path.name not in kept:
            path.unlink()


def _write_one(folder: Path, number: int, sample: Sample, resolution: int) -> dict[str, str]:
    written = {}
    for name, look in (("source", source_look), ("reference", reference_look)):
        try:
            picture = look(sample)
        except DataError:
            continue
        if picture is None:
            continue
        if picture.size != (resolution, resolution) and not isinstance(sample, SceneSample):
            picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
        written[name] = f"samples/{number:05d}_{name}.png"
        write_atomic(folder / written[name], png_bytes(picture))
        if resolution > SMALL:
            written[f"{name}_small"] = f"samples/{number:05d}_{name}.jpg"
            write_atomic(folder / written[f"{name}_small"], _thumbnail(picture))
    try:
        mask = sample.load_mask()
    except DataError:
        mask = None
    if mask is not None:
        written["mask"] = f"samples/{number:05d}_mask.png"
        layer = Image.fromarray(np.asarray(mask[..., None] * np.array(MASK_COLOUR), np.uint8))
        write_atomic(folder / written["mask"], png_bytes(layer))
    return written


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((SMALL, SMALL), Image.Resampling.BOX, reducing_gap=2)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()
