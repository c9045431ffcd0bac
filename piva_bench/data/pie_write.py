"""Writing edit tasks in PIE-Bench's official format, so that `piva_bench.data.pie` reads them back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.pie import CARD, COUNTERFACTUALS, IMAGES, MAPPING
from piva_bench.data.rle import encode_mask
from piva_bench.files import safe_join

PictureArray = NDArray[np.uint8]


@dataclass(frozen=True)
class PieEntry:
    """One sample to be written."""

    id: str
    image_path: str
    """Below ``annotation_images``; its suffix decides the file format."""
    source: PictureArray
    """uint8 [H, W, 3]."""
    source_prompt: str
    """With [ ] round the words that differ, as is the target prompt."""
    target_prompt: str
    instruction: str
    edit_type_id: str
    """"0" to "9"."""
    blended_word: str
    mask: NDArray[np.bool_]
    """bool [H, W], True = region to edit."""
    reference: PictureArray | None = None
    """The counterfactual picture, uint8 [H, W, 3]."""
    tags: Mapping[str, str] = field(default_factory=dict)


def write_pie(root: Path, entries: Iterable[PieEntry], card: DatasetCard | None = None) -> None:
    """Write pictures, counterfactuals, the mapping file and, when given, the card below `root`.

    The mapping file is written last, one entry a line, so that a folder without it is an unfinished one.
    """
    mapping: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.id in mapping:
            raise ValueError(f"sample {entry.id} is given twice")
        _save(safe_join(root / IMAGES, entry.image_path), entry.source)
        if entry.reference is not None:
            _save(safe_join(root / COUNTERFACTUALS, entry.image_path), entry.reference)
        mapping[entry.id] = {
            "image_path": entry.image_path,
            "original_prompt": entry.source_prompt,
            "editing_prompt": entry.target_prompt,
            "editing_instruction": entry.instruction,
            "editing_type_id": entry.edit_type_id,
            "blended_word": entry.blended_word,
            "mask": encode_mask(entry.mask),
            **({"tags": dict(entry.tags)} if entry.tags else {}),
        }
    if card is not None:
        write_card(root / CARD, card)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in mapping.items())
    (root / MAPPING).write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def write_card(path: Path, card: DatasetCard) -> None:
    """Write a dataset card as YAML, leaving out what has its default."""
    values = card.model_dump(exclude_defaults=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")


def _save(path: Path, picture: PictureArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **({"optimize": True} if path.suffix == ".png" else {"quality": 95}))
