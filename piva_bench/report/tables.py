"""Tables of a run: a row per method, or per edit type and method, with intervals and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.masks import CONDITIONS, COVERAGE, coverage_notes
from piva_bench.report.results import SETUP, head, metrics_of, table_order, undefined_samples
from piva_bench.report.statistics import Interval, mean_interval
from piva_bench.report.statistics_paired import cluster_of

NOTE = (
    "mean ± 95 % interval (Student's t over samples, seeds averaged first; clustered by object where the dataset "
    "names it)"
)

SHAPE = "reference_silhouette_iou"
"""How well an edit's shape agrees with the true one."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        section: key of `results.SECTIONS`.
        label: the method, with parameters where a run holds several settings of it.
        group: edit type, or None in a table over all types.
        n: samples with a picture.
        failed: edits without one.
        coverage: mean share of a picture that the samples' edit masks cover; NaN where nobody knows.
        cells: metric name to its mean over samples.
        seconds: mean wall time per edit.
        unet_evaluations: mean UNet rows per edit, adapter training included.
        peak_memory_mb: the highest of any edit; NaN where it was not measured.
    """

    section: str
    label: str
    group: str | None
    n: int
    failed: int
    cells: dict[str, Interval]
    seconds: float
    unet_evaluations: float
    peak_memory_mb: float
    coverage: float = math.nan

    @property
    def mask(self) -> str:
        """What its edits were told of where they belong: none, own or blended; a dash for reference rows."""
        return CONDITIONS[self.section]


@dataclass(frozen=True)
class Table:
    """A table, ready to be written in any format.

    Attributes:
        title: what it shows.
        head: what its numbers stand on.
        metrics: its metric columns.
        rows: by group, then section, then label.
        setup: the set-up as values, for machine-readable formats.
        notes: how to read it, and what a reader must not miss; a line each.
    """

    title: str
    head: tuple[str, ...]
    metrics: tuple[MetricInfo, ...]
    rows: tuple[Row, ...]
    setup: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = (NOTE,)

    def compact(self, full: str) -> Table:
        """The table of the protocol's headline metrics, and a line on how many more columns there are and where.

        Args:
            full: the name of the whole table's files, without suffix.
        """
        chosen = tuple(headline_metrics(self.metrics))
        if not (more := len(self.metrics) - len(chosen)):
            return self
        sign = f"… {more} more {'column' if more == 1 else 'columns'} in {full}"
        return replace(self, metrics=chosen, notes=(*self.notes[:-1], sign, self.notes[-1]))

    def best(self, metric: MetricInfo, row: Row) -> bool:
        """Whether a row has the best mean among the rows it competes with (same group, same section)."""
        ranked = self._ranked(metric, row)
        return len(ranked) > 0 and row.cells[metric.name].mean == ranked[0]

    def second(self, metric: MetricInfo, row: Row) -> bool:
        """Whether a row has the second best mean among at least three that it competes with."""
        ranked = self._ranked(metric, row)
        return len(ranked) > 2 and row.cells[metric.name].mean == ranked[1] != ranked[0]

    def _ranked(self, metric: MetricInfo, row: Row) -> list[float]:
        """The means of a row and its rivals from the best on; empty where nothing is to be ranked."""
        if metric.direction == "none" or row.section == "reference":
            return []
        rivals = [r for r in self.rows if (r.group, r.section) == (row.group, row.section)]
        means = [m for r in rivals if not math.isnan(m := r.cells[metric.name].mean)]
        return sorted(means, reverse=metric.direction == "higher") if len(means) > 1 else []

    def frame(self) -> pd.DataFrame:
        """The table as numbers: stored values (not scaled), interval ends, counts, costs, set-up."""
        rows = []
        for row in self.rows:
            line: dict[str, object] = {"section": row.section, "method": row.label}
            if row.group is not None:
                line = {"edit_type": row.group, **line}
            line |= {
                "samples": row.n,
                "failed": row.failed,
                "mask_condition": row.mask,
                COVERAGE: row.coverage,
            }
            for name in (metric.name for metric in self.metrics):
                cell = row.cells[name]
                line |= {
                    name: cell.mean,
                    f"{name}_low": cell.low,
                    f"{name}_high": cell.high,
                    f"{name}_n": cell.n,
                }
            line |= {
                "seconds_per_edit": row.seconds,
                "unet_evaluations_per_edit": row.unet_evaluations,
                "peak_memory_mb": row.peak_memory_mb,
            }
            rows.append({**line, **self.setup})
        return pd.DataFrame(rows)


def headline_metrics(metrics: Sequence[MetricInfo]) -> Sequence[MetricInfo]:
    """Those that the protocol marks for compact tables; all where it marks none."""
    return [metric for metric in metrics if metric.headline] or list(metrics)


def method_table(results: pd.DataFrame) -> Table:
    """All metrics by method, over all edit types.

    Args:
        results: from `load_results`.

    Raises:
        DataError: the frame mixes set-ups.
    """
    return _table(results, "Results by method", None)


def by_type_table(results: pd.DataFrame) -> Table:
    """All metrics by edit type and method.

    Args:
        results: from `load_results`.

    Raises:
        DataError: the frame mixes set-ups.
    """
    return _table(results, "Results by edit type and method", "edit_type")


def _table(results: pd.DataFrame, title: str, group: str | None) -> Table:
    lines = tuple(head(results))
    metrics = tuple(metrics_of(results))
    clusters = cluster_of(results)
    keys = ["section", "variant"] if group is None else [group, "section", "variant"]
    rows = []
    for key, part in results.groupby(keys, sort=False):
        *groups, section, label = map(str, key)
        rows.append(_row(part, metrics, clusters, section, label, groups[0] if groups else None))
    rows.sort(key=lambda row: (row.group or "", table_order(row.section, row.label)))
    setup = {column: str(results[column].iloc[0]) for column in SETUP}
    more = [*coverage_notes(results), *undefined_notes(results, metrics), *shape_notes(rows)]
    notes = (*more, NOTE) if group is None else (NOTE,)
    return Table(title, lines, metrics, tuple(rows), setup, notes)


def shape_notes(rows: Sequence[Row]) -> list[str]:
    """Says it in words where edits of shape are on average further from the truth than no edit at all."""
    known = [row for row in rows if SHAPE in row.cells and not math.isnan(row.cells[SHAPE].mean)]
    undone = next((row.cells[SHAPE].mean for row in known if row.label.split(" (")[0] == "identity"), None)
    if undone is None:
        return []
    below = [row for row in known if row.section != "reference" and row.cells[SHAPE].mean < undone]
    if not below:
        return []
    each = ", ".join(f"{row.label} {100 * row.cells[SHAPE].mean:.1f}" for row in below)
    return [
        f"The silhouettes of {each} agree less with the counterfactual's than those of the unedited source "
        f"({100 * undone:.1f}): to change nothing would be nearer to the true shape"
    ]


def undefined_notes(results: pd.DataFrame, metrics: Sequence[MetricInfo]) -> list[str]:
    """Which metrics are defined for no edit of some samples, how many those are, and why.

    Of most datasets these are the samples without a background: their edit mask covers the whole picture.
    """
    alike: dict[tuple[str, frozenset[str]], list[str]] = {}
    for (name, reason), samples in undefined_samples(results).items():
        alike.setdefault((reason, samples), []).append(name)
    titles = {metric.name: metric.title for metric in metrics}
    count = results["sample_id"].nunique()
    lines = []
    for (reason, samples), names in alike.items():
        which = ", ".join(title for name, title in titles.items() if name in names)
        lines.append(f"Undefined for {len(samples)} of {count} samples ({reason}): {which}")
    return lines


def _row(
    part: pd.DataFrame,
    metrics: Sequence[MetricInfo],
    clusters: pd.Series,
    section: str,
    label: str,
    group: str | None,
) -> Row:
    done = part[part["status"] == "ok"]
    per_sample = done.groupby("sample_id")[[metric.name for metric in metrics]].mean()
    objects = list(clusters.reindex(per_sample.index))
    return Row(
        section=section,
        label=label,
        group=group,
        n=int(done["sample_id"].nunique()),
        failed=int((part["status"] == "failed").sum()),
        cells={metric.name: mean_interval(per_sample[metric.name], clusters=objects) for metric in metrics},
        seconds=float(done["seconds"].mean()),
        unet_evaluations=float(done["unet_evaluations"].mean()),
        peak_memory_mb=float(pd.to_numeric(done["peak_memory_mb"]).max()),
        coverage=float(part.groupby("sample_id")[COVERAGE].first().mean()) if COVERAGE in part else math.nan,
    )
