"""Training fused with scoring: what it computes, and how far it is from the order of separate passes."""

import pytest
import torch
from diffusers import DDPMScheduler

from methods.piva import Piva
from piva_bench.session.noise import noise, timestep, uniform
from tests.distillation.test_adapters import OneAtATime
from tests.distillation.test_engine import count_calls
from tests.tiny_sd import make_tasks


def edit(denoiser, tasks, **changes):
    params = {"lora_learning_rate": 0.01, "lora_rank": 2} | changes
    return Piva(Piva.Params(**params)).edit(tasks, denoiser, 4)


@pytest.mark.parametrize(
    ("changes", "rows", "trained"),
    [
        ({}, [2, 5], 2),
        ({"aux_steps": 2}, [2, 5, 2], 4),
        ({"psi_mode": "pretrained", "source_steps": 3, "source_draws": 2}, [1, 5], 1),
        # Nothing to fuse: phi is not asked, or not for what it learns.
        ({"aux_steps": 0}, [6], 0),
        ({"adapter_guidance_scale": 2}, [8, 2], 2),
    ],
)
def test_a_row_a_step_is_saved(denoiser, monkeypatch, changes, rows, trained):
    calls = count_calls(denoiser, monkeypatch)
    (outcome,) = edit(denoiser, make_tasks(1), steps=2, fused_training=True, **changes)
    fit = [changes.get("source_draws", 1)] * changes.get("source_steps", 0)
    assert calls == fit + rows * 2
    assert outcome.unet_evaluations == sum(calls)
    assert outcome.training_evaluations == sum(fit) + trained * 2


def test_fused_training_is_the_hand_written_loop(denoiser, tiny_sd):
    scheduler = DDPMScheduler.from_pretrained(tiny_sd / "scheduler")
    (task,) = make_tasks(1)
    (outcome,) = edit(
        denoiser, [task], steps=4, fused_training=True, prompt_dropout=0, preservation_weight=0.7
    )
    params = Piva.Params(lora_rank=2, lora_learning_rate=0.01, prompt_dropout=0)
    numel = denoiser.lora().a_numel(2)
    initial = {
        name: denoiser.lora().initial(
            uniform(4, task.sample_id, 0, f"adapter/{name}/weights", (numel,))[None]
        )[0]
        for name in ("psi", "phi")
    }
    adapters = OneAtATime(tiny_sd, denoiser, scheduler, task, params, initial)
    z_src = denoiser.encode_images(task.source[None])
    z = z_src.clone()

    @torch.no_grad()
    def guided(noisy, t, prompt):
        embeds = denoiser.condition(["", prompt]).text
        null, conditional = denoiser.unet(
            noisy.repeat(2, 1, 1, 1), t, encoder_hidden_states=embeds
        ).sample.chunk(2)
        return null + 7.5 * (conditional - null)

    for step in range(4):
        t = torch.tensor([timestep(4, task.sample_id, step, range(50, 949), "edit/t")])
        eps = noise(4, task.sample_id, step, "edit/noise", z.shape[1:])[None]
        noisy, noisy_source = scheduler.add_noise(z, eps, t), scheduler.add_noise(z_src, eps, t)
        psi = adapters.predict("psi", noisy, t, task.source_prompt).detach()
        phi = adapters.predict("phi", noisy, t, task.target_prompt)
        # The score is also what phi learns from, at the edit before it moves.
        adapters.optimizers["phi"].zero_grad()
        torch.nn.functional.mse_loss(phi, eps).backward()
        adapters.optimizers["phi"].step()
        delta = guided(noisy, t, task.target_prompt) - guided(noisy_source, t, task.source_prompt)
        z = z - 0.1 * (2000 / 4096) * (delta + 0.7 * (psi - phi.detach()))
        adapters.train("psi", z_src, task.source_prompt, step, 4)
    torch.testing.assert_close(outcome.image, denoiser.decode_latents(z)[0], atol=1e-3, rtol=0)


def test_how_far_fused_and_separate_training_are_apart(denoiser):
    tasks = make_tasks(3)
    options = {"steps": 20, "preservation_weight": 0.8, "lora_learning_rate": 3e-4, "lora_rank": 4}
    settings = ({}, {"fused_training": True}, {"preservation_weight": 0})
    separate, fused, free = (
        torch.stack([outcome.image for outcome in edit(denoiser, tasks, **(options | more))])
        for more in settings
    )
    # phi learns from other draws, so its score differs; what the edit becomes differs far less.
    apart, effect = (fused - separate).abs().mean(), (separate - free).abs().mean()
    assert 0 < apart < 0.1 * effect
