"""Published numbers beside measured ones, where protocol and dataset match, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from piva_bench import paths
from piva_bench.errors import DataError
from piva_bench.report.results import metrics_of
from piva_bench.runs.manifest import read_manifest

OFFICIAL_CARD, OFFICIAL_SAMPLES = "pie-bench", 700


@dataclass(frozen=True)
class Beside:
    """Published rows for a run, or why there are none.

    Attributes:
        rows: as in the files of results/published; empty where nothing matches.
        reason: why nothing is shown; empty where something is, and where nobody would expect it.
    """

    rows: pd.DataFrame
    reason: str = ""


def published_dir() -> Path:
    """The folder of published tables; only a checkout has it."""
    return paths.data_root().parent / "results" / "published"


def published_rows(protocol: str, card: str) -> pd.DataFrame:
    """All published rows of a protocol on a dataset, files in alphabetical order."""
    tables = [pd.read_csv(path) for path in sorted(published_dir().glob("*.csv"))]
    matching = [table[(table["protocol"] == protocol) & (table["dataset"] == card)] for table in tables]
    matching = [table for table in matching if len(table)]
    return pd.concat(matching, ignore_index=True) if matching else pd.DataFrame()


def beside(results: pd.DataFrame, output_dir: Path) -> Beside:
    """What may stand beside a run's table.

    Args:
        results: from `load_results`.
        output_dir: the run's directory; its manifest says which dataset it was.
    """
    protocol = str(results["protocol"].iloc[0])
    card = _card(output_dir)
    rows = published_rows(protocol, card)
    if rows.empty:
        return Beside(rows)
    fingerprint = str(results["fingerprint"].iloc[0])
    complete = results[results["status"] == "ok"].groupby("variant")["sample_id"].nunique()
    nothing = rows.iloc[:0]
    if fingerprint.startswith("other-"):
        return Beside(nothing, f"{protocol} was computed with models that are not the official ones")
    if results["dataset"].iloc[0] != "pie" or (complete != OFFICIAL_SAMPLES).any():
        return Beside(
            nothing, f"they are means over all {OFFICIAL_SAMPLES} samples, which not every method here has"
        )
    return Beside(rows)


def to_markdown(results: pd.DataFrame, published: pd.DataFrame) -> str:
    """One table: our means at the field's scales, then the published rows with their sources."""
    metrics = [metric for metric in metrics_of(results) if metric.name in published.columns]
    heads = ["Method", *(f"{metric.title} x{metric.scale:g}" for metric in metrics), "Source"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    done = results[results["status"] == "ok"]
    for variant, part in done.groupby("variant"):
        means = part.groupby("sample_id")[[metric.name for metric in metrics]].mean().mean()
        cells = [_cell(means[metric.name] * metric.scale) for metric in metrics]
        lines.append("| " + " | ".join([_text(str(variant)), *cells, "**measured here**"]) + " |")
    for _, row in published.iterrows():
        cells = [_cell(row[metric.name] * metric.scale) for metric in metrics]
        source = f"{row['source']}; {row['provenance']}" + (
            f"; {row['note']}" if _is_text(row["note"]) else ""
        )
        name = f"{row['method']} ({row['model']})"
        lines.append("| " + " | ".join([_text(name), *cells, _text(source)]) + " |")
    return "### Published beside measured\n\n" + "\n".join(lines) + "\n"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _cell(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def _text(value: str) -> str:
    return value.replace("|", "\\|").replace("<", "&lt;")


def _card(output_dir: Path) -> str:
    """The short name of the dataset's card, as the manifest has it."""
    try:
        return str(read_manifest(output_dir)["dataset"]["name"])
    except (DataError, KeyError):
        return ""
