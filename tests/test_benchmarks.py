"""The benchmark's loop is the engine's method, and its script runs."""

import torch

from benchmarks import engine
from benchmarks.naive import Naive
from piva_bench.diffusion.denoiser import Denoiser
from tests.tiny_sd import make_tasks, tiny_sd

__all__ = ["tiny_sd"]


def test_the_naive_loops_edit_as_the_engine_does(tiny_sd, monkeypatch):
    denoiser, (task,) = Denoiser.from_pretrained(tiny_sd), make_tasks(1)
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
