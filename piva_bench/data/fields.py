"""Fields of a dataset's entries: taken out with one line that says what is wrong where something is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from piva_bench.errors import DataError


def text(key: str, entry: Mapping[str, Any], field: str, may_be_empty: bool = False) -> str:
    """A field that must be text.

    Args:
        key: the sample's id, for the message.
        entry: the sample's fields.
        field: which one.
        may_be_empty: whether nothing but white space will do.

    Raises:
        DataError: it is missing, no text, empty, or cannot be stored.
    """
    if field not in entry:
        raise fault(key, f"has no {field}: add it")
    value = entry[field]
    if not isinstance(value, str):
        raise fault(key, f"{field} is {short(value)}, not text")
    if not value.strip() and not may_be_empty:
        raise fault(key, f"{field} is empty: write it")
    storable(key, field, value)
    return value


def storable(key: str, field: str, value: str) -> None:
    """Refuses half of a surrogate pair, which JSON can spell and nothing can store."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise fault(key, f"{field} holds a broken character: {short(value)}") from error


def prompt(key: str, entry: Mapping[str, Any], field: str) -> str:
    """A prompt without PIE-Bench's brackets: the official scripts remove them and touch nothing else."""
    value = text(key, entry, field).replace("[", "").replace("]", "")
    if not value.strip():
        raise fault(key, f"{field} is empty: write it")
    return value


def fault(key: str, what: str) -> DataError:
    """The error about one sample."""
    return DataError(f"sample {short(key)}: {what}")


def short(value: object) -> str:
    """The value on one line of bounded length, whatever it is."""
    written = ascii(value)
    return written if len(written) <= 60 else written[:57] + "..."
