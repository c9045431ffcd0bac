"""Reading render shards: the pictures and captions every studio model is trained on.

A shard is an ``.npz`` file named ``shard-00000.npz`` with two arrays: ``images`` (uint8, [N, H, W, 3])
and ``scenes`` (N JSON strings, each ``{"scene": {...}, "caption": str, "captions": [str, ...]}``).
"""

from __future__ import annotations

import json
import warnings
import zipfile
import zlib
from collections.abc import Mapping
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
    images: list[np.ndarray] = []
    scenes: list[dict[str, Any]] = []
    for path in sorted(Path(directory).glob("shard-*.npz")):
        try:
            with np.load(path, allow_pickle=False) as shard:
                pictures, lines = shard["images"], shard["scenes"].tolist()
        except (zipfile.BadZipFile, EOFError, OSError, KeyError, ValueError, zlib.error) as error:
            warnings.warn(f"{path.name} is not a complete shard and was left out ({error})", stacklevel=2)
            continue
        if len(pictures) != len(lines):
            raise DataError(
                f"{path}: {len(pictures)} pictures but {len(lines)} scenes; render this shard again"
            )
        images.append(pictures)
        scenes.extend(json.loads(line) for line in lines)
    if not images:
        raise DataError(f"no render shards in {directory}; make them with `piva-bench studio render`")
    return np.concatenate(images), scenes


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
