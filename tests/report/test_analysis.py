"""Comparisons, figures and the page of a report."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from piva_bench.report.analysis import LINKED, write_analysis
from piva_bench.report.comparisons import comparisons, comparisons_markdown
from piva_bench.report.curves import to_svg
from piva_bench.report.html import report_page, to_html
from piva_bench.report.plane import plane
from piva_bench.report.plots import convergence, cost_quality, load_traces
from piva_bench.report.results import load_results, metrics_of
from piva_bench.report.strength import headline, strength_markdown
from piva_bench.report.tables import by_type_table, method_table
from piva_bench.report.write import write_report
from piva_bench.runs.edit import Edit
from piva_bench.runs.store import Store
from tests.report.runs import make_run


class Tags(HTMLParser):
    """The open elements of a page must be closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(html):
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


@pytest.fixture
def results(run):
    """The made-up run with all that the figures need."""
    rng = np.random.default_rng(0)
    frame = load_results(run)
    return frame.assign(
        clip_target=rng.uniform(0.2, 0.3, len(frame)), stlpips=rng.uniform(0.01, 0.2, len(frame)),
        colour_drift=rng.uniform(0, 9, len(frame)), saturation_change=rng.normal(0, 3, len(frame)),
    )  # fmt: skip


def test_html_tables_hold_the_numbers_of_the_others_and_escape_names(results):
    results["variant"] = results["variant"].replace("piva", "<script>piva</script>")
    table = method_table(results)
    page = parse(to_html(table))
    assert "script" not in page.seen
    text = " ".join(page.text)
    assert "<script>piva</script>" in text
    for row in table.rows:
        assert f"{row.cells['psnr'].mean:.2f}" in text
    assert page.seen.count("strong") >= 1


def test_second_best_needs_a_third(samples, tmp_path):
    levels = {"piva": 20.0, "dds": 18.0, "sds": 16.0, "identity": 50.0}
    table = method_table(load_results(make_run(tmp_path / "run", samples, levels)))
    psnr = next(metric for metric in table.metrics if metric.name == "psnr")
    ranks = {row.label: (table.best(psnr, row), table.second(psnr, row)) for row in table.rows}
    assert ranks == {
        "piva": (True, False), "dds": (False, True), "sds": (False, False), "identity": (False, False)
    }  # fmt: skip


def test_a_report_has_its_figures_and_its_page_shows_them(results, run, tmp_path):
    with Store(run) as store:
        for record in store.records().values():
            png = store.image_path(record.key).read_bytes()
            store.commit([Edit(record, png, {"loss": [3.0, 2.0, float("nan")], "distance": [0.1, 0.2, 0.3]})])
    write_analysis(tmp_path / "report", results, method_table(results), by_type_table(results), run)
    names = {"strength", "by_type", "cost", "colour", "convergence"}
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == names
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    parse(page)
    assert {source.removesuffix(".png") for source in re.findall(r'<img src="([^"]+)"', page)} == names
    for name in names:
        with Image.open(tmp_path / "report" / f"{name}.png") as picture:
            assert picture.width >= 1000
        assert b"<text" in (tmp_path / "report" / f"{name}.svg").read_bytes()


def test_every_link_of_a_written_report_leads_somewhere(run, samples):
    swept = run / "report" / "piva-weight"
    swept.mkdir(parents=True)
    for name in ("tradeoff.png", "tradeoff.svg", "sweep.csv", "sweep.md", "sweep.tex"):
        (swept / name).touch()
    directory = write_report(run, samples).directory
    page = (directory / "index.html").read_text(encoding="utf-8")
    assert "piva-weight/tradeoff.png" in page
    for name in LINKED:
        assert (name in page) == (directory / name).is_file()
    for link in re.findall(r'(?:href|src)="([^"#]+)"', page):
        assert link == "data:," or (directory / link).is_file(), link


def test_comparisons_say_who_is_better_in_the_metric_s_direction(results):
    results.loc[results["method"] == "piva", "stlpips"] = 0.001
    results["colour_drift"] = results["sample_id"].astype(int) + (results["method"] == "piva") * 1.0
    text = comparisons_markdown(results, comparisons(results))
    lpips = text.partition("#### ST-LPIPS")[2].partition("####")[0]
    assert re.search(r"\| dds \| piva \| \+.*\| piva \|", lpips)
    drift = text.partition("#### Colour drift")[2]
    assert re.search(r"\| dds \| piva \| -1.00 .*\| dds \|", drift)
    assert "independent samples a difference of" in lpips


def test_one_method_alone_has_nothing_to_compare(results):
    alone = results[results["method"] == "piva"]
    assert "no two methods" in comparisons_markdown(alone, comparisons(alone))
    parse(report_page(alone, (method_table(alone), by_type_table(alone)), comparisons(alone), []))


def test_a_sweep_is_compared_at_the_strength_of_the_others(samples, tmp_path):
    runs = [make_run(tmp_path / "dds", samples, {"dds": 1.0})]
    runs += [make_run(tmp_path / str(w), samples, {"piva": 1.0}, params={"weight": w}) for w in (0.1, 0.9)]
    frames = [load_results(path) for path in runs]
    for frame, strength, distance in zip(frames, (0.5, 0.8, 0.2), (0.30, 0.40, 0.10), strict=True):
        frame["clip_target"], frame["stlpips"] = strength, distance
    frames[1]["variant"], frames[2]["variant"] = "piva (weight=0.1)", "piva (weight=0.9)"
    results = pd.concat(frames, ignore_index=True)
    axes = plane(results)
    assert [axis.name for axis in axes] == ["clip_target", "stlpips"]
    found = headline(results)
    (row,) = found.pairs.to_dict("records")
    # The worst corner is (0.2, 0.40): dds spans 0.3 x 0.1, of piva's settings neither spans anything.
    assert (row["first"], row["second"]) == ("dds", "piva")
    assert (row["strength"], row["second_identity"], row["difference"]) == pytest.approx((0.5, 0.25, 0.05))
    assert (row["first_volume"], row["second_volume"]) == pytest.approx((0.03, 0))
    assert set(found.front.loc[found.front["on_front"], "variant"]) == {*found.front["variant"]}
    volumes = found.front.set_index("variant")["hypervolume"]
    assert volumes["dds"] == pytest.approx(0.03)
    assert volumes["piva (weight=0.1)"] == pytest.approx(0)
    # Nothing varies here, so the intervals are the numbers themselves; all of what is dominated is dds's.
    text = strength_markdown(found)
    assert r"| dds | piva | **+100.0 \[+100.0, +100.0\]** | 50.00 | **+50.0 \[+50.0, +50.0\]** |" in text
    assert "Of dds there is one setting" in found.how
    assert "there is one setting" not in headline(results[results["method"] == "piva"]).how
    curves = {each.label: each for each in found.curves}
    assert list(curves) == ["dds", "piva (2 settings of weight)"]
    swept = curves["piva (2 settings of weight)"]
    assert swept.kind == "sweep"
    assert [place.strength.mean for place in swept.places] == pytest.approx([0.2, 0.8])


def test_only_methods_of_one_section_compete_and_a_blend_is_a_curve_of_its_own(results):
    results.loc[results["method"] == "piva", "section"] = "end"
    found = headline(results)
    assert {each.label for each in found.curves} == {"dds", "piva, blended at the end", "identity"}
    assert found.pairs.empty
    assert "### Pareto front" in strength_markdown(found)
    assert headline(results[results["section"] == "reference"]) is None


def test_report_and_gallery_begin_with_the_same_figure_and_table(run, samples):
    with Store(run) as store:
        for record in store.records().values():
            old = store.load_scores("studio-v1", record.key)
            values = {**old.values, "clip_target": 0.1 + old.values["psnr"] / 100}
            store.save_scores(record.key, old.model_copy(update={"values": values}))
    directory = write_report(run, samples).directory
    pages = [(directory / name).read_text(encoding="utf-8") for name in ("index.html", "gallery/index.html")]
    tables = [re.findall(r"<td[^>]*>(.*?)</td>", page.partition("</table>")[0]) for page in pages]
    assert tables[0] == tables[1]
    assert {"dds", "piva"} <= set(tables[0])
    assert all("strength.png" in page for page in pages)
    figures = [(directory / name).read_bytes() for name in ("strength.png", "gallery/strength.png")]
    assert figures[0] == figures[1]


def test_traces_of_unequal_length_and_torn_ones(run):
    results = load_results(run)
    keys = list(results.loc[results["variant"] == "piva", "key"])
    (run / "traces").mkdir(exist_ok=True)
    for key, text in zip(keys, ('{"loss":[1,2,3]}', '{"loss":[1]}', "{", '{"loss":[null,4]}'), strict=False):
        (run / "traces" / f"{key}.json").write_text(text)
    (traces,) = load_traces(run, results).values()
    np.testing.assert_array_equal(traces["loss"], [[1, 2, 3], [1, np.nan, np.nan], [np.nan, 4, np.nan]])
    assert b"loss" in to_svg(convergence({"piva": traces}, []))


def test_reference_rows_are_lines_of_the_cost_figure_and_do_not_stretch_it(results):
    results.loc[results["method"] == "identity", "seconds"] = 1e-4
    results.loc[results["method"] == "dds", "seconds"] = 1.0
    table = method_table(results)
    metrics = [metric for metric in table.metrics if metric.name in ("stlpips", "psnr")]
    for axes, metric in zip(cost_quality(table, metrics).axes, metrics, strict=True):
        low, high = axes.get_xlim()
        assert 0.5 < low < 1 < 2 < high < 3
        levels = {
            line.get_label(): line.get_ydata()[0]
            for line in axes.get_lines()
            if line.get_label() == "identity"
        }
        (row,) = [row for row in table.rows if row.label == "identity"]
        assert levels["identity"] == pytest.approx(row.cells[metric.name].mean * metric.scale)


def test_metrics_that_nobody_scored_leave_their_figures_out(run, tmp_path):
    results = load_results(run).drop(columns=["stlpips", "psnr", "psnr_outside"])
    assert metrics_of(results) == []
    assert plane(results) is None
    write_analysis(tmp_path, results, method_table(results), by_type_table(results), run)
    assert not list(tmp_path.glob("*.png"))
