"""PIE-Bench++ as it is on the hub (``UB-CVML-Group/PIE_Bench_pp``): parquet files, read with ``datasets``.

Ten configurations named like PIE-Bench's folders, one split ``V1``. Columns, all text but the picture:
``image``, ``id``, ``source_prompt``, ``target_prompt``, ``edit_action``, ``aspect_mapping``,
``blended_words`` (a JSON list of "source,target") and ``mask`` (PIE-Bench's runs, separated by spaces).

The prompts are not PIE-Bench's, so it is a dataset with a name of its own and never shares a table with it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piva_bench import hub_cache, paths
from piva_bench.data.card import read_card
from piva_bench.data.dataset import DatasetCard
from piva_bench.data.fields import fault, prompt, short, text
from piva_bench.data.rle import check_rle
from piva_bench.data.sample import Sample, UnreadableSample, need_readable, readable
from piva_bench.errors import DataError
from piva_bench.picture_reader import reading_mark

if TYPE_CHECKING:
    from piva_bench.profiles import Profile

REPOSITORY = "UB-CVML-Group/PIE_Bench_pp"
SPLIT = "V1"
CARD = "dataset.yaml"
CONFIGURATIONS = (
    "0_random_140",
    "1_change_object_80",
    "2_add_object_80",
    "3_delete_object_80",
    "4_change_attribute_content_40",
    "5_change_attribute_pose_40",
    "6_change_attribute_color_40",
    "7_change_attribute_material_40",
    "8_change_background_80",
    "9_change_style_80",
)


@dataclass(frozen=True)
class RowFiles:
    """Pictures that lie inside table rows, under made-up paths."""

    location: Path
    contents: Mapping[Path, bytes] = field(repr=False)

    @contextmanager
    def reader(self) -> Iterator[Callable[[Path], bytes]]:
        """See ``FolderFiles.reader``."""

        def read(path: Path) -> bytes:
            if path not in self.contents:
                raise FileNotFoundError(path)
            return self.contents[path]

        yield read


@dataclass(frozen=True)
class PiePpDataset:
    """A copy of PIE-Bench++: its card and its samples; those with malformed rows are `UnreadableSample`."""

    card: DatasetCard
    samples: tuple[Sample, ...]
    files: RowFiles
    name: str = "pie_pp"

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return self.card.resolution

    @cached_property
    def revision(self) -> str:
        """BLAKE2b over ids, prompts, masks and pictures, in order."""
        digest = hashlib.blake2b(digest_size=8)
        for sample in readable(self.samples):
            row = [sample.id, sample.source_prompt, sample.target_prompt, sample.edit_type, sample.mask_rle]
            digest.update(json.dumps(row).encode())
            picture = self.files.contents[sample.source_path]
            digest.update(hashlib.blake2b(picture).digest() + reading_mark(picture, "RGB").encode())
        return digest.hexdigest()


def open_pie_pp(profile: Profile, root: Path | None, strict: bool = True) -> PiePpDataset:
    """Open PIE-Bench++: the folder at `root`, or the copy in the hub's cache when `root` is None.

    Args:
        profile: says which resolution is wanted.
        root: folder with the repository's parquet files; None for the hub's cache. Nothing is downloaded.
        strict: whether another resolution, and a copy whose every row is malformed, are errors.

    Raises:
        DataError: nothing readable is there, or (strict) the pictures are not of the profile's resolution.
    """
    dataset = read_pie_pp(root if root is not None else _cached())
    if strict:
        need_readable(dataset.samples)
    if strict and dataset.resolution != profile.resolution:
        raise DataError(
            f"{dataset.files.location} holds {dataset.resolution} px pictures, profile '{profile.name}' "
            f"works at {profile.resolution} px: choose the profile that fits with --profile"
        )
    return dataset


def read_pie_pp(root: Path) -> PiePpDataset:
    """Read the parquet files below a folder.

    Raises:
        DataError: no such files, or they cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{root} does not exist: give the folder with {REPOSITORY}'s files with --data-root")
    found = {name: sorted(root.rglob(f"{name}/{SPLIT}-*.parquet")) for name in CONFIGURATIONS}
    if not any(found.values()):
        raise DataError(
            f"{root} holds no {CONFIGURATIONS[0]}/{SPLIT}-*.parquet or the like: it is no copy of {REPOSITORY}"
        )
    card = read_card(root / CARD, default=paths.data_root() / "pie-bench-pp.yaml")
    contents: dict[Path, bytes] = {}
    files = RowFiles(root, contents)
    samples: list[Sample] = []
    places: dict[str, int] = {}
    for configuration, parquet in found.items():
        for number, row in enumerate(_rows(parquet)):
            place = f"row {number} of {configuration}"
            edit_type = configuration.rpartition("_")[0]
            sample: Sample
            try:
                sample, picture = parse_row(row, configuration, card, files, place)
                contents[sample.source_path] = picture
            except DataError as error:
                written = row.get("id")
                key = (
                    written
                    if isinstance(written, str) and written.strip() and written.isprintable()
                    else place
                )
                sample = UnreadableSample.of(key, str(error), files, edit_type)
            if sample.id in places:
                twice = f"sample {short(sample.id)}: the id appears twice"
                samples[places[sample.id]] = UnreadableSample.of(sample.id, twice, files, edit_type)
                continue
            places[sample.id] = len(samples)
            samples.append(sample)
    return PiePpDataset(card, tuple(samples), files)


def parse_row(
    row: Mapping[str, Any], configuration: str, card: DatasetCard, files: RowFiles, place: str
) -> tuple[Sample, bytes]:
    """One row as a sample and its picture's bytes.

    Raises:
        DataError: names the sample, the field and what is wrong with it.
    """
    values = dict(row)
    identifier = values.get("id")
    if not isinstance(identifier, str) or not identifier.strip():
        raise DataError(f"{place}: id is {short(identifier)}, not text")
    key = text(identifier, values, "id")
    picture = values.get("image")
    content = picture.get("bytes") if isinstance(picture, Mapping) else None
    if not isinstance(content, bytes):
        raise fault(key, "has no picture in its row")
    sample = Sample(
        id=key,
        source_path=files.location / configuration / hashlib.blake2b(key.encode(), digest_size=8).hexdigest(),
        source_prompt=prompt(key, values, "source_prompt"),
        target_prompt=prompt(key, values, "target_prompt"),
        instruction="",
        edit_type=configuration.rpartition("_")[0],
        blended_words=_word_pairs(key, values),
        mask_rle=_mask(key, values, card.resolution),
        resolution=card.resolution,
        files=files,
    )
    return sample, content


def _rows(parquet: list[Path]) -> list[dict[str, Any]]:
    if not parquet:
        return []
    # By name: a type checker would take the checkout's folder of data for it.
    datasets: Any = importlib.import_module("datasets")
    with tempfile.TemporaryDirectory() as cache:
        try:
            datasets.disable_progress_bars()
            table = datasets.Dataset.from_parquet(
                [str(path) for path in parquet], cache_dir=cache, keep_in_memory=True
            )
            if "image" in table.features:
                table = table.cast_column("image", datasets.Image(decode=False))
            return list(table)
        except Exception as error:  # datasets wraps pyarrow's, fsspec's and its own
            reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise DataError(f"{parquet[0]} cannot be read: {reason}: get it again") from error


def _cached() -> Path:
    if found := hub_cache.snapshot(REPOSITORY, kind="dataset"):
        return found
    raise DataError(
        f"{REPOSITORY} is not on this machine: `piva-bench data fetch pie_pp` gets it (under 100 MB), or "
        "name a folder with its files with --data-root"
    )


def _word_pairs(key: str, row: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    written = text(key, row, "blended_words", may_be_empty=True) if row.get("blended_words") else ""
    try:
        listed = json.loads(written or "[]")
    except ValueError as error:
        raise fault(key, f"blended_words is {short(written)}, no JSON list") from error
    if not isinstance(listed, list) or not all(isinstance(pair, str) for pair in listed):
        raise fault(key, f"blended_words is {short(written)}, not a list of texts")
    pairs = [pair.split(",") for pair in listed]
    # A word without a partner is left out, as in PIE-Bench.
    return tuple((pair[0].strip(), pair[1].strip()) for pair in pairs if len(pair) == 2)


def _mask(key: str, row: dict[str, Any], resolution: int) -> tuple[int, ...] | None:
    if row.get("mask") is None:
        return None
    numbers = text(key, row, "mask", may_be_empty=True).split()
    wrong = next((word for word in numbers if not word.isascii() or not word.isdigit()), None)
    if wrong is not None:
        raise fault(key, f"the mask holds {short(wrong)}, not a whole number")
    if len(max(numbers, key=len, default="")) > 18:
        raise fault(key, "the mask holds a number beyond any picture")
    runs = tuple(map(int, numbers))
    if problem := check_rle(runs, resolution * resolution):
        raise fault(key, f"the mask {problem}; the pictures are {resolution}x{resolution} px")
    return runs
