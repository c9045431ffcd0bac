"""A distillation whose latents are the source's outside a mask after every step, against a plain loop."""

import dataclasses

import torch

from methods.dds import DDS
from tests.methods.plain import STEPS, W, close, edited
from tests.tiny_sd import make_tasks

MASK = torch.zeros(32, 32, dtype=torch.bool)
MASK[8:18, 8:32] = True  # two latents of eight and half of a third; all from the second column on


@torch.no_grad()
def test_latents_outside_the_mask_are_the_sources_after_every_step(exact, plain):
    share = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    share[..., 2:4, 2:], share[..., 4, 2:] = 1, 0.5
    z = plain.z_src
    for step in range(STEPS):
        t, noise = plain.t(step, range(50, 949)), plain.noise(step, "edit/noise")
        x, x_src = (plain.a(t) * one + plain.s(t) * noise for one in (z, plain.z_src))
        target = plain.guided(x, t, plain.task.target_prompt, W)
        source = plain.guided(x_src, t, plain.task.source_prompt, W)
        moved = z - 0.1 * 2000 / 4096 * (target - source)
        z = share * moved + (1 - share) * plain.z_src
    blended = dataclasses.replace(plain.task, blend=MASK)
    close(edited(exact, DDS, blended, guidance_scale=W), plain.picture(z))


def test_masks_of_a_batch_are_each_their_own(exact):
    method = DDS(DDS.Params(steps=3))
    tasks = [dataclasses.replace(task, blend=MASK.roll(6 * i, 0)) for i, task in enumerate(make_tasks(3))]
    for task, outcome in zip(tasks, method.edit(tasks, exact, 0), strict=True):
        close(method.edit([task], exact, 0)[0].image, outcome.image)
