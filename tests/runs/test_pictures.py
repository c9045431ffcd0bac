"""Between a method's tensor and the picture that is saved: a fixed range, one size, nothing normalised."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.method import EditOutcome
from piva_bench.runs.edit import Edit, encode_png
from piva_bench.runs.kinds import KINDS
from tests.report.runs import make_record

PICTURES = KINDS["pictures"]


def saved(image):
    """What a reader of the file gets that the store writes of a method's picture."""
    encoded = PICTURES.encode(EditOutcome("s", image), "0" * 32, keep_field=False)
    with Image.open(io.BytesIO(encoded.png), formats=["PNG"]) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture)


def test_minus_one_to_one_is_0_to_255_for_every_level():
    levels = torch.arange(256, dtype=torch.float64)
    image = (levels / 255 * 2 - 1).float().reshape(1, 16, 16).expand(3, 16, 16)
    np.testing.assert_array_equal(saved(image), np.arange(256).reshape(16, 16, 1).repeat(3, axis=2))


@pytest.mark.parametrize(("value", "level"), [(-1.0, 0), (1.0, 255), (0.0, 128), (1.0005, 255), (-1.0005, 0)])
def test_a_flat_picture_keeps_its_level(value, level):
    assert (saved(torch.full((3, 8, 8), value)) == level).all()


@given(arrays.arrays(np.float32, (3, 4, 4), elements=st.floats(-1, 1, width=32)))
def test_a_pixel_s_level_depends_on_no_other_pixel(values):
    """The nearest of 256 levels between -1 and 1, whatever else is in the picture: none is stretched to full range."""
    wanted = (values.astype(np.float64) + 1) * 127.5
    assert np.abs(saved(torch.from_numpy(values)).transpose(2, 0, 1) - wanted).max() <= 0.5 + 1e-4


def test_a_method_s_picture_of_another_size_is_no_result_and_the_reason_names_the_cure():
    reason = PICTURES.fault(EditOutcome("s", torch.zeros(3, 32, 32)), 64)
    assert reason.startswith("the picture has the shape (3, 32, 32), not (3, 64, 64)")
    assert "return it at its source's size" in reason
    assert PICTURES.fault(EditOutcome("s", torch.zeros(3, 64, 64)), 64) is None


@pytest.mark.parametrize("side", [32, 63, 128])
def test_a_stored_picture_of_another_size_is_neither_cropped_nor_resized(side):
    png, sha = encode_png(np.zeros((side, side, 3), dtype=np.uint8))
    record = make_record("dds", "000000000000", "0_random").model_copy(update={"image_sha": sha})
    with pytest.raises(DataError, match=f"{side} x {side} pixels, not 64 x 64: make the edit again at 64 px"):
        Edit(record, png).image()
