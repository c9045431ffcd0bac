"""The files of a set of 3D edits: found by templates, each hashed once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from piva_bench.data.edit_set_layout import Names, filled
from piva_bench.data.fields import short
from piva_bench.data.files import refuse_pipes
from piva_bench.errors import DataError

POINTER = b"version https://git-lfs"
"""How the small files begin that stand for large ones in a clone without Git LFS."""


@dataclass
class Models:
    """The files below a set's folder; each is hashed once, and searched folders are walked once."""

    root: Path
    _hashes: dict[Path, str] = field(default_factory=dict)
    _names: dict[str, dict[str, list[Path]]] = field(default_factory=dict)

    def find(self, templates: Names, values: Mapping[str, str], what: str) -> tuple[Path, str]:
        """The file that the first template with one names, and its SHA-256.

        Raises:
            DataError: there is none, more than one, or it is a pointer to it.
        """
        tried = filled(templates, values)
        for place in tried:
            if found := self._at(place):
                if len(found) > 1:
                    raise DataError(
                        f"{what} {place} is {len(found)} files, {found[0]} and {found[1]}: keep one"
                    )
                return found[0], self._sha256(found[0])
        if not tried:
            raise DataError(f"its row does not say which is the {what} ({' or '.join(templates)})")
        raise DataError(f"{what} {self.root / tried[0]} is missing: get it from the set's own page")

    def _at(self, place: str) -> list[Path]:
        parts = PurePosixPath(place).parts
        if ".." in parts or PurePosixPath(place).is_absolute() or "\\" in place:
            raise DataError(f"{short(place)} leads out of the set's folder")
        folder, searched, name = place.partition("**/")
        if not searched:
            path = self.root / place
            return [path] if path.is_file() else []
        if folder not in self._names:
            known: dict[str, list[Path]] = {}
            for path in sorted((self.root / folder).rglob("*")):
                known.setdefault(path.name, []).append(path)
            self._names[folder] = known
        return [path for path in self._names[folder].get(name, ()) if path.is_file()]

    def _sha256(self, path: Path) -> str:
        if path not in self._hashes:
            refuse_pipes(path)
            try:
                with path.open("rb") as stream:
                    if stream.read(len(POINTER)) == POINTER:
                        raise DataError(f"{path} is a Git LFS pointer, not the model: `git lfs pull` gets it")
                    stream.seek(0)
                    self._hashes[path] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        return self._hashes[path]
