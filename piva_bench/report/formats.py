"""Tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import groupby

import pandas as pd

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.results import SECTIONS
from piva_bench.report.statistics import Interval
from piva_bench.report.tables import Row, Table
from piva_bench.text import printable

MISSING = "–"
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
COSTS: tuple[tuple[str, Callable[[Row], float], int], ...] = (
    ("s/edit", lambda row: row.seconds, 2),
    ("UNet evals", lambda row: row.unet_evaluations, 0),
    ("Peak MB", lambda row: row.peak_memory_mb, 0),
)
_FORMULA = tuple("=+-@|%")
"""What a spreadsheet's formula or command may begin with."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def to_csv(table: Table) -> str:
    """Every number as it is stored, with interval ends, counts and the set-up in columns."""
    return csv_text(table.frame())


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV. Texts that a spreadsheet would take for formulas begin with an apostrophe."""
    safe = frame.copy()
    for column in safe.select_dtypes(exclude="number"):
        safe[column] = safe[column].map(_no_formula)
    return safe.rename(columns=_no_formula).to_csv(index=False, lineterminator="\n")


def _no_formula(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip()[:1] in _FORMULA else text


def signed(value: float, metric: MetricInfo) -> str:
    """A difference at the metric's table scale."""
    return MISSING if math.isnan(value) else f"{value * metric.scale:+.2f}"


def number(value: float, decimals: int) -> str:
    """A number with a fixed count of decimals, or a dash for NaN."""
    return MISSING if math.isnan(value) else f"{value:.{decimals}f}"


def cell(value: Interval, metric: MetricInfo, n: int) -> str:
    """``mean ± margin`` at the metric's table scale; ``[k]`` follows where it is defined for k of n samples."""
    text = number(value.mean * metric.scale, 2)
    if not math.isnan(value.margin):
        text += f" ± {value.margin * metric.scale:.2f}"
    return text if value.n in (0, n) else f"{text} [{value.n}]"


def _power(scale: float) -> int:
    return round(math.log10(scale))


def heading(metric: MetricInfo) -> str:
    """Column head: title, scale and direction."""
    scale = f" ×10{str(_power(metric.scale)).translate(_SUPERSCRIPT)}" if metric.scale != 1 else ""
    arrow = f" {ARROWS[metric.direction]}" if metric.direction != "none" else ""
    return f"{metric.title}{scale}{arrow}"


FACTS = ("N", "Mask")


def facts(row: Row) -> list[str]:
    """The cells that say how many samples a row averages, and the mask condition of its edits."""
    return [str(row.n) + (f" ({row.failed} failed)" if row.failed else ""), row.mask]


def costs(row: Row) -> list[str]:
    """The cells of the cost columns."""
    return [number(value(row), decimals) for _, value, decimals in COSTS]


def blocks(table: Table) -> list[tuple[str | None, str, list[Row]]]:
    """Rows in blocks of one group and section: (group, section title, rows)."""
    keyed = groupby(table.rows, key=lambda row: (row.group, row.section))
    return [(group, SECTIONS[section], list(rows)) for (group, section), rows in keyed]


# Markdown ---------------------------------------------------------------------------------------------------


def markdown_escape(text: str) -> str:
    """Text that stays text in a Markdown table cell."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured table; the best of each block is bold, reference rows do not compete."""
    grouped = table.rows and table.rows[0].group is not None
    first = ["Edit type", "Method"] if grouped else ["Method"]
    heads = [*first, *FACTS, *map(heading, table.metrics), *(name for name, _, _ in COSTS)]
    lines = [f"### {table.title}", "", *(markdown_escape(line) + "  " for line in table.head)]
    lines += [
        *(markdown_escape(line) + "  " for line in table.notes[:-1]),
        markdown_escape(table.notes[-1]),
        "",
    ]
    lines += [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(first) + "---:|" * (len(heads) - len(first)),
    ]
    for group, section, rows in blocks(table):
        empty = [""] * (len(heads) - len(first))
        if section != SECTIONS["method"]:
            title = f"*{section}*"
            lines.append(
                "| " + " | ".join([markdown_escape(group or ""), title][-len(first) :] + empty) + " |"
            )
        for row in rows:
            cells = []
            for metric in table.metrics:
                text = markdown_escape(cell(row.cells[metric.name], metric, row.n))
                cells.append(f"**{text}**" if table.best(metric, row) else text)
            label = [markdown_escape(text) for text in ([group or ""] if grouped else []) + [row.label]]
            lines.append("| " + " | ".join([*label, *facts(row), *cells, *costs(row)]) + " |")
    return "\n".join(lines) + "\n"


# LaTeX ------------------------------------------------------------------------------------------------------

_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
          "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
          ">": r"\textgreater{}", "±": r"$\pm$", "·": r"$\cdot$", "×": r"$\times$", "–": "--", "…": r"\ldots{}",
          # At the beginning of a row they would belong to the \\ before it.
          "[": "{[}", "*": "{*}",
          "↑": r"$\uparrow$", "↓": r"$\downarrow$"}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text that stays text in LaTeX; after a line's end a bracket or star would be its argument."""
    return "".join(_LATEX.get(character, character) for character in re.sub(r"\s+", " ", text))


def _latex_heading(metric: MetricInfo) -> str:
    scale = rf" $\times 10^{{{_power(metric.scale)}}}$" if metric.scale != 1 else ""
    arrow = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "none": ""}[metric.direction]
    return latex_escape(metric.title) + scale + arrow


def to_latex(table: Table) -> str:
    """A table for LaTeX with the packages booktabs and graphicx (it is fitted to the line width)."""
    grouped = table.rows and table.rows[0].group is not None
    first = ["Edit type", "Method"] if grouped else ["Method"]
    heads = [
        *first,
        *FACTS,
        *map(_latex_heading, table.metrics),
        *(latex_escape(name) for name, _, _ in COSTS),
    ]
    caption = latex_escape(". ".join((table.title, *table.head, *table.notes)) + ".")
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{caption}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{'l' * len(first)}{'r' * (len(heads) - len(first))}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
    ]
    for group, section, rows in blocks(table):
        lines.append(r"\midrule")
        if section != SECTIONS["method"]:
            lines.append(rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{latex_escape(section)}}}}} \\")
        for row in rows:
            cells = []
            for metric in table.metrics:
                text = latex_escape(cell(row.cells[metric.name], metric, row.n))
                if table.best(metric, row):
                    text = rf"\textbf{{{text}}}"
                elif table.second(metric, row):
                    text = rf"\underline{{{text}}}"
                cells.append(text)
            label = [latex_escape(text) for text in ([group or ""] if grouped else []) + [row.label]]
            lines.append(
                " & ".join([*label, *map(latex_escape, facts(row)), *cells, *map(latex_escape, costs(row))])
                + r" \\"
            )
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
    return "\n".join(lines) + "\n"
