"""Edits that somebody else made: a folder in PIE-Bench's layout taken into a store, so that it can be scored.

The picture of a sample is looked for where the official scripts put it (``annotation_images/`` and the source's
own path below it, or that path directly) and as ``<sample id>.<suffix>``; the suffix may be any of a picture, in any
case, and names are compared as people read them (an accent may be one character or two). A sample with several
such files has none that can be used: nobody knows which is meant.

A picture is the edit alone or the official scripts' strip of panels whose last one is the edit (`last_panel`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from piva_bench.data.files import composed
from piva_bench.data.pie import IMAGES
from piva_bench.data.sample import UnreadableSample
from piva_bench.errors import DataError
from piva_bench.paths import absolute
from piva_bench.picture_reader import decode, to_rgb
from piva_bench.runs.edit import Edit, encode_png
from piva_bench.runs.manifest import Manifest
from piva_bench.runs.record import NOT_KNOWN, MaskCondition, Record, Setup, unit_key
from piva_bench.runs.store import Store

if TYPE_CHECKING:
    from piva_bench.data.dataset import Dataset
    from piva_bench.data.sample import Sample
    from piva_bench.metrics.protocol import Pixels
    from piva_bench.profiles import Profile
    from piva_bench.runs.inside import Warn

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")

PANELS = 3
"""From so many whole panels on a picture is taken for a strip; two might be one wide picture."""


@dataclass(frozen=True)
class Imported:
    """What came of a folder of edits.

    Attributes:
        taken: how many edits were taken in.
        missing: how many samples have no file.
        unusable: why a sample's file cannot be used, by sample id.
    """

    taken: int
    missing: int
    unusable: dict[str, str]


@dataclass(frozen=True)
class Origin:
    """Who made edits elsewhere, and how.

    Attributes:
        method: what tables call whoever made them.
        seed: their random numbers'; only tells one set of edits from another.
        mask: what they were told of where the edit belongs; None if nobody says.
        paper: arXiv number or another reference; kept in the manifest.
    """

    method: str
    seed: int = 0
    mask: MaskCondition | None = None
    paper: str | None = None


def import_edits(
    folder: Path,
    dataset: Dataset,
    profile: Profile,
    origin: Origin,
    output_dir: Path,
    data_root: Path | None,
    command: list[str],
    warn: Warn,
    strips: bool = False,
) -> Imported:
    """Takes a folder of edits into a store.

    Args:
        folder: the edits.
        dataset: what was edited.
        profile: its protocol and resolution are those of the table.
        origin: who made them.
        output_dir: of the store.
        data_root: where the dataset lies; kept in the manifest.
        command: kept in the manifest.
        warn: told about files of the store that are torn.
        strips: whether every picture that is not square is a strip.

    Raises:
        DataError: the folder holds no edit of any sample, or none that can be used.
        UserError: the store holds another set-up's results.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder of edits at {folder}: name one.")
    found = _find_all(folder, dataset.samples)
    if not any(found.values()):
        raise DataError(
            f"{folder} holds no edit of any of the {len(found)} samples: they are looked for at "
            f"{IMAGES}/<the source's path> and <sample id>.png or .jpg, directly in that folder{_example(folder)}."
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
    digest = _digest(path for paths in found.values() for path in paths)
    edits = [_edit(sample, found[sample.id], setup, origin, digest, strips) for sample in dataset.samples]
    reasons = {edit.record.sample_id: edit.record.reason for edit in edits if edit.record.reason}
    unusable = {name: reason for name, reason in reasons.items() if found[name]}
    if len(reasons) == len(edits):
        first, *others = unusable.items()
        more = f" ({len(others)} more like this)" if others else ""
        raise DataError(f"No edit in {folder} can be used: {first[0]}: {first[1]}{more}")
    with Store(output_dir, warn) as store:
        manifest = Manifest(output_dir, warn)
        manifest.join(setup)
        manifest.begin_import(setup, profile, dataset, data_root, command, asdict(origin))
        manifest.save(store)
        store.commit(edits)
        manifest.end(computed=0, imported=len(edits) - len(reasons), failed=len(reasons))
        manifest.save(store)
    return Imported(len(edits) - len(reasons), len(reasons) - len(unusable), unusable)


@dataclass(frozen=True)
class _Listing:
    """The pictures of a folder by name without suffix; each of its subfolders is listed once."""

    root: Path
    folders: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def pictures(self, stem: Path) -> list[Path]:
        """The files ``<stem>.<suffix>``; only such that are inside the root, as an id may be anything."""
        if stem.parent not in self.folders:
            self.folders[stem.parent] = self._list(stem.parent)
        return self.folders[stem.parent].get(composed(stem.name), [])

    def _list(self, folder: Path) -> dict[str, list[Path]]:
        root = absolute(self.root)
        listed: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            inside = absolute(path).is_relative_to(root)
            if inside and path.suffix.lower() in SUFFIXES and path.is_file():
                listed.setdefault(composed(_without_suffix(path.name)), []).append(path)
        return listed


def _without_suffix(name: str) -> str:
    """The name without the ending of a picture; what else follows a dot belongs to the name."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else name


def _find_all(folder: Path, samples: Sequence[Sample]) -> dict[str, list[Path]]:
    """All files that may be the edit of each sample, by id."""
    listing = _Listing(folder)
    sharing = Counter(sample.source_path for sample in samples)
    found = {}
    for sample in samples:
        stems = [folder / sample.id]
        if sharing[sample.source_path] == 1:  # else the source's name says nothing about whose edit it is
            parts = sample.source_path.parts
            below = Path(*parts[parts.index(IMAGES) + 1 :]) if IMAGES in parts else Path(parts[-1])
            below = below.with_name(_without_suffix(below.name))
            stems += [folder / IMAGES / below, folder / below]
        # The same file may go by several of these names.
        found[sample.id] = list(dict.fromkeys(path for stem in stems for path in listing.pictures(stem)))
    return found


def _example(folder: Path) -> str:
    first = next(iter(sorted(path.name for path in folder.iterdir())), None)
    return "; it is empty" if first is None else f", which holds {first}"


def read_edit(path: Path, resolution: int, strips: bool = False) -> tuple[Pixels, bool]:
    """The edit in a file, uint8 [resolution, resolution, 3], and whether the file is a JPEG.

    Args:
        path: the file.
        resolution: side of an edit.
        strips: see `last_panel`.

    Raises:
        DataError: it is no picture, or has another size.
    """
    try:
        image = decode(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    is_jpeg = image.format in ("JPEG", "MPO")
    picture, _ = to_rgb(image)
    panel = last_panel(picture, resolution, strips)
    if panel is None:
        width, height = picture.size
        wide = width != height and min(width, height) >= resolution
        cure = ", and no strip of whole panels: if its last panel is the edit, say --strips" if wide else ""
        if not cure:
            cure = (
                f": make the edits anew at {resolution} px, or resize them and say so beside the numbers (the official "
                "evaluator would cut a corner out)"
            )
        raise DataError(f"{path} is {width}x{height} px, not {resolution}x{resolution}{cure}")
    return np.asarray(panel), is_jpeg


def last_panel(picture: Image.Image, side: int, strips: bool = False) -> Image.Image | None:
    """The edit in a picture: the picture itself if it is the square, or the right or lowest panel of a strip.

    The official scripts save instruction, source, reconstruction and edit side by side, and their calculator cuts the
    edit from any picture that is not square. Here a picture counts as a strip if it is `PANELS` or more whole
    panels in one direction, or, with ``strips``, whatever its size. None if it is neither.
    """
    if picture.size == (side, side):
        return picture
    width, height = picture.size
    row = height == side and width % side == 0 and width // side >= PANELS
    column = width == side and height % side == 0 and height // side >= PANELS
    declared = strips and width != height and min(width, height) >= side
    return picture.crop((width - side, height - side, width, height)) if row or column or declared else None


def _edit(sample: Sample, paths: list[Path], setup: Setup, origin: Origin, digest: str, strips: bool) -> Edit:
    png, sha, reason, from_jpeg = None, None, None, False
    try:
        if isinstance(sample, UnreadableSample):
            raise DataError(sample.fault)
        if not paths:
            raise DataError("the folder holds no edit of this sample")
        if len(paths) > 1:
            raise DataError(f"{' and '.join(map(str, paths))} could both be its edit: keep one")
        pixels, from_jpeg = read_edit(paths[0], setup.resolution, strips)
        png, sha = encode_png(pixels)
    except DataError as error:
        reason = str(error)
    identity = {
        "method": origin.method, "method_version": "imported", "method_source": digest, "params": {},
        "sample_id": sample.id, "seed": origin.seed, "mask": origin.mask,
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
        from_jpeg=from_jpeg,
        batch_size=1,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Edit(record, png)


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()
