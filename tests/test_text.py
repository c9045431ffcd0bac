"""Text from elsewhere in terminals, spreadsheets, LaTeX and figures."""

import csv
import io
import warnings
from unicodedata import category

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from piva_bench.report.curves import plain, to_png
from piva_bench.report.formats import csv_text, latex_escape
from piva_bench.text import one_line, printable


def test_control_characters_are_shown():
    assert printable("\x1b[31mred\x07\u202e\ud800\r") == "\\x1b[31mred\\x07\\u202e\\ud800\\r"
    assert one_line("a\n  b\t\x1bc") == "a b \\x1bc"
    assert printable("café 猫 🐱 ×") == "café 猫 🐱 ×"


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_obeys(text):
    shown = printable(text)
    shown.encode()
    assert not {category(character) for character in shown} & {"Cc", "Cs"}
    assert "\n" not in one_line(text)


@given(st.text(min_size=1))
def test_no_cell_of_a_csv_is_a_formula(text):
    content = csv_text(pd.DataFrame({"a": [text], "b": [-1.5]}))
    cell, number = list(csv.reader(io.StringIO(content, newline="")))[1]
    assert cell.lstrip()[:1] not in tuple("=+-@|%")
    assert cell in (printable(text), f"'{printable(text)}")
    assert number == "-1.5"


def test_a_row_of_latex_does_not_begin_with_an_argument():
    assert latex_escape("[1in] *x*") == "{[}1in] {*}x{*}"


def test_figures_show_markup_and_what_they_have_no_letters_for():
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_ylabel(plain(r"$\frac$ 猫 _x"))
    axes.plot([0, 1], label=plain("_hidden $"))
    figure.legend()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_png(figure)
    assert len(figure.legends[0].get_texts()) == 1
