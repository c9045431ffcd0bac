"""PIE-Bench in its official format: the original archive and the embedded set are read by the same code.

The format (PnPInversion's README): ``annotation_images/<type folder>/.../<picture>`` beside
``mapping_file.json``, a JSON object of sample id -> ``image_path`` (below ``annotation_images``),
``original_prompt`` and ``editing_prompt`` (brackets round the words that differ), ``editing_instruction``,
``editing_type_id`` ("0".."9"), ``blended_word`` ("source target") and ``mask`` (see `piva_bench.data.rle`).

Additions, all optional: ``dataset.yaml``, the card (`DatasetCard`); ``counterfactual_images/`` with the exact
edit of each picture under the same relative path, announced by the card's ``has_reference``; ``tags`` in an
entry, a JSON object of strings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piva_bench import paths
from piva_bench.data.card import read_card
from piva_bench.data.dataset import DatasetCard, Problem
from piva_bench.data.fields import fault, prompt, short, storable, text
from piva_bench.data.files import Files, FolderFiles, ZipFiles, fingerprint, open_files, safe_join
from piva_bench.data.rle import check_rle
from piva_bench.data.sample import Sample
from piva_bench.errors import DataError

if TYPE_CHECKING:
    from piva_bench.profiles import Profile

MAPPING = "mapping_file.json"
CARD = "dataset.yaml"
IMAGES = "annotation_images"
COUNTERFACTUALS = "counterfactual_images"

EDIT_TYPES: dict[str, str] = {
    "0": "0_random",
    "1": "1_change_object",
    "2": "2_add_object",
    "3": "3_delete_object",
    "4": "4_change_attribute_content",
    "5": "5_change_attribute_pose",
    "6": "6_change_attribute_color",
    "7": "7_change_attribute_material",
    "8": "8_change_background",
    "9": "9_change_style",
}
"""``editing_type_id`` -> edit type: the official folder names without their sample counts."""


@dataclass(frozen=True)
class PieDataset:
    """A PIE-Bench copy: its card, its readable samples, and what was wrong with the others."""

    name: str
    card: DatasetCard
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]
    mapping_path: Path
    files: Files

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return self.card.resolution

    @cached_property
    def revision(self) -> str:
        """BLAKE2b over the mapping file and all pictures in its order; the same for a folder and its zip."""
        pictures = [path for s in self.samples for path in (s.source_path, s.reference_path) if path]
        return fingerprint(self.files, [self.mapping_path, *pictures], self.mapping_path.parent)


def open_pie(profile: Profile, root: Path | None, strict: bool = True) -> PieDataset:
    """Open PIE-Bench: the folder or zip at `root`, or the embedded set when `root` is None.

    Args:
        profile: says which resolution is wanted.
        root: where the copy lies.
        strict: whether malformed entries and another resolution are errors.

    Raises:
        DataError: nothing readable is there, an entry is malformed (the first one is named), or the pictures
            are not of the profile's resolution.
    """
    dataset = read_pie(root if root is not None else paths.data_root() / "pie")
    if not strict:
        return dataset
    if dataset.resolution != profile.resolution:
        if root is None:
            raise DataError(
                f"Profile '{profile.name}' needs PIE-Bench's {profile.resolution} px pictures, which may not "
                "be redistributed: get the archive from https://forms.gle/hVMkTABb4uvZVjme9 and name it with "
                "--data-root"
            )
        raise DataError(
            f"{dataset.files.location} holds {dataset.resolution} px pictures, profile '{profile.name}' "
            f"works at {profile.resolution} px: choose the profile that fits with --profile"
        )
    if dataset.problems:
        more = f" ({len(dataset.problems) - 1} more like this)" if len(dataset.problems) > 1 else ""
        raise DataError(dataset.problems[0].message + more)
    return dataset


def read_pie(root: Path) -> PieDataset:
    """Read the PIE-Bench copy in a folder or zip; malformed entries become `problems` instead of samples.

    Raises:
        DataError: the copy as a whole cannot be read (no mapping file, broken JSON, a bad card ...).
    """
    files = open_files(root)
    mapping_path = _find_mapping(files)
    with files.reader() as read:
        entries = _parse_mapping(read(mapping_path), mapping_path)
        default = paths.data_root() / "pie-bench.yaml"  # of the original PIE-Bench, which ships without one
        card = read_card(mapping_path.with_name(CARD), default, read)
    samples, problems = [], []
    for key, entry in entries:
        try:
            samples.append(parse_entry(key, entry, mapping_path.parent, card, files))
        except DataError as error:
            problems.append(Problem(key, str(error)))
    return PieDataset("pie", card, tuple(samples), tuple(problems), mapping_path, files)


def parse_entry(key: str, entry: Any, base: Path, card: DatasetCard, files: Files) -> Sample:
    """One entry of the mapping file as a sample.

    Args:
        key: the sample id.
        entry: what the mapping file holds under it.
        base: folder of the mapping file.
        card: the dataset's card; its resolution is the size of the mask.
        files: where the pictures will be read from.

    Raises:
        DataError: names the sample, the field and what is wrong with it.
    """
    storable(key, "id", key)
    if not isinstance(entry, dict):
        raise fault(key, f"the entry is a {type(entry).__name__}, not an object with prompts and a mask")
    image_path = text(key, entry, "image_path")
    try:
        source_path = safe_join(base / IMAGES, image_path)
        reference_path = safe_join(base / COUNTERFACTUALS, image_path) if card.has_reference else None
    except ValueError as error:
        raise fault(key, f"image_path {short(image_path)} {error} below {IMAGES}/: correct it") from error
    return Sample(
        id=key,
        source_path=source_path,
        source_prompt=prompt(key, entry, "original_prompt"),
        target_prompt=prompt(key, entry, "editing_prompt"),
        instruction=text(key, entry, "editing_instruction", may_be_empty=True),
        edit_type=_edit_type(key, entry),
        blended_words=_word_pairs(text(key, entry, "blended_word", may_be_empty=True)),
        mask_rle=_mask(key, entry, card.resolution),
        reference_path=reference_path,
        tags=_tags(key, entry),
        resolution=card.resolution,
        files=files,
    )


def _find_mapping(files: FolderFiles | ZipFiles) -> Path:
    found = files.find(MAPPING)
    if not found:
        raise DataError(f"{files.location} holds no {MAPPING}: it is no copy of PIE-Bench (see --data-root)")
    if len(found) > 1 and len(found[0].parts) == len(found[1].parts):
        raise DataError(f"{files.location} holds {found[0]} and {found[1]}: name one folder with --data-root")
    return found[0]


def _parse_mapping(data: bytes, path: Path) -> list[tuple[str, Any]]:
    """(id, entry) pairs in file order. Repeated ids would vanish silently in a dict, so they are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path} holds {short(twice)} twice in one object: remove one of the two")
        return result

    try:
        mapping = json.loads(data.decode("utf-8-sig"), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path} is no JSON at {place}: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{path} is no JSON ({type(error).__name__}): restore the original") from error
    if not isinstance(mapping, dict) or not mapping:
        raise DataError(f"{path} holds no samples: a JSON object of sample id -> entry is expected")
    return list(mapping.items())


def _edit_type(key: str, entry: dict[str, Any]) -> str:
    value = text(key, entry, "editing_type_id")
    if value not in EDIT_TYPES:
        raise fault(key, f'editing_type_id is {short(value)}, not one of "0" to "9"')
    return EDIT_TYPES[value]


def _word_pairs(blended: str) -> tuple[tuple[str, str], ...]:
    """Words two by two; like the official scripts, a word without a partner is left out."""
    listed = blended.split()
    return tuple(zip(listed[0::2], listed[1::2], strict=False))


def _mask(key: str, entry: dict[str, Any], resolution: int) -> tuple[int, ...] | None:
    if "mask" not in entry:
        raise fault(key, "has no mask: add it, or null where there is none")
    runs = entry["mask"]
    if runs is None:
        return None
    if problem := check_rle(runs, resolution * resolution):
        raise fault(key, f"the mask {problem}; the pictures are {resolution}x{resolution} px")
    return tuple(runs)


def _tags(key: str, entry: dict[str, Any]) -> dict[str, str]:
    tags = entry.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise fault(key, f"tags is {short(tags)}, not an object of texts")
    return tags
