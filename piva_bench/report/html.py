"""Tables and the report's page as HTML. Every text is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from piva_bench.report.comparisons import METHOD, compared_metrics, p_text, power_line, verdict
from piva_bench.report.figures import TITLES
from piva_bench.report.formats import COSTS, FACTS, blocks, cell, costs, facts, heading, signed
from piva_bench.report.results import SECTIONS, head
from piva_bench.report.strength import SHOWN, Headline
from piva_bench.report.tables import Table

_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    loader=jinja2.FileSystemLoader(_TEMPLATES),
)


def to_html(table: Table) -> str:
    """A ``<table>`` with a caption; the best of each block is ``<strong>``, the second underlined."""
    return _ENVIRONMENT.get_template("table.html.j2").render(**_table(table))


def report_page(
    results: pd.DataFrame,
    tables: Sequence[Table],
    compared: pd.DataFrame,
    figures: Sequence[str],
    files: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    front: Headline | None = None,
) -> str:
    """The page that a report opens with: tables, figures, comparisons, links to gallery and files.

    Args:
        results: from `load_results`.
        tables: shown in this order.
        compared: from `comparisons`.
        figures: names of the figures that were written.
        files: further files of the report to link to.
        sweeps: folders of the report that hold a sweep's table and trade-off curve.
        front: what the page begins with; its figure is among the figures.
    """
    comparisons = []
    for metric in compared_metrics(results):
        part = compared[compared["metric"] == metric.name]
        rows = [
            {
                "cells": [
                    row["first"],
                    row["second"],
                    signed(row["difference"], metric),
                    f"{signed(row['low'], metric)} … {signed(row['high'], metric)}",
                    p_text(row["p_holm"]),
                    str(row["samples"]),
                ],
                "better": verdict(row, metric),
            }
            for row in part.to_dict("records")
        ]
        if rows:
            line = power_line(part, metric)
            comparisons.append({"title": heading(metric), "rows": rows, "power": line})
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    return _ENVIRONMENT.get_template("report.html.j2").render(
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        title=f"{results['dataset'].iloc[0]} · {results['profile'].iloc[0]}",
        head=head(results),
        tables=[_table(table) for table in tables],
        figures=[(name, TITLES.get(name, name)) for name in figures if name != "strength"],
        front=front_page(front, "strength.png") if front else "",
        files=files,
        sweeps=sweeps,
        comparisons=comparisons,
        how=METHOD,
    )


def front_page(front: Headline, figure: str) -> Markup:
    """The strength figure and its table, as they stand at the front of the report and of the gallery.

    Args:
        front: what they show.
        figure: the figure's file, relative to the page.
    """
    rows = front.rows()
    return Markup(
        _ENVIRONMENT.get_template("front.html.j2").render(
            front=front, figure=figure, rows=rows[:SHOWN], more=len(rows[SHOWN:])
        )
    )


def _table(table: Table) -> dict[str, Any]:
    grouped = bool(table.rows) and table.rows[0].group is not None
    first = ["Edit type", "Method"] if grouped else ["Method"]
    parts = []
    for group, section, rows in blocks(table):
        lines = []
        for row in rows:
            values = [
                (
                    cell(row.cells[metric.name], metric, row.n),
                    "best" if table.best(metric, row) else "second" if table.second(metric, row) else "",
                )
                for metric in table.metrics
            ]
            values += [(text, "") for text in costs(row)]
            label = ([group or ""] if grouped else []) + [row.label]
            lines.append({"label": label, "facts": facts(row), "cells": values})
        parts.append({"section": section if section != SECTIONS["method"] else "", "rows": lines})
    return {
        "caption": table.title,
        "lines": [*table.head, *table.notes],
        "first": first,
        "facts": FACTS,
        "heads": [(heading(metric), metric.description) for metric in table.metrics]
        + [(name, "") for name, _, _ in COSTS],
        "parts": parts,
    }
