"""The benchmark's loop is the engine's method, and its script runs."""

import pytest
import torch

from benchmarks import engine, grid
from benchmarks.naive import Naive
from piva_bench.diffusion.load import load_denoiser
from tests.tiny_sd import make_tasks, tiny_sd

__all__ = ["tiny_sd"]


def test_the_naive_loops_edit_as_the_engine_does(tiny_sd, monkeypatch):
    denoiser, (task,) = load_denoiser(tiny_sd), make_tasks(1)
    noise, t = torch.randn(1, 4, 8, 8), torch.tensor([400])
    monkeypatch.setattr(torch, "randn_like", lambda *_: noise)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: t)
    (ours,) = Naive(denoiser, 1).dds([task])
    z = denoiser.encode_images(task.source[None])
    noisy = denoiser.schedule.add_noise(z, noise, t)
    source, target = (
        denoiser.predict_noise(noisy, t, denoiser.condition([prompt]))
        for prompt in (task.source_prompt, task.target_prompt)
    )
    expected = denoiser.decode_latents(z - 0.1 * (2000 / 4096) * 7.5 * (target - source))[0]
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=0)
    (image,) = Naive(denoiser, 2).piva([task])
    assert image.isfinite().all()


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
