import numpy as np
import pytest

from piva_bench.metrics.colour import chroma, colour_drift, saturation_change
from piva_bench.metrics.protocol import Undefined


def flat(*rgb):
    return np.full((16, 16, 3), rgb, np.uint8)


# CIELAB of the sRGB primaries (D65, 2 degrees), as tabulated by B. Lindbloom, brucelindbloom.com.
@pytest.mark.parametrize(
    ("rgb", "a", "b"),
    [
        ((255, 0, 0), 80.1, 67.2),
        ((0, 255, 0), -86.2, 83.2),
        ((0, 0, 255), 79.2, -107.9),
        ((128, 128, 128), 0, 0),
    ],
)
def test_chroma_of_known_colours(rgb, a, b):
    assert chroma(flat(*rgb)).mean() == pytest.approx(np.hypot(a, b), abs=0.1)


def lightness(level):
    linear = ((level / 255 + 0.055) / 1.055) ** 2.4
    return 116 * np.cbrt(linear) - 16


def test_drift_between_greys_has_a_closed_form():
    # For neutral colours CIEDE2000 is the lightness difference over S_L (Sharma et al. 2005, equation 15).
    low, high = lightness(100), lightness(140)
    middle = ((low + high) / 2 - 50) ** 2
    expected = (high - low) / (1 + 0.015 * middle / np.sqrt(20 + middle))
    assert colour_drift(flat(100, 100, 100), flat(140, 140, 140)) == pytest.approx(expected, abs=1e-3)


def test_drift_is_zero_for_equal_pictures_symmetric_and_local():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert colour_drift(first, first) == 0
    assert colour_drift(first, second) == pytest.approx(colour_drift(second, first))
    mask = np.zeros((16, 16), bool)
    mask[:8] = True
    mixed = np.where(mask[..., None], first, second)
    assert colour_drift(first, mixed, mask) == 0
    assert colour_drift(first, mixed, ~mask) == pytest.approx(colour_drift(first, second, ~mask))


def test_saturation_rises_with_distance_from_grey_and_says_nothing_of_hue():
    grey, pale, strong = flat(128, 128, 128), flat(160, 110, 110), flat(220, 40, 40)
    assert saturation_change(grey, pale) == pytest.approx(chroma(pale).mean(), abs=0.01)
    assert saturation_change(pale, strong) > 0 > saturation_change(strong, pale)
    assert saturation_change(grey, flat(30, 30, 30)) == pytest.approx(0, abs=0.01)


def test_an_undefined_region_passes_through():
    nothing = Undefined("why")
    assert colour_drift(flat(0, 0, 0), flat(0, 0, 0), nothing) is nothing
    assert saturation_change(flat(0, 0, 0), flat(0, 0, 0), nothing) is nothing
