"""What is left changed is put back, one thing at a time and all at once, also where an error ends it."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from piva_bench.runs.guard import SETTINGS, undisturbed

CHANGES = {
    "the default device": lambda: torch.set_default_device("meta"),
    "the default type of numbers": lambda: torch.set_default_dtype(torch.float64),
    "whether gradients are recorded": lambda: torch.set_grad_enabled(False),
    "the number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "the precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "the environment": lambda: (os.environ.update(PIVA_TEST="1"), os.environ.pop("HOME", None)),
    "the working directory": lambda: os.chdir("/"),
}


def world():
    return (
        torch.get_default_device(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), dict(os.environ),
        Path.cwd(),
    )  # fmt: skip


def test_there_is_a_change_for_each_setting():
    assert list(CHANGES) == [setting.name for setting in SETTINGS]


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_is_put_back_and_named(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")
    before, told = world(), []
    with undisturbed(told.append):
        CHANGES[name]()
        assert world() != before
    assert world() == before
    assert told == [f"{name}: left changed, and put back"]


def test_an_error_changes_nothing_about_that_and_draws_are_as_if_nobody_had_drawn(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")
    before, told = world(), []
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002

    def all_of_it():
        with undisturbed(told.append):
            torch.rand(7), random.random(), np.random.rand(5)  # noqa: NPY002
            for change in CHANGES.values():
                change()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        all_of_it()
    assert world() == before
    assert all(name in told[0] for name in CHANGES)
    drawn = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(drawn[0], expected[0])
    assert drawn[1:] == expected[1:]


def test_nothing_is_said_where_nothing_was_changed():
    with undisturbed(pytest.fail):
        torch.rand(1)
        with torch.no_grad():
            torch.zeros(1)
