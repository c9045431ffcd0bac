"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.formats import COSTS, FACTS, blocks, cell, costs, facts, heading
from piva_bench.report.results import SECTIONS
from piva_bench.report.statistics import Interval
from piva_bench.report.tables import Table
from piva_bench.streams import encodable

UNLIMITED = 1000


def print_table(table: Table, console: Console) -> None:
    """Print a table; where the terminal is narrow, in several pieces. Into a pipe each row is one line."""
    if not console.is_terminal:
        console = Console(file=console.file, width=UNLIMITED)
    wide = console.options.update(width=UNLIMITED)

    def say(text: str) -> str:
        # Before widths are measured: an equivalent may be longer.
        return encodable(text, console.encoding)

    lines = [
        Text(say(table.title), style="bold"),
        *(Text(say(line), style="dim") for line in (*table.head, *table.notes)),
    ]
    console.print(Group(*lines), soft_wrap=True)
    columns = list(range(len(table.metrics) + len(COSTS)))
    while columns:
        count = len(columns)
        piece = _rich(table, columns, say)
        while count > 1 and console.measure(piece, options=wide).maximum > console.width:
            count -= 1
            piece = _rich(table, columns[:count], say)
        columns = columns[count:]
        console.print(piece)


def _rich(table: Table, chosen: Sequence[int], say: Callable[[str], str]) -> RichTable:
    """The method column, N, the mask condition, and the chosen ones of the metric and cost columns."""
    metrics = table.metrics
    result = RichTable(box=None, pad_edge=False, header_style="bold")
    result.add_column("Method", no_wrap=True)
    for name in FACTS:
        result.add_column(name, justify="right", no_wrap=True)
    heads = [heading(metric).replace(" ×", "\n×") for metric in metrics] + [name for name, _, _ in COSTS]
    for index in chosen:
        result.add_column(escape(say(heads[index])), justify="right", no_wrap=True)
    for group, section, rows in blocks(table):
        title = " · ".join(text for text in (group, section if section != SECTIONS["method"] else "") if text)
        if title:
            result.add_row(Text(say(title), style="italic dim"))
        for row in rows:
            cells = [_rich_cell(row.cells[m.name], m, row.n, table.best(m, row), say) for m in metrics]
            cells += map(Text, map(say, costs(row)))
            result.add_row(
                Text(say(row.label)), *map(Text, map(say, facts(row))), *(cells[index] for index in chosen)
            )
    return result


def _rich_cell(value: Interval, metric: MetricInfo, n: int, best: bool, say: Callable[[str], str]) -> Text:
    mean, _, rest = say(cell(value, metric, n)).partition(" ")
    text = Text(mean, style="bold" if best else "")
    return text.append(f" {rest}", style="dim") if rest else text
