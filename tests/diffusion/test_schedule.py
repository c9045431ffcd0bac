import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from piva_bench.diffusion.schedule import Schedule

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


@pytest.fixture
def schedule():
    return Schedule.variance_preserving(DDPMScheduler(**CONFIG).alphas_cumprod)


@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
def test_grid_and_moves_are_those_of_diffusers_ddim(schedule, steps):
    theirs = DDIMScheduler(**CONFIG, steps_offset=1 if steps < 1000 else 0, set_alpha_to_one=True)
    theirs.set_timesteps(steps)
    grid = schedule.grid(steps)
    if steps < 1000:
        assert grid == theirs.timesteps.tolist()
    x, eps = torch.randn(2, 1, 4, 3, 3, dtype=torch.float64)
    for t in grid[:: max(1, steps // 5)]:
        to = t - 1000 // steps
        ours = schedule.ddim(x, eps, t, to if to >= 0 else None)
        torch.testing.assert_close(ours, theirs.step(eps, t, x).prev_sample, atol=1e-6, rtol=1e-6)


@given(st.integers(0, 999), st.integers(0, 999))
def test_ddim_goes_back_where_it_came_from(t, to):
    schedule = Schedule.variance_preserving(DDPMScheduler(**CONFIG).alphas_cumprod)
    x, eps = torch.randn(2, 2, 1, 1, 1, dtype=torch.float64)
    there = schedule.ddim(x, eps, t, to)
    torch.testing.assert_close(schedule.ddim(there, eps, to, t), x)


@pytest.mark.parametrize("t", [1, 30, 500, 999])
def test_the_posterior_of_neighbours_is_ddpms(schedule, t):
    x, eps = torch.randn(2, 2, 4, 3, 3, dtype=torch.float64)
    mean, deviation = schedule.posterior(x, eps, torch.tensor([t, t]), torch.tensor([t - 1, t - 1]))
    abar = schedule.alpha**2
    beta = 1 - abar[t] / abar[t - 1]
    picture = (x - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()
    first = abar[t - 1].sqrt() * beta / (1 - abar[t])
    second = (1 - beta).sqrt() * (1 - abar[t - 1]) / (1 - abar[t])
    torch.testing.assert_close(mean, first * picture + second * x)
    variance = (1 - abar[t - 1]) / (1 - abar[t]) * beta
    torch.testing.assert_close(deviation, variance.sqrt().expand(2, 1, 1, 1))


def test_a_posterior_over_many_steps_composes(schedule):
    # By simulation: x_to given x_t and z, from the joint Gaussian of the forward process.
    t, to = 600, 350
    (a, s), (b, r) = schedule.alpha_sigma(t), schedule.alpha_sigma(to)
    z, x = 0.7, 0.4
    ratio = float(a / b)
    added = float(s**2) - ratio**2 * float(r**2)
    precision = 1 / float(r**2) + ratio**2 / added
    mean = (float(b) * z / float(r**2) + ratio * x / added) / precision
    eps = torch.full((1, 1, 1, 1), (x - float(a) * z) / float(s), dtype=torch.float64)
    ours, deviation = schedule.posterior(torch.full_like(eps, x), eps, t, to)
    assert float(ours) == pytest.approx(mean)
    assert float(deviation) == pytest.approx(precision**-0.5)


def test_a_flow_is_its_own_flow_view():
    flow = Schedule.rectified_flow(1000, shift=3.0)
    for t in (0, 1, 400, 999):
        assert float(flow.flow_time(t)) == pytest.approx(t / 1000)
        assert float(flow.flow_scale(t)) == pytest.approx(1)
    # diffusers' shift (FlowMatchEulerDiscreteScheduler): s' = 3 s / (1 + 2 s), noisiest first.
    grid = flow.grid(4)
    assert grid == [round(1000 * 3 * s / (1 + 2 * s)) for s in (0.751, 0.501, 0.251, 0.001)]


@pytest.mark.parametrize("steps", [0, 1001])
def test_no_grid_of_more_steps_than_timesteps(schedule, steps):
    with pytest.raises(ValueError, match=f"a grid of {steps} steps"):
        schedule.grid(steps)


def test_a_step_below_stays_on_the_schedule(schedule):
    assert schedule.before(torch.tensor([979, 3, 1, 0]), 500).tolist() == [977, 1, 0, 0]
