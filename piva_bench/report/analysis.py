"""What a run's report says beyond its tables: comparisons, figures, and the page that shows all of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from piva_bench.report.comparisons import comparisons, comparisons_markdown
from piva_bench.report.diagnoses import diagnoses, diagnoses_frame, diagnoses_markdown
from piva_bench.report.drift import courses, drift_frame, drift_markdown, drift_metrics
from piva_bench.report.figures import write_figures
from piva_bench.report.formats import csv_text
from piva_bench.report.html import report_page
from piva_bench.report.plots import load_traces
from piva_bench.report.strength import Headline, headline, strength_markdown
from piva_bench.report.tables import Table
from piva_bench.runs.inside import Warn, ignore, write_own

LINKED = ("strength.md", "strength.csv", "pareto.csv", "drift.md", "drift.csv", "adapters.md", "adapters.csv",
          "published.md")  # fmt: skip
"""What the page links to where it was written."""


def write_analysis(
    directory: Path,
    results: pd.DataFrame,
    by_method: Table,
    by_type: Table,
    output_dir: Path,
    warn: Warn = ignore,
) -> Headline | None:
    """Write ``comparisons``, ``strength``, ``drift`` and ``adapters`` as CSV and Markdown, ``pareto.csv``, the figures
    as PNG and SVG, and ``index.html``; returns what stands at its front.

    Args:
        directory: the report's.
        results: from `load_results`.
        by_method: their table.
        by_type: their table by edit type.
        output_dir: the run's directory, for its traces.
        warn: told about traces that are torn.
    """
    compared = comparisons(results)
    front = headline(results)
    files = {
        "comparisons.csv": csv_text(compared),
        "comparisons.md": comparisons_markdown(results, compared),
    }
    if front:
        files["strength.csv"] = csv_text(front.pairs)
        files["pareto.csv"] = csv_text(front.front)
        files["strength.md"] = strength_markdown(front)
    if drifting := courses(results):
        files["drift.csv"] = csv_text(drift_frame(drifting))
        files["drift.md"] = drift_markdown(drifting, drift_metrics(results))
    traces = load_traces(output_dir, results, warn)
    if known := diagnoses(traces):
        files["adapters.csv"] = csv_text(diagnoses_frame(known))
        files["adapters.md"] = diagnoses_markdown(known)
    figures = write_figures(directory, results, by_method, by_type, traces, drifting, front)
    linked = [name for name in LINKED if name in files or (directory / name).exists()]
    sweeps = sorted(path.parent.name for path in directory.glob("*/tradeoff.png"))
    tables = (by_method, by_type)
    files["index.html"] = report_page(results, tables, compared, figures, linked, sweeps, front)
    for name, text in files.items():
        write_own(directory / name, text.encode())
    return front
