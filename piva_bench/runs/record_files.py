"""Records, scores and journals as files: whole, and under the keys that their contents call for, or refused.

A command reads a file several times, as a run and then its report do. Its bytes are read each time, so that damage is
found whenever it happens; what the same bytes were found to hold is kept.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from piva_bench.errors import DataError
from piva_bench.runs.edit import sha256
from piva_bench.runs.inside import folder_inside, read_inside
from piva_bench.runs.record import Record, ScoreFile
from piva_bench.runs.sealed import unsealed

KEPT = 1 << 18
"""Files whose contents are kept."""


def first_record(root: Path) -> Record | None:
    """Any whole record of a directory, for what all of them share; None if there is none."""
    for name in folder_inside(root, "records"):
        try:
            record, own = parse_record(read_inside(root, f"records/{name}"))
        except (OSError, ValueError):
            continue
        if own:
            return record
    return None


@lru_cache(KEPT)
def parse_record(data: bytes) -> tuple[Record, bool]:
    """The record in a file, and whether its key is its own (`is_its_own`); ``ValueError`` if it is torn or none."""
    record = Record.model_validate(unsealed(data))
    return record, is_its_own(record)


@lru_cache(KEPT)
def parse_scores(data: bytes) -> ScoreFile:
    """The scores in a file; ``ValueError`` if it is torn or holds none."""
    return ScoreFile.model_validate(unsealed(data))


def is_its_own(record: Record) -> bool:
    """Whether the key is the one the content calls for."""
    try:
        return record.key == record.expected_key()
    except (ValueError, RecursionError):  # parameters that are not finite, or nested without end
        return False


def journalled(data: bytes) -> list[Record]:
    """The records of a journal; ``ValueError`` if it is torn or holds others' keys."""
    rows = unsealed(data).get("records")
    if not isinstance(rows, list):
        raise ValueError("no list of records")
    records = [Record.model_validate(row) for row in rows]
    if not all(map(is_its_own, records)):
        raise ValueError("records under the wrong keys")
    return records


def checked(root: Path, name: str, sha: str | None) -> bytes:
    """A file with the SHA-256 it was stored with; ``DataError`` otherwise."""
    try:
        data = read_inside(root, name)
    except OSError as error:
        raise DataError(f"{root / name} cannot be read ({error.strerror or error})") from error
    if sha256(data) != sha:
        raise DataError(f"{root / name} is torn or was changed")
    return data
