import math

import numpy as np
import pytest
import skimage.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from piva_bench.metrics.pixels import PSNR_CEILING, mse, psnr, region, ssim, ssim_map
from piva_bench.metrics.protocol import Undefined
from tests.metrics.pictures import photograph


def pictures(strength=20):
    first = photograph()
    noise = np.random.default_rng(0).normal(0, strength, first.shape)
    return first, (first + noise).clip(0, 255).astype(np.uint8)


def tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 255


def test_mse_and_psnr_equal_scikit_image_and_torchmetrics():
    first, second = pictures()
    assert mse(first, second) * 255**2 == pytest.approx(skimage.metrics.mean_squared_error(first, second))
    expected = skimage.metrics.peak_signal_noise_ratio(first, second, data_range=255)
    assert psnr(first, second) == pytest.approx(expected)
    theirs = peak_signal_noise_ratio(tensor(second), tensor(first), data_range=1.0)
    assert psnr(first, second) == pytest.approx(theirs.item(), abs=1e-4)


@pytest.mark.parametrize("strength", [2, 20, 80])
def test_ssim_equals_torchmetrics(strength):
    first, second = pictures(strength)
    _, theirs = structural_similarity_index_measure(
        tensor(second), tensor(first), data_range=1.0, return_full_image=True
    )
    # torchmetrics reflects the border another way and averages it in; inside they must agree.
    inner = theirs[0].mean(0)[5:-5, 5:-5].numpy()
    assert np.allclose(ssim_map(first, second)[5:-5, 5:-5], inner, atol=1e-9)
    assert ssim(first, second) == pytest.approx(inner.mean(), abs=1e-9)


def test_ssim_map_equals_the_written_out_formula():
    first, second = pictures()
    y, x, c = 30, 41, 1
    offset = np.arange(-5, 6)
    window = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (p[y - 5 : y + 6, x - 5 : x + 6].astype(float) for p in (first, second))
    similarity = []
    for c in range(3):
        p, q = a[..., c], b[..., c]
        mp, mq = (window * p).sum(), (window * q).sum()
        vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
        cov = (window * (p - mp) * (q - mq)).sum()
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        similarity.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    assert ssim_map(first, second)[y, x] == pytest.approx(np.mean(similarity), abs=1e-9)


@given(level=st.integers(0, 255), step=st.integers(1, 255), rows=st.integers(1, 63))
def test_a_flat_change_has_a_closed_form_in_any_region(level, step, rows):
    first = np.full((64, 64, 3), level, np.uint8)
    second = first.copy()
    changed = min(255, level + step) if level + step <= 255 else level - min(step, level)
    second[:rows] = changed
    mask = np.zeros((64, 64), bool)
    mask[:rows] = True
    difference = (changed - level) / 255
    assert mse(first, second, mask) == pytest.approx(difference**2)
    assert mse(first, second, ~mask) == 0
    assert mse(first, second) == pytest.approx(difference**2 * rows / 64)
    if difference:
        assert psnr(first, second, mask) == pytest.approx(-20 * math.log10(abs(difference)))


def test_region_means_add_up_to_the_whole():
    first, second = pictures()
    mask = np.random.default_rng(1).random((64, 64)) < 0.3
    share = mask.mean()
    parts = share * mse(first, second, mask) + (1 - share) * mse(first, second, ~mask)
    assert parts == pytest.approx(mse(first, second))
    whole = ssim_map(first, second).mean()
    assert share * ssim(first, second, mask) + (1 - share) * ssim(first, second, ~mask) == pytest.approx(
        whole
    )


def test_what_lies_outside_a_region_does_not_count():
    first, second = pictures()
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    other = second.copy()
    other[~mask] = 0
    assert psnr(first, second, mask) == psnr(first, other, mask)


def test_equal_pictures_reach_the_ceiling_and_nothing_exceeds_it():
    first, _ = pictures()
    assert psnr(first, first) == pytest.approx(PSNR_CEILING) == pytest.approx(10 * math.log10(12 * 255**2))
    assert ssim(first, first) == pytest.approx(1)
    one_level = first.copy()
    one_level[0, 0, 0] ^= 1
    assert psnr(first, one_level) <= PSNR_CEILING


def test_regions_without_pixels_are_undefined_with_a_reason():
    full, empty = np.ones((64, 64), bool), np.zeros((64, 64), bool)
    assert region(full, inside=False) == Undefined("the edit mask covers the whole picture")
    assert region(empty, inside=True) == Undefined("the edit mask is empty")
    assert region(None, inside=True) == Undefined("the sample has no edit mask")
    first, second = pictures()
    for metric in (mse, psnr, ssim):
        assert isinstance(metric(first, second, region(full, inside=False)), Undefined)
        assert metric(first, second, region(full, inside=True)) is not None
