"""Tables as people write them: CSV out of any spreadsheet, JSON lines, JSON, YAML.

CSV may be separated by commas, semicolons, tabs or bars, whichever its first row names the columns with; column names
may be in any case, with spaces for underscores; rows without a cell are passed over. Text is UTF-8, or UTF-16 where a
byte order mark says so.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from piva_bench.errors import DataError

SEPARATORS = ",;\t|"


def read_table(
    path: Path, fields: Collection[str] | None, required: Collection[str]
) -> list[tuple[int, Any]]:
    """The rows of a table, each with its number; what stands above in a CSV is its head, not a row.

    A row of a CSV with more cells than columns has the cells left over under ``None``.

    Args:
        path: the file; its suffix says what it is.
        fields: the columns there may be; None for any.
        required: the columns that a CSV must have.

    Raises:
        DataError: it is not in the format its name says, has other columns, or is empty.
    """
    try:
        content = decode_text(path.read_bytes())
        rows = list(
            _csv_rows(content, fields, required) if path.suffix == ".csv" else _rows(path.suffix, content)
        )
    except (OSError, UnicodeError, ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:250]
        if isinstance(error, UnicodeError):
            reason += ": save it as UTF-8"
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error
    if not rows:
        raise DataError(f"{path} holds no rows: write one per edit")
    return rows


def decode_text(data: bytes) -> str:
    """Text by its byte order mark, UTF-8 without one; line ends as they are.

    Raises:
        UnicodeError: it is in no such encoding.
    """
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


def _rows(suffix: str, content: str) -> Iterator[tuple[int, Any]]:
    if suffix == ".jsonl":
        # Not splitlines: a text may hold U+2028 and the like, which JSON does not take for line ends.
        lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        yield from enumerate((json.loads(line) for line in lines if line.strip()), start=1)
        return
    rows = json.loads(content) if suffix == ".json" else yaml.safe_load(content)
    if not isinstance(rows, list):
        raise ValueError("a list of rows is expected")
    yield from enumerate(rows, start=1)


def _csv_rows(
    content: str, fields: Collection[str] | None, required: Collection[str]
) -> Iterator[tuple[int, Any]]:
    lines = content.splitlines()
    first = next((line for line in lines if line.strip()), "")
    if first.lower().startswith("sep="):  # what Excel reads a separator from
        content = content.replace(first, "", 1)
        first = next((line for line in lines[lines.index(first) + 1 :] if line.strip()), "")
    separator = next((s for s in SEPARATORS if set(required) <= set(_columns(first, s))), SEPARATORS[0])
    reader = csv.reader(
        io.StringIO(content, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    named = False
    columns: list[str] = []
    number = 0
    for cells in reader:
        blank = not any(cell.strip() for cell in cells)
        if not named:
            if not blank:
                named, columns = True, _columns(first, separator)
                _check(columns, fields, required)
            continue
        number += 1
        if blank:
            continue
        row: dict[str | None, Any] = {}
        for name, cell in zip_longest(columns[: len(cells)], cells, fillvalue=""):
            if name:
                row[name] = cell
            elif cell.strip():
                row.setdefault(None, []).append(cell)
        yield number, row


def _columns(line: str, separator: str) -> list[str]:
    """The names in a head, as they are known here."""
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [column_name(cell) for cell in cells]


def column_name(written: str) -> str:
    """A column's name in one spelling, whatever its case and whether words are parted by spaces, hyphens or lines."""
    return "_".join(written.lower().replace("-", " ").replace("_", " ").split())


def _check(columns: list[str], fields: Collection[str] | None, required: Collection[str]) -> None:
    """Refuses a head without the columns that are needed, or with others.

    Raises:
        ValueError: says which.
    """
    if missing := [name for name in required if name not in columns]:
        raise ValueError(
            f"its first row names no column {' and no '.join(missing)}: let it name the columns "
            f"({', '.join(fields or required)}), separated by commas"
        )
    unknown = next((name for name in columns if fields is not None and name and name not in fields), None)
    if unknown is not None:
        raise ValueError(f"it has an unknown column {unknown!a}; known are {', '.join(fields or ())}")
    if twice := next((name for name, count in Counter(filter(None, columns)).items() if count > 1), None):
        raise ValueError(f"it has two columns {twice}: keep one")
