"""PIE-Bench in its official format: the original archive and the embedded set are read by the same code.

The format (PnPInversion's README): ``annotation_images/<type folder>/.../<picture>`` beside
``mapping_file.json``, a JSON object of sample id -> ``image_path`` (below ``annotation_images``),
``original_prompt`` and ``editing_prompt`` (brackets round the words that differ), ``editing_instruction``,
``editing_type_id`` ("0".."9"), ``blended_word`` ("source target") and ``mask`` (see `piva_bench.data.rle`).

Where the official scripts do without a part of an entry (``blended_word``, ``editing_instruction``, a run of a mask
that holds no pixel), so does this, and says so in the dataset's `notes`. A malformed entry is an `UnreadableSample`.

Additions, all optional: ``dataset.yaml``, the card (`DatasetCard`); ``counterfactual_images/`` with the exact
edit of each picture under the same relative path, announced by the card's ``has_reference``; ``tags`` in an
entry, a JSON object of strings.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piva_bench import paths
from piva_bench.data.card import read_card
from piva_bench.data.dataset import DatasetCard
from piva_bench.data.fields import fault, prompt, short, storable, text
from piva_bench.data.files import Files, FolderFiles, ZipFiles, fingerprint, open_files
from piva_bench.data.rle import check_rle, empty_runs
from piva_bench.data.sample import Sample, UnreadableSample, need_readable, readable
from piva_bench.errors import DataError
from piva_bench.files import safe_join
from piva_bench.picture_reader import reading_mark

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
    """A PIE-Bench copy: its card, its samples in the mapping file's order, and what was made up for in them."""

    name: str
    card: DatasetCard
    samples: tuple[Sample, ...]
    mapping_path: Path
    files: Files
    notes: tuple[str, ...] = ()

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return self.card.resolution

    @cached_property
    def revision(self) -> str:
        """BLAKE2b over the mapping file and all pictures in its order; the same for a folder and its zip."""
        pictures = [
            path for s in readable(self.samples) for path in (s.source_path, s.reference_path) if path
        ]
        paths = [self.mapping_path, *pictures]
        return fingerprint(
            self.files, paths, self.mapping_path.parent, mark=partial(reading_mark, mode="RGB")
        )


def open_pie(profile: Profile, root: Path | None, strict: bool = True) -> PieDataset:
    """Open PIE-Bench: the folder or zip at `root`, or the embedded set when `root` is None.

    Args:
        profile: says which resolution is wanted.
        root: where the copy lies.
        strict: whether another resolution, and a copy whose every entry is malformed, are errors.

    Raises:
        DataError: nothing readable is there, or the pictures are not of the profile's resolution.
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
    need_readable(dataset.samples)
    return dataset


def read_pie(root: Path) -> PieDataset:
    """Read the PIE-Bench copy in a folder or zip; or one with another mapping file, which is then named itself.

    A benchmark that has other prompts for PIE-Bench's pictures (DNA-Bench) lies beside `MAPPING` in a copy of it. The
    masks that such a file lacks are those of the entries with the same id and picture there.

    Raises:
        DataError: the copy as a whole cannot be read (no mapping file, broken JSON, a bad card ...).
    """
    own = root.suffix.lower() == ".json" and root.is_file()
    files = open_files(root.parent if own else root)
    mapping_path = files.location / root.name if own else _find_mapping(files)
    with files.reader() as read:
        entries = _parse_mapping(read(mapping_path), mapping_path)
        if own:
            entries = _with_masks(entries, mapping_path.with_name(MAPPING), read)
        default = paths.data_root() / "pie-bench.yaml"  # of the original PIE-Bench, which ships without one
        card = read_card(mapping_path.with_name(CARD), default, read)
    samples: list[Sample] = []
    made_up_for: dict[str, list[str]] = defaultdict(list)
    for key, entry in entries:
        made_up: list[str] = []
        try:
            sample = parse_entry(key, entry, mapping_path.parent, card, files, made_up.append)
        except DataError as error:
            sample = UnreadableSample.of(key, str(error), files, _edit_type_or(entry, "unknown"))
            made_up = []
        samples.append(sample)
        for what in made_up:
            made_up_for[what].append(key)
    notes = (
        f"{what} (as the official scripts do): sample {short(keys[0])}"
        + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for what, keys in made_up_for.items()
    )
    return PieDataset("pie", card, tuple(samples), mapping_path, files, tuple(notes))


def parse_entry(
    key: str,
    entry: Any,
    base: Path,
    card: DatasetCard,
    files: Files,
    note: Callable[[str], None] = lambda what: None,
) -> Sample:
    """One entry of the mapping file as a sample.

    Args:
        key: the sample id.
        entry: what the mapping file holds under it.
        base: folder of the mapping file.
        card: the dataset's card; its resolution is the size of the mask.
        files: where the pictures will be read from.
        note: told what was made up for.

    Raises:
        DataError: names the sample, the field and what is wrong with it.
    """
    storable(key, "id", key)
    if not isinstance(entry, dict):
        raise fault(key, f"the entry is a {type(entry).__name__}, not an object with prompts and a mask")
    if isinstance(entry, _Repeating):
        raise fault(key, f"{entry.what} twice: remove one of the two")
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
        instruction=_optional_text(key, entry, "editing_instruction", note),
        edit_type=_edit_type(key, entry),
        blended_words=_word_pairs(_optional_text(key, entry, "blended_word", note)),
        mask_rle=_mask(key, entry, card.resolution, note),
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


def _with_masks(
    entries: list[tuple[str, Any]], beside: Path, read: Callable[[Path], bytes]
) -> list[tuple[str, Any]]:
    """The entries; one without a mask has that of the copy's own mapping file, if that is of the same picture."""
    if not beside.is_file():
        return entries
    known: dict[str, Any] = dict(_parse_mapping(read(beside), beside))

    def whole(key: str, entry: Any) -> Any:
        there = known.get(key)
        if not (isinstance(entry, dict) and isinstance(there, dict) and "mask" in there):
            return entry
        same = entry.get("image_path") == there.get("image_path")
        return {"mask": there["mask"], **entry} if same else entry

    return [(key, entry if isinstance(entry, _Repeating) else whole(key, entry)) for key, entry in entries]


class _Repeating(dict[str, Any]):
    """A JSON object with a name that stands in it more than once: which value is meant, nobody knows."""

    what: str
    """The message's beginning."""


def _parse_mapping(data: bytes, path: Path) -> list[tuple[str, Any]]:
    """(id, entry) pairs in file order; of an id that stands there twice one pair, whose entry is `_Repeating`."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        repeating, counts = _Repeating(result), Counter(name for name, _ in pairs)
        twice = [name for name, count in counts.items() if count > 1]
        repeating.what = f"holds {short(twice[0])}"
        for name in twice:
            if isinstance(result[name], dict):  # what would be an entry, if this is the whole file
                repeating[name] = _Repeating(result[name])
                repeating[name].what = "stands in the mapping file"
        return repeating

    try:
        mapping = json.loads(data.decode("utf-8-sig"), object_pairs_hook=kept)
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


def _edit_type_or(entry: Any, otherwise: str) -> str:
    value = entry.get("editing_type_id") if isinstance(entry, dict) else None
    return EDIT_TYPES.get(value, otherwise) if isinstance(value, str) else otherwise


def _optional_text(key: str, entry: dict[str, Any], field: str, note: Callable[[str], None]) -> str:
    if entry.get(field) is None:
        note(f"{field} is missing and taken as empty")
        return ""
    return text(key, entry, field, may_be_empty=True)


def _word_pairs(blended: str) -> tuple[tuple[str, str], ...]:
    """Words two by two; like the official scripts, a word without a partner is left out."""
    listed = blended.split()
    return tuple(zip(listed[0::2], listed[1::2], strict=False))


def _mask(
    key: str, entry: dict[str, Any], resolution: int, note: Callable[[str], None]
) -> tuple[int, ...] | None:
    if "mask" not in entry:
        raise fault(key, "has no mask: add it, or null where there is none")
    runs = entry["mask"]
    if runs is None:
        return None
    if problem := check_rle(runs, resolution * resolution):
        raise fault(key, f"the mask {problem}; the pictures are {resolution}x{resolution} px")
    if empty_runs(runs, resolution * resolution):
        note("the mask has runs that begin after the last pixel or have no length, and these are passed over")
    return tuple(runs)


def _tags(key: str, entry: dict[str, Any]) -> dict[str, str]:
    tags = entry.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise fault(key, f"tags is {short(tags)}, not an object of texts")
    return tags
