"""The gallery's picture files: what the page cannot take as it lies in the run or the dataset."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from piva_bench.data.sample import Sample
from piva_bench.data.scene_sample import SceneSample
from piva_bench.errors import DataError
from piva_bench.files import png_bytes
from piva_bench.report.look import edit_look, reference_look, source_look
from piva_bench.runs.inside import Warn, folder_inside, ignore, is_folder, remove_file, write_own
from piva_bench.runs.store import Store

SMALL = 160
"""Pictures up to this side are shown as they are; larger ones get a thumbnail of this side."""
MOST_THUMBNAILS = 10_000
"""Of more edits there are none: to make them would take minutes, and the page loads only what is looked at."""
TOGETHER = 100
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
    folder: Path,
    store: Store,
    edits: Sequence[tuple[str, str | None, Sample | None]],
    thumbnails: bool,
    warn: Warn = ignore,
) -> None:
    """The edits' pictures below ``folder``: ``edits/<key>.png``, and ``thumbs/<key>.jpg`` if wanted.

    An edit is linked to the run's file where the file system allows it, and copied otherwise; of a scene's four
    sides are shown. A picture that is not the one that was stored is left out.

    Args:
        folder: of the gallery.
        store: of the run.
        edits: key, the picture's SHA-256, and the sample, if it is at hand.
        thumbnails: whether there are to be small copies.
        warn: told about pictures that are torn.
    """

    def write(edit: tuple[str, str | None, Sample | None]) -> None:
        key, sha, sample = edit
        origin, target, thumbnail = store.image_path(key), folder / "edits" / f"{key}.png", None
        try:
            data = store.read_picture(key, sha)
            if isinstance(sample, SceneSample):
                write_own(target, png_bytes(edit_look(sample, origin)))
                return
            if thumbnails:
                thumbnail = _thumbnail(edit_look(sample, origin))
        except DataError as error:
            remove_file(target)
            remove_file(folder / "thumbs" / f"{key}.jpg")
            if os.path.lexists(origin):
                warn(f"{error}: left out")
            return
        place(origin, target, data)
        if thumbnail:
            write_own(folder / "thumbs" / f"{key}.jpg", thumbnail)

    def write_some(start: int) -> None:
        for edit in edits[start : start + TOGETHER]:
            write(edit)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write_some, range(0, len(edits), TOGETHER)))


def place(origin: Path, target: Path, data: bytes) -> None:
    """Makes ``target`` the same file as ``origin``, a regular one, or a file of its content."""
    if not target.is_symlink() and target.is_file() and target.samefile(origin):
        return
    remove_file(target)
    try:
        os.link(origin, target, follow_symlinks=False)
    except OSError:
        write_own(target, data)


def remove_others(folder: Path, keep: Iterable[str]) -> None:
    """Removes the files of ``folder`` that an earlier gallery had and this one has not. Folders in it are not ours."""
    kept = set(keep)
    for name in folder_inside(folder.parent, folder.name):
        if name not in kept and not is_folder(folder / name):
            (folder / name).unlink()


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
        write_own(folder / written[name], png_bytes(picture))
        if resolution > SMALL:
            written[f"{name}_small"] = f"samples/{number:05d}_{name}.jpg"
            write_own(folder / written[f"{name}_small"], _thumbnail(picture))
    try:
        mask = sample.load_mask()
    except DataError:
        mask = None
    if mask is not None:
        written["mask"] = f"samples/{number:05d}_mask.png"
        layer = Image.fromarray(np.asarray(mask[..., None] * np.array(MASK_COLOUR), np.uint8))
        write_own(folder / written["mask"], png_bytes(layer))
    return written


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((SMALL, SMALL), Image.Resampling.BOX, reducing_gap=2)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()
