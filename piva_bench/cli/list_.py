"""``piva-bench list``: what there is to run."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from piva_bench.cli import options
from piva_bench.errors import ModelError, UserError

Row = dict[str, Any]


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    datasets = "datasets"
    protocols = "protocols"
    profiles = "profiles"


def list_(
    kind: Annotated[Kind | None, typer.Argument(help="Only these.", show_default="everything")] = None,
    profile: options.ProfileName = "embedded",
    data_root: options.DataRoot = None,
    as_json: options.Json = False,
) -> None:
    """List methods, datasets, protocols and profiles, and whether they can be used here."""
    from piva_bench.params import tunables
    from piva_bench.profiles import PROFILES, get_profile, resolve_model
    from piva_bench.registry import DATASETS, METHODS, PROTOCOLS

    chosen_profile = get_profile(profile)

    def method(name: str) -> Row:
        cls = METHODS.load(name)
        card, strength = cls.card, cls.card.strength
        models = (cls.Params, *cls.kinds.values())
        tuned = dict.fromkeys(each for model in models for each in tunables(model))
        return {
            "title": card.title,
            "kind": card.kind,
            "uses_mask": card.uses_mask,
            "supervised": card.supervised,
            "paper": card.paper,
            "strength": strength and strength.parameter,
            "tuned": ", ".join(each for each in tuned if strength is None or each != strength.parameter)
            or None,
        }

    def dataset(name: str) -> Row:
        opened = DATASETS.load(name)(chosen_profile, data_root)
        return {
            "title": opened.card.title,
            "samples": len(opened.samples),
            "resolution": opened.resolution,
            "revision": opened.revision,
        }

    def protocol(name: str) -> Row:
        # Loading it would import torch, seconds that a list is not worth.
        return {"defined in": PROTOCOLS.origin(name)}

    def one_profile(name: str) -> Row:
        each = PROFILES[name]
        row: Row = {"title": each.title, "resolution": each.resolution, "protocol": each.protocol}
        try:
            resolve_model(each.model)
        except ModelError as error:
            row["status"] = str(error)
        return row

    sources: dict[Kind, tuple[list[str], Callable[[str], Row]]] = {
        Kind.methods: (METHODS.names(), method),
        Kind.datasets: (DATASETS.names(), dataset),
        Kind.protocols: (PROTOCOLS.names(), protocol),
        Kind.profiles: (list(PROFILES), one_profile),
    }
    listing = {
        each.value: [_row(name, describe) for name in names]
        for each, (names, describe) in sources.items()
        if kind in (None, each)
    }
    if as_json:
        typer.echo(json.dumps(listing, indent=1))
    else:
        _print(listing)


def _row(name: str, describe: Callable[[str], Row]) -> Row:
    try:
        return {"name": name, "status": "ok", **describe(name)}
    except UserError as error:
        return {"name": name, "status": str(error)}


def _print(listing: dict[str, list[Row]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for kind, rows in listing.items():
        table = Table(title=kind, title_justify="left", title_style="bold", box=None, pad_edge=False)
        columns = list(dict.fromkeys(column for row in rows for column in row if column != "status"))
        for column in (*columns, "status"):
            # Names are typed again by people: they are never cut.
            table.add_column(column.replace("_", " "), no_wrap=column == "name")
        for row in rows:
            table.add_row(*(Text(_text(row.get(column))) for column in (*columns, "status")))
        console.print(table)
        console.print()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
