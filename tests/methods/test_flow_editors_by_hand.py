"""Editors of flows against plain loops in flow coordinates, y = (1 - s) z + s n with velocity n - z."""

import dataclasses

import pytest
import torch

from methods.dnaedit import DNAEdit
from methods.irfds import IRFDS
from methods.rf_inversion import RFInversion
from piva_bench.session.noise import timestep
from tests.methods.plain import STEPS, W, close, edited, grid
from tests.tiny_sd import make_tasks


def s_of(plain, t):
    return float(plain.s(t) / (plain.a(t) + plain.s(t)))


def velocity(plain, y, t, prompt, w):
    x = y * (plain.a(t) + plain.s(t))
    eps = plain.guided(x, t, prompt, w)
    return eps - plain.clean(x, eps, t)


@torch.no_grad()
def test_rf_inversion_is_its_ode(exact, plain):
    times, gamma, eta = grid(STEPS)[::-1], 0.5, 0.9
    n = plain.noise(0, "noise")
    y, s = plain.z_src, 0.0
    for index, to in enumerate(times):
        v = velocity(plain, y, times[max(index - 1, 0)], "", 1)
        y = y + (s_of(plain, to) - s) * (v + gamma * ((n - y) / (1 - s) - v))
        s = s_of(plain, to)
    for index, t in enumerate(times[::-1]):
        v = velocity(plain, y, t, plain.task.target_prompt, W)
        if index < 2:
            v = v + eta * ((y - plain.z_src) / s - v)
        to = s_of(plain, times[::-1][index + 1]) if index + 1 < STEPS else 0.0
        y, s = y + (to - s) * v, to
    ours = edited(exact, RFInversion, plain.task, gamma=gamma, eta=eta, steered=0.4, guidance_scale=W)
    close(ours, plain.picture(y))


def test_rf_inversion_steered_all_the_way_is_the_round_trip(exact, plain):
    close(edited(exact, RFInversion, plain.task, eta=1, steered=1), plain.picture(plain.z_src))


def dnaedit(plain, times, w_src, w, share):
    """Out and in; ``times`` from the cleanest."""
    y, n, s, kept = plain.z_src, plain.noise(0, "noise"), 0.0, []
    for t in times:
        to = s_of(plain, t)
        straight = y + (to - s) / (1 - s) * (n - y)
        v = velocity(plain, straight, t, plain.task.source_prompt, w_src)
        gap = (straight - y) / (to - s) - v
        y, n = straight - gap * (to - s), n - gap * (1 - s)
        kept.append((t, gap * (to - s), v))
        s = to
    reference = plain.z_src
    for index, (t, gap, v) in enumerate(kept[::-1]):
        s, to = s_of(plain, t), s_of(plain, times[-index - 2]) if index + 1 < len(times) else 0.0
        target = velocity(plain, y + gap, t, plain.task.target_prompt, w)
        reference = reference + (to - s) * (target - v)
        y = y + (to - s) * (share * target + (1 - share) * (y - reference) / s)
    return y


@torch.no_grad()
def test_dnaedit_is_its_loop(exact, plain):
    y = dnaedit(plain, grid(STEPS)[:0:-1], 2.0, W, 0.8)  # a fifth is skipped
    ours = edited(exact, DNAEdit, plain.task, skip=0.2, source_guidance_scale=2.0, guidance_scale=W)
    close(ours, plain.picture(y))


def test_dnaedit_with_equal_prompts_is_the_round_trip(exact, plain):
    # The way in undoes the way out: at y + d ds the velocity is the one that was kept.
    same = dataclasses.replace(plain.task, target_prompt=plain.task.source_prompt)
    ours = edited(exact, DNAEdit, same, source_guidance_scale=W, guidance_scale=W, velocity_share=1)
    close(ours, plain.picture(plain.z_src))


def test_irfds_learns_noise_and_samples_from_it(exact, plain):
    n = plain.z_src.clone().requires_grad_()
    times = grid(3)
    optimizer = torch.optim.AdamW([n], lr=0.05, weight_decay=0)
    for step in range(STEPS):
        optimizer.zero_grad()
        for draw in range(2):
            t = times[timestep(0, plain.task.sample_id, step, range(3), f"t/{draw}")]
            s = s_of(plain, t)
            with torch.no_grad():
                v = velocity(plain, (1 - s) * plain.z_src + s * n, t, plain.task.source_prompt, 1)
            loss = torch.nn.functional.mse_loss(n, plain.z_src + v) + n.mean() ** 2 + (n.var() - 1) ** 2
            (loss / 2).backward()
        optimizer.step()
    with torch.no_grad():
        y, s = n.detach(), 1.0
        for index, t in enumerate(times):
            to = s_of(plain, times[index + 1]) if index < 2 else 0.0
            y, s = y + (to - s) * velocity(plain, y, t, plain.task.target_prompt, W), to
    ours = edited(exact, IRFDS, plain.task, learning_rate=0.05, sampling_steps=3, guidance_scale=W)
    close(ours, plain.picture(y))


@pytest.mark.parametrize("method", [RFInversion, DNAEdit, IRFDS])
def test_rows_do_not_see_each_other(exact, method):
    tasks, one = make_tasks(2), method(method.Params(steps=3))
    for task, outcome in zip(tasks, one.edit(tasks, exact, 0), strict=True):
        close(one.edit([task], exact, 0)[0].image, outcome.image)
