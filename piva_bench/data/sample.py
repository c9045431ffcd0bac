"""The sample: one edit task, whatever dataset it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piva_bench.data.files import Files, FolderFiles
from piva_bench.data.rle import check_rle, decode_mask
from piva_bench.errors import DataError
from piva_bench.picture_reader import decode, to_rgb


@dataclass(frozen=True)
class Sample:
    """One edit task: a picture, what it shows, what it shall show, and where the difference lies.

    Pictures and masks are loaded on demand; a missing or damaged file is a `DataError` that names the sample.
    """

    kind: ClassVar[str] = "pictures"
    """What is edited, as `EditMethod.kinds` spells it."""

    id: str
    """Its name, unique in the dataset."""
    source_path: Path
    """Of the picture, or its path inside `files`."""
    source_prompt: str
    """What the source shows, without the dataset's brackets."""
    target_prompt: str
    """What the edited picture shall show, without brackets."""
    instruction: str
    """The edit as an order in natural language; may be empty."""
    edit_type: str
    """For instance "6_change_attribute_color"."""
    blended_words: tuple[tuple[str, str], ...] = ()
    """(source word, target word) pairs naming what changes."""
    mask_rle: tuple[int, ...] | None = None
    """Where the edit belongs, as PIE-Bench has it: start, length, start, length, ... of runs over the picture's pixels,
    from 0, row by row. `load_mask` adds the official ring of one pixel at the border."""
    reference_path: Path | None = None
    """The exact counterfactual: the same scene with only the edit made. Few datasets have it."""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What more is known of it, by name. Samples of one thing have the same tag ``object``."""
    resolution: int | None = None
    """Side in pixels that the dataset promises; None when pictures may have any size."""
    files: Files = field(default=FolderFiles(Path()), repr=False, compare=False)

    def load_source(self) -> Image.Image:
        """The source picture in RGB, `resolution` x `resolution` pixels where the dataset promises a size.

        Raises:
            DataError: the file is missing, damaged or of another size.
        """
        return self._load(self.source_path)

    @property
    def has_counterfactual(self) -> bool:
        """Whether the true edit is known; nothing is loaded to tell."""
        return self.reference_path is not None

    def load_reference(self) -> Image.Image | None:
        """The counterfactual in RGB, or None where the dataset has none.

        Raises:
            DataError: the file is missing, damaged or not of the source's size.
        """
        if self.reference_path is None:
            return None
        reference = self._load(self.reference_path)
        if self.resolution is None and reference.size != (size := self.load_source().size):
            raise self._error(f"{self.reference_path} is {_by(reference.size)}, the source {_by(size)}")
        return reference

    def load_mask(self) -> NDArray[np.bool_] | None:
        """The region to edit, boolean [H, W] at the picture's size with PIE-Bench's forced border, or None.

        Raises:
            DataError: the runs are no mask of that size.
        """
        if self.mask_rle is None:
            return None
        size = (self.resolution, self.resolution) if self.resolution else self.load_source().size
        if fault := check_rle(self.mask_rle, size[0] * size[1]):
            raise self._error(f"the mask {fault}")
        return decode_mask(self.mask_rle, height=size[1], width=size[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the sample's files is not shown as they have it, a line each."""
        return ()

    def prompt_pairs(self) -> list[tuple[str, str]]:
        """Source and target prompt in every wording that an edit may see, the plain one first."""
        return [(self.source_prompt, self.target_prompt)]

    def parts(self) -> tuple[Callable[[], object], ...]:
        """What loads each of the sample's parts; a check of the dataset calls them all."""
        return self.load_source, self.load_reference, self.load_mask

    def _load(self, path: Path) -> Image.Image:
        try:
            with self.files.reader() as read:
                data = read(path)
        except FileNotFoundError as error:
            raise self._error(f"{path} is missing: restore it from the dataset's archive") from error
        except DataError as error:
            raise self._error(str(error)) from error
        try:
            picture, _ = to_rgb(decode(data, str(path)))
        except DataError as error:
            raise self._error(f"{error}: restore it from the dataset's archive") from error
        expected = (self.resolution, self.resolution)
        if self.resolution and picture.size != expected:
            raise self._error(f"{path} is {_by(picture.size)}, not {_by(expected)}: restore it")
        return picture

    def _error(self, message: str) -> DataError:
        return DataError(f"sample {self.id!r}: {message}")


@dataclass(frozen=True)
class UnreadableSample(Sample):
    """A task whose entry is malformed: it keeps its place in the dataset, and whatever is loaded of it is an error.

    So one bad entry costs a run one failed sample with a reason, not the others.
    """

    fault: str = ""
    """What is wrong, in one line that names the sample."""

    @classmethod
    def of(cls, key: str, fault: str, files: Files, edit_type: str = "unknown") -> UnreadableSample:
        """The sample of an entry; an id that nothing can store is spelt out."""
        return cls(
            key if key.isprintable() else ascii(key),
            files.location,
            "",
            "",
            "",
            edit_type,
            files=files,
            fault=fault,
        )

    @classmethod
    def instead_of(cls, sample: Sample, fault: str) -> UnreadableSample:
        """The same task, which nothing can be made of."""
        return cls(**{each.name: getattr(sample, each.name) for each in fields(Sample)}, fault=fault)

    def load_source(self) -> Image.Image:
        """Raises the `DataError`."""
        raise DataError(self.fault)

    def load_reference(self) -> Image.Image | None:
        """Raises the `DataError`."""
        raise DataError(self.fault)

    def load_mask(self) -> NDArray[np.bool_] | None:
        """Raises the `DataError`."""
        raise DataError(self.fault)


def readable(samples: Iterable[Sample]) -> list[Sample]:
    """The samples whose entries are well formed."""
    return [sample for sample in samples if not isinstance(sample, UnreadableSample)]


def need_readable(samples: Sequence[Sample]) -> None:
    """Refuses a dataset none of whose entries is well formed.

    Raises:
        DataError: names the first of them.
    """
    faults = [sample.fault for sample in samples if isinstance(sample, UnreadableSample)]
    if faults and len(faults) == len(samples):
        raise DataError(faults[0] + (f" ({len(faults) - 1} more like this)" if len(faults) > 1 else ""))


def _by(size: tuple[int | None, int | None]) -> str:
    return f"{size[0]}x{size[1]} px"
