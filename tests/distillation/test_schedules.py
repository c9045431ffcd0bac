"""Rates of latents and timesteps over a run."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import get_cosine_schedule_with_warmup

from piva_bench.distillation.latents import LatentImages
from piva_bench.distillation.params import AnnealedParams
from piva_bench.params import LatentParams, ScheduledLatentParams
from piva_bench.session.rows import Observation


def latents(params, start):
    """Latents that begin at ``start``."""
    return LatentImages(Observation(start.clone(), start, ("a", "b"), ("", ""), ("", "")), params)


@pytest.mark.parametrize(("warmup", "fall"), [(0, 0), (3, 0), (0, 9), (3, 9)])
def test_scheduled_latents_are_torchs_adamw_with_transformers_schedule(warmup, fall):
    params = ScheduledLatentParams(
        learning_rate=0.2, second_moment_decay=0.9, warmup_steps=warmup, cosine_steps=fall, loss_scale=1.0
    )
    start = torch.randn(2, 4, 3, 3)
    ours, theirs = latents(params, start), start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([theirs], lr=0.2, betas=(0.9, 0.9), weight_decay=0)
    if fall:
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, fall)
    else:
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: k / warmup if k < warmup else 1)
    for _ in range(9):  # at its end the rate is 0
        gradient = torch.randn_like(start)
        ours.step(gradient)
        theirs.grad = gradient
        optimizer.step()
        schedule.step()
        torch.testing.assert_close(ours.latents, theirs.detach())


def test_plain_latents_keep_their_rate():
    start = torch.zeros(2, 4, 3, 3)
    moved = latents(LatentParams(learning_rate=0.5, loss_scale=2.0), start)
    for _ in range(3):
        moved.step(torch.ones_like(start))
    assert torch.equal(moved.latents, start - 3)


def test_a_fall_before_the_rise_is_refused():
    with pytest.raises(ValidationError, match="cosine_steps"):
        ScheduledLatentParams(warmup_steps=10, cosine_steps=10)


@given(st.integers(1, 300), st.integers(0, 999), st.integers(0, 999))
def test_annealed_timesteps_fall_from_the_highest_towards_the_lowest(steps, one, other):
    low, high = sorted((one, other))
    params = AnnealedParams(steps=steps, t_min=low, t_max=high)
    seen = [params.timesteps(index) for index in range(steps)]
    assert all(len(among) == 1 for among in seen)
    times = [among[0] for among in seen]
    assert times[0] == high
    assert times == sorted(times, reverse=True)
    assert all(low <= t <= high for t in times)
    assert params.timesteps(steps)[0] == low
    drawn = AnnealedParams(steps=steps, t_min=low, t_max=high, t_anneal=False)
    assert drawn.timesteps(0) == range(low, high + 1)
