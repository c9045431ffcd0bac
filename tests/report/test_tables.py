import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.formats import (
    cell,
    heading,
    latex_escape,
    markdown_escape,
    to_csv,
    to_latex,
    to_markdown,
)
from piva_bench.report.results import load_results
from piva_bench.report.statistics import Interval
from piva_bench.report.tables import NOTE, Row, Table, by_type_table, method_table, shape_notes
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
    print_table(method_table(load_results(run)), console)
    text = console.file.getvalue()
    assert "…" not in text
    for part in ("ST-LPIPS", "PSNR out", "s/edit", "Peak MB", "Reference rows", "23.00 ± 2.48 [6]"):
        assert part in text
    table_lines = text.splitlines()[4:]
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
