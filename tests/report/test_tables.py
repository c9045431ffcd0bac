import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.registry import PROTOCOLS
from piva_bench.report.formats import (
    cell,
    heading,
    latex_escape,
    markdown_escape,
    to_csv,
    to_latex,
    to_markdown,
)
from piva_bench.report.html import to_html
from piva_bench.report.masks import coverage_notes, with_coverage
from piva_bench.report.results import load_results
from piva_bench.report.statistics import Interval
from piva_bench.report.tables import (
    NOTE,
    Row,
    Table,
    by_type_table,
    method_table,
    shape_notes,
    undefined_notes,
)
from piva_bench.report.terminal import print_table
from piva_bench.runs.edit import Edit
from piva_bench.runs.store import Store
from tests.report.runs import make_record, make_run, make_samples

PSNR = MetricInfo("psnr", "PSNR", "dB", "higher", 1, "identity", "")
DISTANCE = MetricInfo("stlpips", "ST-LPIPS", "", "lower", 1000, "identity", "")


def test_means_and_intervals_by_method(run):
    table = method_table(load_results(run))
    assert [(row.section, row.label) for row in table.rows] == [
        ("method", "dds"), ("method", "piva"), ("reference", "identity")
    ]  # fmt: skip
    piva = table.rows[1]
    values = 20.0 + np.arange(8)
    assert piva.cells["psnr"].mean == pytest.approx(values.mean())
    assert piva.cells["psnr"].margin == pytest.approx(stats.t.ppf(0.975, 7) * stats.sem(values))
    assert (piva.n, piva.cells["psnr_outside"].n) == (8, 6)
    assert (piva.seconds, piva.unet_evaluations, piva.peak_memory_mb) == (2.0, 400.0, 900.0)


def test_the_compact_table_has_the_headline_metrics_and_says_where_the_others_stand(run):
    table = method_table(load_results(run))
    short = table.compact("methods-full")
    assert {metric.name for metric in table.metrics} == {"psnr", "psnr_outside", "stlpips"}
    assert [metric.name for metric in short.metrics] == ["stlpips", "psnr_outside"]
    assert "… 1 more column in methods-full" in short.notes
    for text in (convert(short) for convert in (to_csv, to_markdown, to_latex, to_html)):
        assert "psnr_outside" in text or "PSNR out" in text
    assert "psnr_low" not in to_csv(short)
    assert "psnr_low" in to_csv(table)
    # Nothing is left out of a table of headline metrics alone, so nothing is said.
    assert short.compact("methods-full") is short


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_no_protocol_declares_more_headline_metrics_than_a_reader_takes_in(name):
    assert 1 <= sum(metric.headline for metric in PROTOCOLS.load(name).descriptors.values()) <= 9


def test_samples_that_no_edit_has_a_value_of_are_counted_with_the_reason(run):
    results = load_results(run)
    (note,) = undefined_notes(results, method_table(results).metrics)
    assert note == "Undefined for 2 of 8 samples (the edit mask covers the whole picture): PSNR out"
    # What one edit of a sample has is not undefined for the sample.
    one = results["sample_id"].eq("000000000003") & results["method"].eq("dds")
    results.loc[one, "undefined"] = pd.Series([{}] * len(results))[one]
    assert undefined_notes(results, method_table(results).metrics)[0].startswith("Undefined for 1 of 8")
    results["undefined"] = None  # nothing is scored
    assert undefined_notes(results, method_table(results).metrics) == []


def test_rows_state_mask_condition_and_coverage(tmp_path, samples):
    """Masks of a quarter and of the whole picture, in turns: five eighths on average."""

    class Masked:
        def __init__(self, share):
            self.share = share

        def load_mask(self):
            mask = np.zeros((64, 64), bool)
            mask[: int(64 * self.share)] = True
            return mask

    for method, mask in (("dds", None), ("dds", "end"), ("sds", "own"), ("identity", None)):
        make_run(tmp_path, samples, {method: 1.0}, mask=mask)
    masked = {name: Masked((0.25, 1.0)[i % 2]) for i, name in enumerate(samples)}
    table = method_table(with_coverage(load_results(tmp_path), masked))
    assert [(row.label, row.mask) for row in table.rows] == [
        ("dds", "none"), ("sds", "own"), ("dds (mask=end)", "blended"), ("identity", "–"),
    ]  # fmt: skip
    assert {row.coverage for row in table.rows} == {0.625}
    assert "The edit masks cover 62 % of a picture (25 to 100 %)" in table.notes
    frame = pd.read_csv(io.StringIO(to_csv(table)))
    assert list(frame["mask_condition"]) == ["none", "own", "blended", "–"]
    assert set(frame["mask_coverage"]) == {0.625}
    for text in (to_markdown(table), to_latex(table), to_html(table)):
        assert "blended" in text
        assert "Mask" in text
    # Of a dataset that is not at hand nobody knows.
    unknown = method_table(with_coverage(load_results(tmp_path), {}))
    assert all(math.isnan(row.coverage) for row in unknown.rows)
    assert not any("cover" in note for note in coverage_notes(with_coverage(load_results(tmp_path), {})))


def test_by_type_splits_the_same_samples(run):
    results = load_results(run)
    table = by_type_table(results)
    assert len(table.rows) == 6
    assert {row.group for row in table.rows} == set(results["edit_type"])
    piva = [row.cells["psnr"].mean for row in table.rows if row.label == "piva"]
    assert np.mean(piva) == pytest.approx(23.5)


def shape_row(label, mean, section="method"):
    cells = {"reference_silhouette_iou": Interval(mean, 0.01, 4)}
    return Row(section, label, None, 4, 0, cells, 1.0, 1.0, 1.0)


def test_shapes_further_from_the_truth_than_no_edit_are_named_in_words():
    rows = [
        shape_row("dds", 0.894),
        shape_row("piva (steps=100)", 0.9),
        shape_row("sds", 0.95),
        shape_row("identity", 0.901, "reference"),
        shape_row("counterfactual", 1.0, "reference"),
    ]
    (note,) = shape_notes(rows)
    assert "dds 89.4, piva (steps=100) 90.0 agree less" in note
    assert "unedited source (90.1)" in note
    assert "sds" not in note
    info = MetricInfo("reference_silhouette_iou", "Sil. IoU cf", "", "higher", 100, "oracle", "")
    table = Table("T", ("head",), (info,), tuple(rows), notes=(NOTE, note))
    assert "agree less with the counterfactual" in to_markdown(table)
    assert "agree less with the counterfactual" in to_latex(table)
    out = io.StringIO()
    print_table(table, Console(file=out, width=200))
    assert "agree less with the counterfactual" in out.getvalue()


def test_where_edits_better_the_shape_or_nobody_knows_nothing_is_said():
    better = [shape_row("dds", 0.95), shape_row("identity", 0.9, "reference")]
    unknown = [shape_row("dds", math.nan), shape_row("identity", math.nan, "reference")]
    assert shape_notes(better) == shape_notes(unknown) == shape_notes([shape_row("dds", 0.5)]) == []


def test_seeds_are_averaged_before_samples(tmp_path, samples):
    for seed, level in ((0, 10.0), (1, 30.0)):
        make_run(tmp_path, samples, {"dds": level}, seed=seed)
    (row,) = method_table(load_results(tmp_path)).rows
    assert row.n == 8
    assert row.cells["psnr"].mean == pytest.approx(20 + 3.5)
    # Two seeds of eight samples are not sixteen samples.
    assert row.cells["psnr"].margin == pytest.approx(stats.t.ppf(0.975, 7) * stats.sem(np.arange(8)))


def test_failed_edits_are_counted_and_cost_nothing(run):
    failed = make_record("dds", "999", "0_random", status="failed", image_sha=None, reason="x", seconds=99.0)
    with Store(run) as store:
        store.commit([Edit(failed)])
    dds = method_table(load_results(run)).rows[0]
    assert (dds.n, dds.failed, dds.seconds) == (8, 1, 2.0)


def test_the_best_is_sought_among_rivals_only(run):
    table = method_table(load_results(run))
    dds, piva, identity = table.rows
    assert [table.best(PSNR, row) for row in (dds, piva, identity)] == [False, True, False]
    assert [table.best(DISTANCE, row) for row in (dds, piva, identity)] == [True, False, False]


def test_cells_state_scale_margin_and_count():
    assert cell(Interval(0.1234, 0.01, 8), DISTANCE, 8) == "123.40 ± 10.00"
    assert cell(Interval(20.0, 1.0, 6), PSNR, 8) == "20.00 ± 1.00 [6]"
    assert cell(Interval(20.0, math.nan, 1), PSNR, 1) == "20.00"
    assert cell(Interval(math.nan, math.nan, 0), PSNR, 8) == "–"
    assert heading(DISTANCE) == "ST-LPIPS ×10³ ↓"
    assert heading(PSNR) == "PSNR ↑"


def test_csv_holds_every_number_and_the_set_up(run):
    table = method_table(load_results(run))
    frame = pd.read_csv(io.StringIO(to_csv(table)))
    assert list(frame["method"]) == ["dds", "piva", "identity"]
    assert frame["psnr"][1] == pytest.approx(23.5)
    assert frame["psnr_low"][1] < 23.5 < frame["psnr_high"][1]
    assert set(frame["fingerprint"]) == {"aaaabbbbccccdddd"}
    assert list(pd.read_csv(io.StringIO(to_csv(by_type_table(load_results(run)))))["edit_type"].unique())


def test_markdown_is_a_table_with_head_and_sections(run):
    for table in (method_table(load_results(run)), by_type_table(load_results(run))):
        text = to_markdown(table)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") - line.count("\\|") for line in lines}) == 1
        assert "studio-v1 (aaaabbbbccccdddd)" in text
        assert "*Reference rows*" in text
        assert "**23.50 ± 2.05**" in text or table.rows[0].group


def test_latex_has_booktabs_caption_and_equal_columns(run):
    for table in (method_table(load_results(run)), by_type_table(load_results(run))):
        text = to_latex(table)
        for part in (r"\toprule", r"\bottomrule", "studio-v1 (aaaabbbbccccdddd)", r"\emph{Reference rows}"):
            assert part in text
        rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len({line.count(" & ") for line in rows}) == 1
        assert text.isascii()
        assert "_" not in text.replace(r"\_", "")


def test_foreign_text_stays_text():
    assert latex_escape("a_b & 50% #1 {x} ~^\\ <y>\n$") == (
        r"a\_b \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}y\textgreater{} \$"
    )
    assert (
        latex_escape("[bold] *") == "{[}bold] {*}"
    )  # first in a row they would be an option of the row before
    assert markdown_escape("a|b\n<script> *x* [y](z) `c`") == r"a\|b &lt;script> \*x\* \[y\](z) \`c\`"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_table_loses_nothing_at_any_width(run, width):
    console = Console(force_terminal=True, width=width, color_system=None, file=io.StringIO())
    table = method_table(load_results(run)).compact("methods-full")
    print_table(table, console)
    text = console.file.getvalue()
    assert text.count("…") == 1  # the sign that more columns stand elsewhere
    for part in ("ST-LPIPS", "PSNR out", "s/edit", "Peak MB", "Reference rows", "23.00 ± 2.48 [6]"):
        assert part in text
    table_lines = text.splitlines()[1 + len(table.head) + len(table.notes) :]
    assert max(map(len, table_lines)) <= width


def test_a_pipe_gets_one_line_per_row(run):
    console = Console(file=io.StringIO())
    print_table(method_table(load_results(run)), console)
    assert len([line for line in console.file.getvalue().splitlines() if line.startswith("piva")]) == 1


def test_names_with_markup_are_printed_as_they_are(tmp_path):
    samples = make_samples(tmp_path, 2)
    make_run(tmp_path / "run", samples, {"[red]odd[/red]|_m": 1.0})
    table = method_table(load_results(tmp_path / "run"))
    console = Console(force_terminal=True, width=200, color_system=None, file=io.StringIO())
    print_table(table, console)
    assert "[red]odd[/red]|_m" in console.file.getvalue()
    assert r"\[red\]odd\[/red\]\|\_m" in to_markdown(table)
