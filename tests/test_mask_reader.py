"""Masks as programs save them: the region that is meant, or one line, never silently nothing or everything."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from piva_bench.data.pictures import fit, fit_mask
from piva_bench.errors import DataError
from piva_bench.mask_reader import to_mask
from piva_bench.picture_reader import decode

REGION = np.zeros((10, 14), bool)
REGION[2:6, 3:11] = True


def marked(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return to_mask(decode(buffer.getvalue(), "m.png"))


def levels(values, dtype):
    return Image.fromarray((REGION * np.array(values)).astype(dtype))


def palette(colours, numbers):
    image = Image.fromarray(numbers.astype(np.uint8), mode="P")
    image.putpalette(np.array(colours, np.uint8).ravel().tolist())
    return image


def painted(colour, alpha=255):
    layers = np.zeros((*REGION.shape, 4), np.uint8)
    layers[REGION] = (*colour, alpha)
    return Image.fromarray(layers)


def coloured(inside, outside):
    pixels = np.where(REGION[..., None], np.array(inside), np.array(outside))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        levels(255, np.uint8),
        levels(1, np.uint8),
        levels(200, np.uint8),
        levels(65535, np.uint16),
        levels(255, np.uint16),
        levels(1, np.uint16),
        Image.fromarray(REGION),
        palette([(0, 0, 0), (255, 255, 255)], REGION),
        palette([(255, 255, 255), (0, 0, 0)], ~REGION),
        palette([(0, 0, 0), (128, 0, 0)], REGION),
        palette([(0, 0, 0), (1, 1, 1)], REGION),
        palette([(0, 0, 0), (9, 9, 9), (0, 128, 0)], REGION * 2),
        painted((255, 255, 255)),
        levels(255, np.uint8).convert("LA"),
        levels(255, np.uint8).convert("RGB"),
        levels(1, np.uint8).convert("RGB"),
        coloured((255, 0, 0), (0, 0, 0)),
        coloured((0, 0, 255), (10, 10, 10)),
    ],
)
def test_ways_in_which_one_region_is_saved(image):
    assert np.array_equal(marked(image), REGION)


@pytest.mark.parametrize(
    ("top", "dtype"), [(1, np.float32), (255, np.float32), (1, np.int32), (255, np.int32)]
)
def test_numbers_of_other_kinds(top, dtype):
    assert np.array_equal(marked(levels(top, dtype), format="TIFF"), REGION)


def test_a_jpeg_and_soft_edges_are_cut_in_half():
    assert np.array_equal(marked(levels(255, np.uint8), format="JPEG", quality=95), REGION)
    disc = Image.new("L", (64, 64))
    ImageDraw.Draw(disc).ellipse((10, 10, 50, 50), fill=255)
    soft = disc.resize((32, 32), Image.Resampling.BOX)
    assert np.array_equal(marked(soft), np.asarray(soft) >= 128)


def test_orientation_tags_are_followed():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(marked(levels(255, np.uint8), exif=exif), np.rot90(REGION, -1))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (levels(0, np.uint8), "marks nothing"),
        (levels(0, np.uint16), "marks nothing"),
        (levels(3, np.uint8), "labels"),
        (levels(100, np.uint8), "labels"),
        (levels(4095, np.uint16), "labels"),
        (levels(np.nan, np.float32), "not finite"),
        (levels(-1, np.float32), "negative"),
        (painted((0, 0, 0)), "painted or the transparent"),
        (painted((200, 30, 40)), "painted or the transparent"),
        (Image.new("RGBA", (8, 8)), "painted or the transparent"),
        (coloured((255, 0, 0), (255, 255, 255)), "coloured"),
        (coloured((255, 0, 0), (0, 255, 0)), "coloured"),
        (palette([(0, 0, 0), (200, 0, 0), (0, 200, 0)], REGION * (1 + (np.arange(14) > 5))), "coloured"),
        (Image.fromarray(np.random.default_rng(0).integers(90, 160, (9, 9)).astype(np.uint8)), "mostly grey"),
    ],
)
def test_what_can_be_meant_two_ways_is_refused(image, words):
    with pytest.raises(DataError, match=words) as error:
        marked(image, format="TIFF" if image.mode in ("F", "I") else "PNG")
    assert str(error.value).startswith("m.png")
    assert "\n" not in str(error.value)


def test_a_picture_with_a_hole_is_no_mask_but_a_white_one_with_a_hole_is():
    hole = np.full((*REGION.shape, 4), 255, np.uint8)
    hole[REGION, 3] = 0
    assert np.array_equal(marked(Image.fromarray(hole)), ~REGION)  # what is painted is white
    hole[..., :3] = np.random.default_rng(0).integers(0, 255, (*REGION.shape, 3))
    with pytest.raises(DataError, match="partly transparent"):
        marked(Image.fromarray(hole))


@given(width=st.integers(1, 60), height=st.integers(1, 60), scale=st.sampled_from([0.5, 1, 2, 3]))
def test_masks_of_another_size_fit_and_of_another_shape_do_not(width, height, scale):
    _, frame = fit(Image.new("RGB", (width, height)), 64)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    left, top, right, bottom = frame.box
    placed = fit_mask(Image.new("L", size, 255), frame)
    assert placed[top:bottom, left:right].all()
    assert placed.sum() == (right - left) * (bottom - top)
    if abs(width - height) > 2:
        with pytest.raises(DataError, match="not the shape of its picture"):
            fit_mask(Image.new("L", (height, width), 255), frame)


def test_a_region_that_vanishes_is_refused():
    _, frame = fit(Image.new("RGB", (640, 640)), 16)
    dot = Image.new("L", (640, 640))
    dot.putpixel((3, 3), 255)
    with pytest.raises(DataError, match="nothing of it is left at 16 px"):
        fit_mask(dot, frame)
