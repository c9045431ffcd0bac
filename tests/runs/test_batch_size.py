"""The batch size that memory has room for."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from piva_bench.runs.batch_size import PeakMemory, fitting, free_memory


@given(
    fixed=st.integers(0, 1 << 34), each=st.integers(1, 1 << 34), budget=st.integers(0, 1 << 38),
    most=st.sampled_from([1, 2, 16, 64]),
)  # fmt: skip
def test_what_is_chosen_fits_and_twice_as_much_would_not(fixed, each, budget, most):
    def takes(count):
        return fixed + each * count

    size = fitting(takes, budget, most)
    assert 1 <= size <= most
    assert size == 1 or takes(size) <= budget
    assert size == most or takes(2 * size) > budget
    assert size & (size - 1) == 0


def test_trials_are_no_more_than_needed_and_may_fail():
    asked = []

    def takes(count):
        asked.append(count)
        return None if count == 2 else 100

    assert fitting(takes, 1600, 16) == 16
    assert asked == [1]
    assert fitting(takes, 1599, 16) == 1
    assert fitting(lambda _: None, 1 << 40, 16) == 1


def test_the_peak_is_of_this_block_alone():
    before = PeakMemory(torch.device("cpu"))
    big = torch.ones(100_000_000)  # float32
    del big
    assert 380e6 < before.growth() < 500e6
    assert before.megabytes() > before.growth() / 1e6
    after = PeakMemory(torch.device("cpu"))
    assert after.growth() < 50e6
    assert free_memory(torch.device("cpu")) > 1e6
