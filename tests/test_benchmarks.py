"""The benchmarks' scripts run and say what they should."""

import pytest

from benchmarks import engine, grid
from tests.tiny_sd import tiny_sd

__all__ = ["tiny_sd"]


def test_the_script_prints_ratios(tiny_sd, capsys):
    engine.main(
        model=str(tiny_sd), shape=None, samples=2, steps=1, repeats=1, weights="0,0.4,0.8", device="cpu",
        dtype="float32", threads=None, only="rows,dds,piva,sweep",
    )  # fmt: skip
    out = capsys.readouterr().out
    assert out.count("ratio") == 5
    assert out.count("bound") == 3
    assert "8 rows a call" in out
    # 4 + 8 + 8 rows, of which the source's two are shared twice and psi's training once.
    assert f"{15 / 20:.0%} of the UNet rows" in out


def test_the_simulated_scheduler_keeps_to_its_bounds():
    """Where nothing varies the hours are those of a pencil: of the workers, or of a driver that is always busy."""
    free = grid.Costs(commit=0.0, find=0.0, load=30.0)
    alone = grid.simulate(1000, 1, 10, 9.0, free, spread=0)
    assert alone.hours == pytest.approx((30 + 9000) / 3600)
    assert (alone.driver, alone.waiting) == (0, 0)
    assert grid.simulate(1000, 10, 10, 9.0, free, spread=0).hours == pytest.approx((30 + 900) / 3600)
    # Fewer batches than workers: one batch's time.
    assert grid.simulate(20, 10, 10, 9.0, free, spread=0).hours == pytest.approx((30 + 90) / 3600)
    slow = grid.Costs(commit=1.0, find=0.0, load=0.0)
    # Ten workers would bring 10/9 edits a second, the driver stores one.
    held_up = grid.simulate(10_000, 10, 10, 9.0, slow, spread=0)
    assert held_up.hours * 3600 == pytest.approx(10_000, rel=0.02)
    assert held_up.driver > 0.98
    assert grid.bottleneck(held_up, 0) == "storing"
    assert grid.bottleneck(alone, 0) == "the GPUs"
    assert grid.bottleneck(alone, alone.hours) == "finding what is stored"


def test_what_the_driver_does_is_measured():
    costs = grid.measure(side=64, edits=10)
    assert 0 < costs.find < costs.commit < 5
