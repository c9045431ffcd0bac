"""PIE-Bench's run-length masks against the rules of the reference decoder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from piva_bench.data.rle import check_rle, decode_mask, empty_runs, encode_mask


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_round_trip(mask):
    assert np.array_equal(decode_mask(encode_mask(mask), *mask.shape, border=False), mask)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_runs_are_maximal(mask):
    runs = encode_mask(mask)
    ends = [start + length for start, length in zip(runs[0::2], runs[1::2], strict=True)]
    assert all(length > 0 for length in runs[1::2])
    assert all(end < start for end, start in zip(ends, runs[2::2], strict=False))


def test_runs_are_row_major():
    mask = decode_mask([5, 2], 3, 4, border=False)
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2]]


def test_a_run_past_the_end_is_cut():
    assert decode_mask([10, 99], 3, 4, border=False).ravel().nonzero()[0].tolist() == [10, 11]


def test_the_border_is_forced():
    mask = decode_mask([], 4, 5)
    assert mask.sum() == 2 * 5 + 2 * 2
    assert not mask[1:-1, 1:-1].any()


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(-9, 40)), max_size=6))
def test_against_a_literal_reading_of_the_rules(runs):
    """The reference decoder's loops: a run that begins after the last pixel, or of negative length, sets nothing."""
    expected = [[0] * 5 for _ in range(4)]
    for start, length in runs:
        for offset in range(min(length, 20 - start)):
            pixel = start + offset
            expected[pixel // 5][pixel % 5] = 1
    flat = [value for run in runs for value in run]
    assert empty_runs(flat, 20) == sum(start == 20 or length < 0 for start, length in runs)
    assert decode_mask(flat, 4, 5, border=False).astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("runs", "fault"),
    [
        ("0 5", "str"),
        (None, "NoneType"),
        ([0], "odd number"),
        ([0, 2.0], "position 1"),
        ([True, 2], "True at position 0"),
        ([21, 1], "outside 0..19"),
        ([-1, 1], "outside 0..19"),
        ([0, "9" * 500], "not an integer"),
    ],
)
def test_faults_are_named(runs, fault):
    message = check_rle(runs, 20)
    assert message is not None
    assert fault in message
    assert len(message) < 120
    if isinstance(runs, list):
        with pytest.raises(ValueError, match="the mask"):
            decode_mask(runs, 4, 5)
