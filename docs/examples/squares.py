"""Squares that change colour: a worked example of a dataset plug-in."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from piva_bench.plugin import DataError, DatasetCard, Sample

if TYPE_CHECKING:
    from piva_bench.plugin import Profile


class Squares:
    """Reads ``squares.json``: a list of {"id", "from", "to"}, with pictures <id>.png and <id>_true.png beside it."""

    name = "squares"

    def __init__(self, root: Path, resolution: int) -> None:
        self.root, self.resolution = root, resolution
        self.card = DatasetCard(
            name="squares", title="Coloured squares", license="CC0-1.0", source="made here",
            description="Squares that change colour.", resolution=resolution, has_reference=True,
        )  # fmt: skip
        try:
            self._text = (root / "squares.json").read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{root} holds no squares.json: name its folder with --data-root") from error

    @cached_property
    def samples(self) -> list[Sample]:
        """All edit tasks. Pictures are loaded when they are needed, not here."""
        return [
            Sample(
                id=entry["id"],
                source_path=self.root / f"{entry['id']}.png",
                source_prompt=f"a {entry['from']} square",
                target_prompt=f"a {entry['to']} square",
                instruction=f"make the square {entry['to']}",
                edit_type="change_colour",
                reference_path=self.root / f"{entry['id']}_true.png",
                resolution=self.resolution,
            )
            for entry in json.loads(self._text)
        ]

    @cached_property
    def revision(self) -> str:
        """Over everything that changes an edit or a score: prompts and pictures."""
        digest = hashlib.blake2b(self._text.encode(), digest_size=8)
        for sample in self.samples:
            for path in (sample.source_path, sample.reference_path):
                digest.update(path.read_bytes() if path else b"")
        return digest.hexdigest()


def open_squares(profile: Profile, data_root: Path | None = None) -> Squares:
    """What the entry point names."""
    return Squares(data_root or Path("squares"), profile.resolution)
