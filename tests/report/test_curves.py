import math
from xml.etree import ElementTree

import numpy as np
import pytest

from piva_bench.metrics.protocol import MetricInfo
from piva_bench.report.curves import COLOURS, Curve, Place, look, to_png, to_svg, tradeoff
from piva_bench.report.statistics import Interval

CLIP = MetricInfo("clip", "CLIP", "cosine", "higher", 100, "text", "")
DISTANCE = MetricInfo("stlpips", "ST-LPIPS", "", "lower", 1000, "identity", "")


def place(note, x, y, margin=0.01):
    return Place(note, Interval(x, margin, 8), Interval(y, margin / 10, 8))


CURVES = [
    Curve("piva", "sweep", (place("0", 0.30, 0.05), place("0.4", 0.28, 0.03), place("0.8", 0.25, 0.01))),
    Curve("sds", "method", (place("", 0.31, 0.09),)),
    Curve("identity", "reference", (place("", 0.2, 0.0, math.nan),)),
    Curve("broken", "method", (place("", math.nan, math.nan),)),
]


def test_places_are_drawn_at_the_tables_scale_and_better_is_up():
    axes = tradeoff(CURVES, CLIP, DISTANCE).axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(lines["piva"].get_xydata(), [[30, 50], [28, 30], [25, 10]])
    assert lines["piva"].get_linestyle() == "-"
    assert lines["sds"].get_linestyle() == "None"
    assert "broken" not in lines
    assert axes.yaxis_inverted()  # a smaller distance is better
    assert not axes.xaxis_inverted()
    assert [text.get_text() for text in axes.texts if text.get_text()][:3] == ["0", "0.4", "0.8"]


def test_the_band_is_the_interval():
    axes = tradeoff(CURVES, CLIP, DISTANCE).axes[0]
    band = max(axes.collections, key=lambda one: len(one.get_paths()[0].vertices) if one.get_paths() else 0)
    vertices = band.get_paths()[0].vertices
    assert vertices[:, 1].min() == pytest.approx(10 - 1)
    assert vertices[:, 1].max() == pytest.approx(50 + 1)


def test_colours_differ_in_lightness_too():
    assert len(set(COLOURS)) == len(COLOURS) == 7


def test_files_are_whole_and_equal_figures_are_equal_files():
    figures = [tradeoff(CURVES, CLIP, DISTANCE, ["profile <embedded> & more"]) for _ in range(2)]
    assert to_png(figures[0]).startswith(b"\x89PNG")
    first, second = map(to_svg, figures)
    assert first == second
    text = " ".join(ElementTree.fromstring(first).itertext())
    assert "profile <embedded> & more" in text
    assert "ST-LPIPS ×10³ ↓" in text


def test_notes_of_places_that_lie_together_keep_apart():
    places = tuple(place(str(i), 0.300 + i / 1e4, 0.05 + i / 1e5) for i in range(6))
    figure = tradeoff([Curve("piva", "sweep", places), *CURVES[1:3]], CLIP, DISTANCE)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_forty_nine_methods_look_different():
    assert len({look(i) for i in range(49)}) == 49
