"""Edits that somebody else made: a folder in PIE-Bench's layout taken into a store, so that it can be scored.

The picture of a sample is looked for where the official scripts put it (``annotation_images/`` and the source's
own path below it, or that path directly) and as ``<sample id>.<suffix>``; the suffix may be any of a picture.
A picture that is not square is the official scripts' strip of panels: its last panel is the edit.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from piva_bench.data.pie import IMAGES
from piva_bench.errors import DataError
from piva_bench.runs.manifest import Manifest
from piva_bench.runs.record import NOT_KNOWN, Record, Setup, unit_key
from piva_bench.runs.store import Edit, Store, encode_png

if TYPE_CHECKING:
    from piva_bench.data.dataset import Dataset
    from piva_bench.data.sample import Sample
    from piva_bench.profiles import Profile
    from piva_bench.runs.store import Warn

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".JPG", ".PNG")


def import_edits(
    folder: Path,
    dataset: Dataset,
    profile: Profile,
    method: str,
    output_dir: Path,
    data_root: Path | None,
    command: list[str],
    warn: Warn,
) -> tuple[int, int]:
    """Takes a folder of edits into a store.

    Args:
        folder: the edits.
        dataset: what was edited.
        profile: its protocol and resolution are those of the table.
        method: what tables call whoever made them.
        output_dir: of the store.
        data_root: where the dataset lies; kept in the manifest.
        command: kept in the manifest.
        warn: told about files of the store that are torn.

    Returns:
        How many edits were found, and how many samples have none that can be used.

    Raises:
        DataError: the folder holds no edit of any sample.
        UserError: the store holds another set-up's results.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder of edits at {folder}: name one with --edits.")
    found = {sample.id: _find(folder, sample) for sample in dataset.samples}
    if not any(found.values()):
        raise DataError(
            f"{folder} holds no edit of any of the {len(found)} samples: they are looked for at "
            f"{IMAGES}/<the source's path> and <sample id>.png or .jpg."
        )
    setup = Setup(
        profile=profile.name,
        dataset=dataset.name,
        dataset_revision=dataset.revision,
        model=NOT_KNOWN,
        model_fingerprint=NOT_KNOWN,
        resolution=profile.resolution,
        dtype=NOT_KNOWN,
    )
    digest = _digest(path for path in found.values() if path)
    edits = [_edit(sample, found[sample.id], setup, method, digest) for sample in dataset.samples]
    failed = sum(edit.png is None for edit in edits)
    with Store(output_dir, warn) as store:
        manifest = Manifest(output_dir, warn)
        manifest.join(setup)
        manifest.begin_import(setup, profile, dataset, data_root, command)
        manifest.save(store)
        store.commit(edits)
        manifest.end(computed=0, imported=len(edits) - failed, failed=failed)
        manifest.save(store)
    return len(edits) - failed, failed


def _find(folder: Path, sample: Sample) -> Path | None:
    parts = sample.source_path.parts
    below = Path(*parts[parts.index(IMAGES) + 1 :]) if IMAGES in parts else Path(sample.source_path.name)
    stems = (folder / IMAGES / below, folder / below, folder / sample.id)
    candidates = (stem.parent / (stem.stem + suffix) for stem in stems for suffix in SUFFIXES)
    # Only inside the folder: an id may be anything.
    inside = (path for path in candidates if path.resolve().is_relative_to(folder.resolve()))
    return next((path for path in inside if path.is_file()), None)


def read_edit(path: Path, resolution: int) -> np.ndarray:
    """The edit in a file, uint8 [resolution, resolution, 3].

    Raises:
        DataError: it is no picture, or has another size.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            picture = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no whole picture") from error
    width, height = picture.size
    if width != height and min(width, height) >= resolution:
        # The official scripts save source, reconstruction and edit side by side.
        picture = picture.crop((width - resolution, height - resolution, width, height))
    if picture.size != (resolution, resolution):
        raise DataError(f"{path} is {width}x{height} px, not {resolution}x{resolution}")
    return np.asarray(picture)


def _edit(sample: Sample, path: Path | None, setup: Setup, method: str, digest: str) -> Edit:
    png, sha, reason = None, None, None
    try:
        if path is None:
            raise DataError("the folder holds no edit of this sample")
        png, sha = encode_png(read_edit(path, setup.resolution))
    except DataError as error:
        reason = str(error)
    identity = {
        "method": method, "method_version": "imported", "method_source": digest, "params": {},
        "sample_id": sample.id, "seed": 0,
    }  # fmt: skip
    record = Record(
        **setup.model_dump(),
        **identity,  # type: ignore[arg-type]
        key=unit_key(setup, **identity),  # type: ignore[arg-type]
        status="failed" if reason else "ok",
        reason=reason,
        edit_type=sample.edit_type,
        tags=dict(sample.tags),
        device=NOT_KNOWN,
        image_sha=sha,
        batch_size=1,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Edit(record, png)


def _digest(paths: Iterator[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()
