import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFont

import piva_bench.report.contact_sheet as contact_sheet_module
from piva_bench.report.contact_sheet import (
    _FONTS as FONTS,
)
from piva_bench.report.contact_sheet import (
    CELL,
    UNDRAWN,
    SheetRow,
    _wrap,
    changed_words,
    contact_sheet,
    sheet_of_run,
    spread,
)
from piva_bench.report.results import load_results, variants_in_order
from piva_bench.report.tables import method_table
from piva_bench.report.write import write_report
from tests.report.runs import make_run


def flat(level, side=64):
    return np.full((side, side, 3), level, np.uint8)


def colours(sheet):
    return {tuple(c) for c in np.asarray(sheet).reshape(-1, 3)}


def test_changed_words_are_found_by_place():
    words = changed_words("a photo of a cup on grass", "a photo of a red cup on the grass")
    assert [word for word, new in words if new] == ["red", "the"]
    assert all(new for _, new in changed_words("", "all new"))


def test_every_cell_is_enlarged_without_smoothing():
    picture = flat(0)
    picture[0, 0] = 255
    sheet = contact_sheet(["t"], ["source", "edit"], [SheetRow("s", "a", "b", [picture, flat(77)])])
    pixels = np.asarray(sheet)
    assert (pixels == 77).all(axis=2).sum() == CELL * CELL
    assert sheet.width >= 2 * CELL


@pytest.mark.parametrize("side", [32, 64, 100, 300])
def test_any_size_fits(side):
    sheet = contact_sheet(["t"], ["source"], [SheetRow("s", "a", "b", [flat(77, side)])])
    shown = (np.asarray(sheet) == 77).all(axis=2).sum() ** 0.5
    assert shown == max(side, side * -(-CELL // side))


def test_a_setting_s_name_breaks_at_its_joints_and_never_in_a_number():
    font = ImageFont.truetype(FONTS / "DejaVuSans-Bold.ttf", 12)
    for name in ("piva (preservation_weight=100.0)", "piva (steps=1000, guidance_scale=7.5)"):
        for width in (100, 128):
            pieces = [
                word for line in _wrap([(w, "black") for w in name.split()], font, width) for word, _ in line
            ]
            assert "".join(pieces) == name.replace(" ", "")
            numbers = re.findall(r"[0-9.]+", name)
            assert all(sum(number in piece for piece in pieces) >= 1 for number in numbers), pieces


def test_columns_stand_in_the_table_s_order_numbers_by_their_size(samples, tmp_path):
    for weight in (0.5, 10, 2):
        make_run(tmp_path, samples, {"piva": 1.0}, params={"weight": weight})
    make_run(tmp_path, samples, {"dds": 1.0, "identity": 1.0})
    results = load_results(tmp_path)
    rows = [row.label for row in method_table(results).rows]
    assert rows == ["dds", "piva (weight=0.5)", "piva (weight=2)", "piva (weight=10)", "identity"]
    assert [variant for _, variant in variants_in_order(results)] == rows


def test_long_prompts_wrap_and_odd_ones_do_no_harm():
    for prompt in (
        "",
        "word " * 80,
        "x" * 500,
        "ünïcödé \u0000 \u4e2d\u6587 \U0001f600",
        "<b>a</b>\n\n&amp;",
    ):
        sheet = contact_sheet(["t"], ["source"], [SheetRow("s", "a photo", prompt, [flat(77)])])
        assert sheet.width < 600
        # Nothing is written over the margin.
        assert (np.asarray(sheet)[:, -8:] == 255).all()


@pytest.mark.parametrize("text", ["\u4e2d\u6587", "a \U0001f955 b"])
def test_characters_without_a_picture_are_noted(text):
    plain = contact_sheet(["t"], ["source"], [SheetRow("s", "a photo", "ünïcödé “x” →", [flat(77)])])
    noted = contact_sheet(["t"], ["source"], [SheetRow("s", "a photo", text, [flat(77)])])
    said = contact_sheet(["t", UNDRAWN], ["source"], [SheetRow("s", "a photo", "a", [flat(77)])])
    assert noted.height == said.height > plain.height
    assert (np.asarray(noted)[:50] == np.asarray(said)[:50]).all()


def test_a_failed_edit_shows_its_reason():
    cells = [flat(77), "failed: the loss is not a number " * 20]
    sheet = contact_sheet(["t"], ["source", "dds"], [SheetRow("s", "a", "b", cells)])
    assert (238, 238, 238) in colours(sheet)


def test_samples_are_spread_over_the_types():
    frame = pd.DataFrame({"sample_id": [f"{i:02d}" for i in range(40)], "edit_type": ["a"] * 30 + ["b"] * 10})
    chosen = spread(frame, 12)
    assert len(chosen) == 12
    assert sum(int(i) >= 30 for i in chosen) == 6
    assert chosen == sorted(chosen)


def test_the_sheet_of_a_run_shows_methods_but_not_twice_the_source(run, samples):
    results = load_results(run)
    sheet = sheet_of_run(results, samples, run / "images", ["title"])
    # source, dds, piva, counterfactual
    assert sheet.width == 2 * 12 + 4 * CELL + 3 * 6
    (run / "images" / f"{results['key'].iloc[0]}.png").write_bytes(b"torn")
    assert sheet_of_run(results, samples, run / "images", ["title"]).size == sheet.size


def test_of_very_many_settings_the_sheet_shows_some_and_says_so(run, samples, monkeypatch):
    monkeypatch.setattr(contact_sheet_module, "MAX_COLUMNS", 3)
    frame = load_results(run)
    many = pd.concat(
        [frame[frame["method"] == "dds"].assign(variant=f"dds (steps={i})") for i in range(1, 10)],
        ignore_index=True,
    )
    shown = {}
    monkeypatch.setattr(
        contact_sheet_module, "contact_sheet", lambda title, columns, rows: shown.update(t=title, c=columns)
    )
    sheet_of_run(many, samples, run / "images", ["title"])
    assert shown["t"][-1] == "3 of 9 settings; the gallery has all of them"
    assert shown["c"] == ["source", "dds (steps=1)", "dds (steps=5)", "dds (steps=9)", "counterfactual"]


def test_the_report_is_written_whole_and_again(run, samples):
    report = write_report(run, samples)
    first = {path: path.read_bytes() for path in report.directory.rglob("*.*")}
    names = {str(path.relative_to(report.directory)) for path in first}
    tables = {f"{n}.{s}" for n in ("methods", "by_type") for s in ("csv", "md", "tex")}
    assert names >= tables | {"contact_sheet.png", "gallery/index.html", "gallery/data.js"}
    write_report(run, samples)
    assert {path: path.read_bytes() for path in report.directory.rglob("*.*")} == first
    with Image.open(report.directory / "contact_sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_a_run_of_another_machine_s_data_still_has_tables(run):
    report = write_report(run, {})
    assert (report.directory / "methods.csv").is_file()
