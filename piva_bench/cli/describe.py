"""``piva-bench describe``: one method, dataset, protocol or profile in full."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from piva_bench.cli import options

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from piva_bench.params import MethodParams
    from piva_bench.profiles import Profile


class Kind(StrEnum):
    """What can be described."""

    method = "method"
    dataset = "dataset"
    protocol = "protocol"
    profile = "profile"


_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def describe(
    kind: Annotated[Kind, typer.Argument(help="What it is.")],
    name: Annotated[str, typer.Argument(help="Its name, as `piva-bench list` gives it.")],
    profile: options.ProfileName = "embedded",
    data_root: options.DataRoot = None,
    as_json: options.Json = False,
) -> None:
    """Describe a method (card, parameters, where their defaults come from), a dataset, a protocol or a profile."""
    describers = {
        Kind.method: lambda: _method(name, profile),
        Kind.dataset: lambda: _dataset(name, profile, data_root),
        Kind.protocol: lambda: _protocol(name),
        Kind.profile: lambda: _profile(name),
    }
    facts, table = describers[kind]()
    if as_json:
        typer.echo(json.dumps({**facts, **table}, indent=1, default=str))
    else:
        _print(facts, table)


Rows = list[dict[str, Any]]
Description = tuple[dict[str, Any], dict[str, Rows]]


def _method(name: str, profile_name: str) -> Description:
    from piva_bench.profiles import get_profile
    from piva_bench.registry import METHODS

    cls, profile = METHODS.load(name), get_profile(profile_name)
    first = next(iter(cls.kinds))
    tables = {"parameters": _parameters(name, cls.Params, profile, first)}
    for kind, params in cls.kinds.items():
        tables[f"for {kind}"] = _parameters(name, params, profile, kind)
    return {**cls.card.model_dump(), "defined in": METHODS.origin(name)}, tables


def _parameters(method: str, model: type[MethodParams], profile: Profile, kind: str) -> Rows:
    from piva_bench.runs.variants import defaults_of

    fields = model.model_fields
    replaced = defaults_of(method, model, profile.for_kind(kind), kind)
    # A method's own parameters before those it shares with others.
    declared = [each for base in model.__mro__ for each in vars(base).get("__annotations__", ())]
    ordered = dict.fromkeys(each for each in declared if each in fields)
    return [_parameter(each, fields[each], replaced.get(each)) for each in ordered]


def _parameter(name: str, field: FieldInfo, replaced: tuple[Any, str] | None) -> dict[str, Any]:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    source, tuned = extra.get("source", ""), extra.get("tune", [])
    default, whence = replaced or (field.default, "")
    return {
        "name": name,
        "default": default,
        "bounds": _bounds(field),
        "source": f"{whence} (else {field.default}, {source})" if whence else source,
        "tuned over": ", ".join(map(str, tuned)) if isinstance(tuned, list) else "",
        "description": field.description or "",
    }


def _bounds(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(constraint, bound):g}"
        for constraint in field.metadata
        for bound, sign in _BOUNDS.items()
        if hasattr(constraint, bound)
    ]
    if limits:
        return ", ".join(limits)
    choices = getattr(field.annotation, "__args__", ())
    return " | ".join(map(str, choices)) if choices and all(isinstance(c, str) for c in choices) else ""


def _dataset(name: str, profile_name: str, data_root: Path | None) -> Description:
    from collections import Counter

    from piva_bench.profiles import get_profile
    from piva_bench.registry import DATASETS

    opened = DATASETS.load(name)(get_profile(profile_name), data_root)
    facts = {**opened.card.model_dump(), "revision": opened.revision, "samples": len(opened.samples)}
    counts = Counter(sample.edit_type for sample in opened.samples)
    return facts, {"edit_types": [{"name": each, "samples": n} for each, n in counts.items()]}


def _protocol(name: str) -> Description:
    from dataclasses import asdict

    from piva_bench.registry import PROTOCOLS

    cls = PROTOCOLS.load(name)
    summary = (cls.__doc__ or "").split("\n\n")[0]
    facts = {"name": name, "summary": " ".join(summary.split()), "defined in": PROTOCOLS.origin(name)}
    columns = ("name", "title", "unit", "direction", "description")
    rows = [{key: asdict(info)[key] for key in columns} for info in cls.descriptors.values()]
    return facts, {"metrics": rows}


def _profile(name: str) -> Description:
    from piva_bench.profiles import get_profile

    facts = get_profile(name).model_dump()
    defaults = [{"name": key, "default": value} for key, value in facts.pop("method_defaults").items()]
    return facts, {"method_defaults": defaults}


def _print(facts: dict[str, Any], tables: dict[str, Rows]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console()
    grid = Table.grid(padding=(0, 2))
    for label, value in facts.items():
        shown = "-" if value in (None, "") else str(value)
        grid.add_row(Text(label.replace("_", " "), style="dim"), Text(shown))
    console.print(grid)
    for title, rows in tables.items():
        if not rows:
            continue
        console.print(Text(f"\n{title.replace('_', ' ')}", style="bold"))
        for row in rows:
            details = [
                f"{key} {row[key]}" for key in row if key not in ("name", "description") and row[key] != ""
            ]
            console.print(Text.assemble("  ", (row["name"], "bold cyan"), "   ", "   ".join(details)))
            if description := row.get("description"):
                console.print(Padding(Text(description, style="dim"), (0, 0, 0, 6)))
