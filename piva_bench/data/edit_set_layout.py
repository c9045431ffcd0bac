"""How the files of somebody's set of 3D edits lie: its card, its tables and which of their columns is what.

The contents of a ``benchmark.yaml``. One that lies in a set's own folder goes before the one that ships for its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from piva_bench.data.tables import column_name
from piva_bench.errors import DataError

FILE = "benchmark.yaml"
_GAP = re.compile(r"\{(\w+)\}")

Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
]
"""One text or several; of several the first that can be had."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(_Strict):
    """A file with a row for each edit or object."""

    file: str = Field(min_length=1, description="path below the set's folder: .csv, .json, .jsonl or .yaml")
    given: Mapping[str, str] = Field(default={}, description="values that all its rows have, by our name")


class Layout(_Strict):
    """A set of 3D edits: what it is, and where in it everything stands.

    A template is text with ``{name}`` for values of a row, by the names of ``columns``, ``given`` and, where a row
    holds several edits, ``edit`` (the column's name) and ``text`` (what it holds). One whose values are missing gives
    nothing.
    """

    title: str = Field(min_length=1)
    license: str = Field(min_length=1)
    source: str = Field(min_length=1)
    description: str
    citation: str = ""
    samples: int | None = Field(None, gt=0)
    unconfirmed: str | None = Field(None, description="what of this file nobody has compared with the data")

    tables: tuple[Table, ...] = Field(min_length=1)
    columns: Mapping[str, Names] = Field(description="our name for a value: the columns that may hold it")
    edits: Names = Field((), description="columns that are an edit each, where a row is an object")
    values: Mapping[str, Mapping[str, str]] = Field(
        default={}, description="other spellings of a value, in small letters, by our name"
    )

    id: Names
    object: Names = Field(description="what is the same for all edits of one object")
    source_prompt: Names = ()
    target_prompt: Names = ()
    instruction: Names = ()
    edit_type: Names = ()
    source_model: Names = Field(
        description="paths below the set's folder; `folder/**/name` is the one file of a name"
    )
    target_model: Names = ()
    region_model: Names = ()

    @model_validator(mode="after")
    def _known_names(self) -> Layout:
        given = {name for table in self.tables for name in table.given}
        known = {*self.columns, *given, *(("edit", "text") if self.edits else ())}
        for field in FIELDS:
            for template in getattr(self, field):
                if unknown := [name for name in _GAP.findall(template) if name not in known]:
                    raise ValueError(f"{field} asks for {{{unknown[0]}}}, which `columns` does not name")
        return self

    def named(self, row: Mapping[str, Any], table: Table) -> dict[str, str]:
        """A row's values by our names; those that are missing or empty are left out."""
        cells = {column_name(name): _text(value) for name, value in row.items() if isinstance(name, str)}
        values = dict(table.given)
        for name, columns in self.columns.items():
            found = next((text for each in columns if (text := cells.get(column_name(each)))), None)
            if found is not None:
                values[name] = self.values.get(name, {}).get(found.lower(), found)
        return values

    def several(self, row: Mapping[str, Any]) -> list[dict[str, str]]:
        """What each edit of a row has for itself: ``edit`` and ``text``, or nothing where a row is one edit."""
        if not self.edits:
            return [{}]
        return [{"edit": each, "text": text} for each in self.edits if (text := _text(row.get(each)))]


FIELDS = (
    "id", "object", "source_prompt", "target_prompt", "instruction", "edit_type", "source_model", "target_model",
    "region_model",
)  # fmt: skip
"""The fields of a `Layout` that are templates."""


def filled(templates: Names, values: Mapping[str, str]) -> list[str]:
    """The templates whose values are all there, filled in."""
    return [
        _GAP.sub(lambda gap: values[gap[1]], template)
        for template in templates
        if all(name in values for name in _GAP.findall(template))
    ]


def read_layout(path: Path) -> Layout:
    """Reads a ``benchmark.yaml``.

    Raises:
        DataError: it is missing or malformed; in one line.
    """
    try:
        return Layout.model_validate(yaml.safe_load(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _text(value: object) -> str | None:
    """What a cell says; None where it is empty or no single value."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value).strip() or None
