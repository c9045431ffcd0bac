"""Reading render shards: the pictures and captions every studio model is trained on.

A shard is an ``.npz`` file named ``shard-00000.npz`` with two arrays: ``images`` (uint8, [N, H, W, 3])
and ``scenes`` (N JSON strings, each ``{"scene": {...}, "caption": str, "captions": [str, ...]}``). A shard of pairs,
``pair-00000.npz``, holds what `Pairs` does.
"""

from __future__ import annotations

import json
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from piva_bench.errors import DataError

HELD_OUT_EVERY = 25
"""One picture in this many is never trained on (4 %): enough for 1 % error bars from 40,000 renders."""


def load_shards(directory: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Read every shard of a directory in name order.

    Returns the pictures (uint8, [N, H, W, 3]) and one description for each. A gap in the numbering is fine,
    and a shard that is still being written is left out with a warning, so that training can start while the
    renderer works.

    Raises:
        DataError: the directory holds no readable shard, or a shard's two arrays disagree in length.
    """
    images, scenes = _read(Path(directory), "shard", ("images", "scenes"), "render")
    return images, [json.loads(line) for line in scenes.tolist()]


@dataclass(frozen=True)
class Pairs:
    """Pictures and their exact edits, N of each.

    Attributes:
        sources: uint8 [N, H, W, 3].
        targets: the same pictures, edited.
        masks: where the edit is, bool [N, H, W].
        edits: ``{"edit_type": str, "source": {...}, "target": {...}, "instructions": [str, ...]}`` for each.
    """

    sources: np.ndarray
    targets: np.ndarray
    masks: np.ndarray
    edits: list[dict[str, Any]]


def load_pairs(directory: Path) -> Pairs:
    """Read every shard of pairs (``pair-00000.npz``) of a directory; as `load_shards` does.

    Raises:
        DataError: the directory holds no readable shard of pairs, or a shard's arrays disagree in length.
    """
    sources, targets, masks, edits = _read(
        Path(directory), "pair", ("sources", "targets", "masks", "edits"), "pairs"
    )
    opened = np.unpackbits(masks, axis=-1).astype(bool)
    return Pairs(sources, targets, opened, [json.loads(line) for line in edits.tolist()])


def _read(directory: Path, kind: str, names: Sequence[str], command: str) -> list[np.ndarray]:
    """The arrays of these names of all shards of a kind, each joined; ``command`` is what makes such shards."""
    found: list[list[np.ndarray]] = []
    for path in sorted(directory.glob(f"{kind}-*.npz")):
        try:
            with np.load(path, allow_pickle=False) as shard:
                arrays = [shard[name] for name in names]
        except (zipfile.BadZipFile, EOFError, OSError, KeyError, ValueError, zlib.error) as error:
            warnings.warn(f"{path.name} is not a complete shard and was left out ({error})", stacklevel=3)
            continue
        counts = {len(array) for array in arrays}
        if len(counts) > 1:
            told = ", ".join(f"{len(array)} {name}" for name, array in zip(names, arrays, strict=True))
            raise DataError(f"{path}: {told}; render this shard again")
        found.append(arrays)
    if not found:
        raise DataError(f"no {command} shards in {directory}; make them with `piva-bench studio {command}`")
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def held_out(images: np.ndarray) -> np.ndarray:
    """Which pictures are kept for evaluation: bool [N].

    Decided by each picture's own bytes, so that a picture stays on its side of the split when shards are
    added between two runs of a resumed training.
    """
    return np.array([zlib.crc32(image.tobytes()) % HELD_OUT_EVERY == 0 for image in images], dtype=bool)


def captions_of(scene: Mapping[str, Any]) -> list[str]:
    """All captions of one picture, without repetitions, the main one first."""
    return list(dict.fromkeys([scene["caption"], *scene.get("captions", ())]))


def load_masks(directory: Path) -> np.ndarray:
    """Which pixels show a thing rather than the set: bool [N, H, W], in the order of :func:`load_shards`."""
    masks = []
    for path in sorted(Path(directory).glob("shard-*.npz")):
        with np.load(path, allow_pickle=False) as shard:
            masks.append(np.unpackbits(shard["masks"], axis=-1).astype(bool))
    return np.concatenate(masks)


def load_depth(directory: Path, pictures: int) -> np.ndarray:
    """Distance to what is nearest along the optical axis: float16 [N, H, W], 0 where only the set is.

    In the order of :func:`load_shards`.

    Raises:
        DataError: the depth of some of the ``pictures`` is missing.
    """
    depth = []
    for path in sorted(Path(directory).glob("shard-*.npz")):
        beside = path.with_name(path.name.replace("shard", "depth"))
        if beside.exists():
            with np.load(beside, allow_pickle=False) as file:
                depth.append(file["depth"])
    found = sum(len(part) for part in depth)
    if not found or found != pictures:
        raise DataError(
            f"{directory} holds {pictures} pictures and the depth of {found}; `piva-bench studio render` adds the rest"
        )
    return np.concatenate(depth)
