"""Writing a run's report: page, tables in four formats, figures, comparisons, contact sheet and gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from piva_bench.data.sample import Sample
from piva_bench.files import png_bytes
from piva_bench.report.analysis import write_analysis
from piva_bench.report.contact_sheet import MAX_ROWS, sheet_of_run
from piva_bench.report.formats import to_csv, to_latex, to_markdown
from piva_bench.report.gallery.write import write_gallery
from piva_bench.report.html import to_html
from piva_bench.report.masks import with_coverage
from piva_bench.report.published import beside
from piva_bench.report.published import to_markdown as published_to_markdown
from piva_bench.report.results import head, load_results, stated_protocol
from piva_bench.report.tables import Table, by_type_table, method_table
from piva_bench.runs.inside import Warn, ignore, make_way, remove_file, write_own

FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "html": to_html}


@dataclass(frozen=True)
class Report:
    """What was written: the tables of the protocol's headline metrics; the first is the one to print."""

    directory: Path
    methods: Table
    by_type: Table
    note: str = ""
    """Where published numbers stand beside these, or why they do not."""


def report_folder(output_dir: Path, protocol: str | None) -> str:
    """Where a report lies: ``report`` by the protocol of the run's profile, ``report/<protocol>`` by another one."""
    own = stated_protocol(output_dir)
    return (
        "report"
        if protocol is None or own is None or protocol == own
        else f"report/{protocol.rpartition(':')[2]}"
    )


def write_report(
    output_dir: Path, samples: Mapping[str, Sample], protocol: str | None = None, warn: Warn = ignore
) -> Report:
    """Write ``<output_dir>/report/``: ``index.html``, ``methods`` and ``by_type`` (the protocol's headline metrics)
    as CSV, Markdown, LaTeX and HTML, both with all metrics as ``methods-full`` and ``by_type-full``, what
    `write_analysis` says, ``contact_sheet.png``, ``overview.png`` (a row for each edit type), ``gallery/index.html``,
    and ``published.md`` where published numbers are comparable.

    Args:
        output_dir: a run's directory.
        samples: the dataset's samples by id.
        protocol: whose scores; by default that of the run's profile.
        warn: told, in one line each, about what is torn and left out.

    Raises:
        DataError: no records, or scores that cannot share a table.
        UserError: the run was scored with several protocols and none was named.
    """
    results = with_coverage(load_results(output_dir, protocol, warn), samples)
    directory = make_way(output_dir, f"{report_folder(output_dir, protocol)}/index.html", warn).parent
    published = beside(results, output_dir)
    note = f"No published numbers beside these: {published.reason}." if published.reason else ""
    if not published.rows.empty:
        text = published_to_markdown(results, published.rows)
        write_own(directory / "published.md", text.encode())
        note = f"Published beside measured: {directory / 'published.md'}"
    else:
        remove_file(directory / "published.md", warn)
    whole = {"methods": method_table(results), "by_type": by_type_table(results)}
    short = {name: table.compact(f"{name}-full") for name, table in whole.items()}
    for name, table in [*short.items(), *((f"{name}-full", table) for name, table in whole.items())]:
        for suffix, convert in FORMATS.items():
            write_own(directory / f"{name}.{suffix}", convert(table).encode())
    report = Report(directory, short["methods"], short["by_type"], note)
    front = write_analysis(report.directory, results, report.methods, report.by_type, output_dir, warn)
    for name, rows in (("contact_sheet", MAX_ROWS), ("overview", results["edit_type"].nunique())):
        sheet = sheet_of_run(results, samples, output_dir / "images", head(results), rows)
        write_own(report.directory / f"{name}.png", png_bytes(sheet))
    write_gallery(
        make_way(directory, "gallery/index.html", warn).parent, results, samples, output_dir, warn, front
    )
    return report
