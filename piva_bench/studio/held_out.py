"""Which compositions no training picture may show: those of every set that something is measured on."""

from __future__ import annotations

import json
from pathlib import Path

from piva_bench.data.validation import PIE, SCENES
from piva_bench.paths import data_root

FILE = "held_out.json"
SETS = {"pie": Path("pie"), "objaverse": Path("objaverse") / "studio", PIE: Path(PIE), SCENES: Path(SCENES)}
"""Folders below the embedded data, by dataset."""


def held_out_compositions(without: str | None = None) -> set[str]:
    """Composition keys of all sets that are measured on, except one that is about to be made."""
    files = [data_root() / folder / FILE for name, folder in SETS.items() if name != without]
    return {key for file in files if file.exists() for key in json.loads(file.read_text())}
