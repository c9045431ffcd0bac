"""Your own pictures: a folder with a table of prompts.

The table is ``prompts.csv``, ``prompts.jsonl``, ``prompts.json`` or ``prompts.yaml`` (see `piva_bench.data.tables`):
a row per edit with ``image`` (path below the folder), ``source_prompt`` and ``target_prompt``; optional are ``id``
(else the picture's name), ``instruction``, ``edit_type``, ``mask`` (path of a picture, see `piva_bench.mask_reader`)
and ``reference`` (path of the true edit). Pictures may have any size and kind, see `piva_bench.picture_reader`. A
malformed row is an `UnreadableSample`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.fields import fault, prompt, short, storable, text
from piva_bench.data.files import FolderFiles, existing
from piva_bench.data.pictures import Frame, fit, fit_mask
from piva_bench.data.sample import Sample, UnreadableSample, need_readable, readable
from piva_bench.data.tables import read_table
from piva_bench.errors import DataError
from piva_bench.files import safe_join
from piva_bench.paths import absolute
from piva_bench.picture_reader import decode, follows_profile

if TYPE_CHECKING:
    from piva_bench.profiles import Profile

TABLES = ("prompts.csv", "prompts.jsonl", "prompts.json", "prompts.yaml", "prompts.yml")
REQUIRED = ("image", "source_prompt", "target_prompt")
FIELDS = (*REQUIRED, "id", "instruction", "edit_type", "mask", "reference")


@dataclass(frozen=True)
class FolderSample(Sample):
    """A sample whose pictures may have any size: they are fitted into the profile's square when loaded."""

    mask_path: Path | None = None

    def load_source(self) -> Image.Image:
        """The source, resized and padded to the square."""
        return self._fit(self.source_path)[0]

    def load_reference(self) -> Image.Image | None:
        """The reference, fitted like the source."""
        return None if self.reference_path is None else self._fit(self.reference_path)[0]

    def load_mask(self) -> NDArray[np.bool_] | None:
        """The mask picture, placed like the source."""
        if self.mask_path is None:
            return None
        frame = self._fit(self.source_path)[1]
        with self._named():
            return fit_mask(self._open(self.mask_path), frame)

    def _fit(self, path: Path) -> tuple[Image.Image, Frame]:
        assert self.resolution is not None
        with self._named():
            return fit(self._open(path), self.resolution)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Faults of files become faults of the sample."""
        try:
            yield
        except FileNotFoundError as error:
            raise self._error(f"there is no {error.filename}") from error
        except DataError as error:
            raise self._error(str(error)) from error

    def _open(self, path: Path) -> Image.Image:
        with self.files.reader() as read:
            return decode(read(path), str(path))


@dataclass(frozen=True)
class FolderDataset:
    """A folder of pictures with prompts."""

    root: Path
    card: DatasetCard
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    name: str = "folder"

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels, once fitted."""
        return self.card.resolution

    @cached_property
    def revision(self) -> str:
        """BLAKE2b over prompts and all files, in order."""
        digest = hashlib.blake2b(digest_size=8)
        for sample in readable(self.samples):
            row = [
                sample.id,
                sample.source_prompt,
                sample.target_prompt,
                sample.instruction,
                sample.edit_type,
            ]
            digest.update(json.dumps(row).encode())
            for path in (sample.source_path, sample.reference_path, getattr(sample, "mask_path", None)):
                path = path and existing(path)
                content = path.read_bytes() if path is not None and path.is_file() else b""
                digest.update(hashlib.blake2b(content).digest())
                if follows_profile(content):
                    digest.update(b"sRGB")
        return digest.hexdigest()


def open_folder(profile: Profile, root: Path | None, strict: bool = True) -> FolderDataset:
    """Open a folder of pictures with its table of prompts.

    Args:
        profile: says which size the pictures are fitted to.
        root: the folder.
        strict: whether a table whose every row is malformed is an error.

    Raises:
        DataError: there is no folder or table, the table as a whole cannot be read, or (strict) none of its rows.
    """
    if root is None:
        raise DataError("The dataset 'folder' needs --data-root, a folder with pictures and a prompts.csv")
    tables = [root / name for name in TABLES if (root / name).is_file()]
    if not tables:
        raise DataError(f"{root} holds no table of prompts: write one of {', '.join(TABLES)}")
    table, *others = tables
    samples = _unique(
        [
            _sample(row, number, root, profile.resolution)
            for number, row in read_table(table, FIELDS, REQUIRED)
        ]
    )
    if strict:
        need_readable(samples)
    card = DatasetCard(
        name=absolute(root).name or "folder",
        title=f"Own pictures: {absolute(root).name}",
        license="yours",
        source=str(table),
        description="Pictures and prompts of a folder, resized and padded to the profile's square.",
        resolution=profile.resolution,
    )
    notes = tuple(f"{other} is not read: {table.name} is" for other in others)
    return FolderDataset(root, card, tuple(samples), notes)


def _sample(row: Any, number: int, root: Path, resolution: int) -> Sample:
    try:
        return parse_row(row, number, root, resolution)
    except DataError as error:
        return UnreadableSample.of(_name(row) or f"row {number}", str(error), FolderFiles(root))


def _name(row: Any) -> str:
    """The id a row has or would have; empty if it has none."""
    if not isinstance(row, dict):
        return ""
    image = row.get("image")
    return str(row.get("id") or (Path(image).stem if isinstance(image, str) else "")).strip()


def _unique(samples: list[Sample]) -> list[Sample]:
    """Each id once: several rows of one id make one sample that says so."""
    counts = Counter(sample.id for sample in samples)
    return [
        sample
        if counts[name] == 1
        else UnreadableSample.of(
            name, f"sample {short(name)}: {counts[name]} rows have this id: give each its own", sample.files
        )
        for name, sample in {sample.id: sample for sample in samples}.items()
    ]


def parse_row(row: Any, number: int, root: Path, resolution: int) -> FolderSample:
    """One row as a sample.

    Raises:
        DataError: names the row, the field and what is wrong with it.
    """
    key = f"row {number}"
    if not isinstance(row, dict):
        raise fault(key, f"is {short(row)}, not a set of named fields")
    # Spreadsheets pad; an empty cell is no value.
    values = {k: v.strip() if isinstance(v, str) else v for k, v in row.items() if v not in (None, "")}
    if None in row:
        raise fault(
            key,
            f"has more cells than columns: a text that holds the separator needs quotes ({short(row[None])})",
        )
    if unknown := next((name for name in values if name not in FIELDS), None):
        raise fault(key, f"has an unknown field {short(unknown)}; known are {', '.join(FIELDS)}")
    optional = {name: text(key, values, name) for name in ("instruction", "edit_type") if name in values}
    name = _name(values) if values.get("id") else Path(text(key, values, "image")).stem
    storable(key, "id", name)
    sample = FolderSample(
        id=name,
        source_path=_path(key, values, "image", root),
        source_prompt=prompt(key, values, "source_prompt"),
        target_prompt=prompt(key, values, "target_prompt"),
        instruction=optional.get("instruction", ""),
        edit_type=optional.get("edit_type", "own"),
        resolution=resolution,
        files=FolderFiles(root),
    )
    extra = {
        target: _path(key, values, field, root)
        for field, target in (("mask", "mask_path"), ("reference", "reference_path"))
        if field in values
    }
    return replace(sample, **extra)  # type: ignore[arg-type]


def _path(key: str, values: dict[str, Any], field: str, root: Path) -> Path:
    written = text(key, values, field)
    try:
        return safe_join(root, written)
    except ValueError as error:
        raise fault(key, f"{field} {short(written)} {error} below the folder: correct it") from error
