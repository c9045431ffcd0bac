"""The loop against plain one-image loops written from the equations, and its promises about batches."""

import dataclasses

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from methods.dds import DDS
from methods.piva import Piva
from methods.piva_analytic import PivaAnalytic
from methods.sds import SDS
from piva_bench.diffusion.schedule import Schedule
from piva_bench.errors import MethodError, UserError
from piva_bench.params import LatentParams
from piva_bench.session.noise import noise, timestep
from tests.tiny_sd import make_tasks

STEPS = 6
BATCH_TOLERANCE = 1e-3  # on pictures in [-1, 1], that is, an eighth of an 8-bit level: sums of other batch
# sizes are ordered otherwise


@pytest.fixture(scope="module")
def pipeline(tiny_sd):
    return StableDiffusionPipeline.from_pretrained(tiny_sd)


@torch.no_grad()
def guided(pipeline, noisy, t, prompt, w=7.5):
    """Classifier-free guidance as in the official notebook: null and prompt in one batch of two."""
    embeds = pipeline.encode_prompt(["", prompt], "cpu", 1, do_classifier_free_guidance=False)[0]
    null, conditional = pipeline.unet(noisy.repeat(2, 1, 1, 1), t, encoder_hidden_states=embeds).sample.chunk(
        2
    )
    return null + w * (conditional - null)


def one_image_loop(pipeline, task, seed, gradient, *, optimizer=torch.optim.SGD, lr=0.1):
    """The official recipe for one picture; ``gradient(z, z_src, noise, t)`` is the method."""
    vae = pipeline.vae
    with torch.no_grad():
        source = vae.encode(task.source[None]).latent_dist.mean * vae.config.scaling_factor
    latents = source.clone().requires_grad_()
    optimizer = optimizer([latents], lr=lr)
    for step in range(STEPS):
        t = torch.tensor([timestep(seed, task.sample_id, step, range(50, 949), "edit/t")])
        eps = noise(seed, task.sample_id, step, "edit/noise", latents.shape[1:])[None]
        with torch.no_grad():
            grad = gradient(latents.detach(), source, eps, t)
        loss = (latents * grad).sum() / (64 * 64)
        optimizer.zero_grad()
        (2000 * loss).backward()
        optimizer.step()
    with torch.no_grad():
        return vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)[0]


@pytest.fixture(scope="module")
def scheduler(tiny_sd):
    return DDPMScheduler.from_pretrained(tiny_sd / "scheduler")


def test_sds_is_the_hand_written_loop(denoiser, pipeline, scheduler):
    (task,) = make_tasks(1)

    def gradient(z, z_src, eps, t):
        return guided(pipeline, scheduler.add_noise(z, eps, t), t, task.target_prompt) - eps

    (outcome,) = SDS(SDS.Params(steps=STEPS)).edit([task], denoiser, seed=5)
    torch.testing.assert_close(outcome.image, one_image_loop(pipeline, task, 5, gradient), atol=1e-4, rtol=0)


@pytest.mark.parametrize("weighting", ["uniform", "sds"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_dds_is_the_hand_written_loop(denoiser, pipeline, scheduler, weighting, optimizer):
    tasks = make_tasks(3)
    lr = {"sgd": 0.1, "adam": 0.01}[optimizer]

    def gradient(z, z_src, eps, t):
        weight = 1 - scheduler.alphas_cumprod[t] if weighting == "sds" else 1
        target = guided(pipeline, scheduler.add_noise(z, eps, t), t, task.target_prompt)
        source = guided(pipeline, scheduler.add_noise(z_src, eps, t), t, task.source_prompt)
        return weight * (target - source)

    follow = LatentParams(optimizer=optimizer, learning_rate=lr)
    tasks = [dataclasses.replace(task, params=follow) for task in tasks]
    outcomes = DDS(DDS.Params(steps=STEPS, weighting=weighting)).edit(tasks, denoiser, seed=1)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    for task, outcome in zip(tasks, outcomes, strict=True):
        expected = one_image_loop(pipeline, task, 1, gradient, optimizer=kind, lr=lr)
        torch.testing.assert_close(outcome.image, expected, atol=BATCH_TOLERANCE, rtol=0)
        assert (outcome.image - task.source).abs().max() > 0.01


def count_calls(denoiser, monkeypatch) -> list[int]:
    """Records the number of rows of every UNet call."""
    rows: list[int] = []
    forward = denoiser.unet.forward

    def counting(sample, *args, **kwargs):
        rows.append(len(sample))
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(denoiser.unet, "forward", counting)
    return rows


@pytest.mark.parametrize(
    ("method", "changes", "scored", "trained"),
    [
        (SDS, {}, 2, 0),
        (DDS, {}, 4, 0),
        (DDS, {"guidance_scale": 1}, 2, 0),
        (PivaAnalytic, {}, 4, 0),
        (Piva, {}, 6, 2),
        (Piva, {"aux_steps": 0}, 6, 0),
        (Piva, {"adapter_guidance_scale": 2}, 8, 2),
        (Piva, {"shared_noise": False}, 6, 2),
        (Piva, {"preservation_weight": 0}, 4, 0),
    ],
)
def test_one_unet_call_a_step_and_one_for_training(denoiser, monkeypatch, method, changes, scored, trained):
    rows = count_calls(denoiser, monkeypatch)
    tasks = make_tasks(3)
    outcomes = method(method.Params(steps=2, **changes)).edit(tasks, denoiser, seed=0)
    step = [3 * scored] + ([3 * trained] if trained else [])
    assert rows == step * 2
    for outcome in outcomes:
        assert outcome.unet_evaluations == sum(rows) / 3
        assert outcome.training_evaluations == 2 * trained


def test_a_fit_and_a_pretrained_source_score_are_counted(denoiser, monkeypatch):
    rows = count_calls(denoiser, monkeypatch)
    params = Piva.Params(steps=2, psi_mode="pretrained", source_steps=3, source_draws=4, aux_steps=2)
    (outcome,) = Piva(params).edit(make_tasks(1), denoiser, seed=0)
    assert rows == [4, 4, 4, 6, 1, 1, 6, 1, 1]
    assert outcome.training_evaluations == 3 * 4 + 2 * 2
    assert outcome.unet_evaluations == sum(rows)


def test_an_edits_adapter_can_start_as_the_sources(denoiser):
    """Both the same network, asked the same and never trained apart: the term is nothing, and Piva is DDS."""
    warm = {"psi_mode": "pretrained", "source_steps": 3, "lora_learning_rate": 0.1, "aux_steps": 0}
    shared = Piva.Params(steps=3, edit_score_prompt="source", phi_start="psi", **warm)
    apart = shared.model_copy(update={"phi_start": "prior"})
    tasks = make_tasks(2)
    dds, same, other = (
        rule.edit(tasks, denoiser, seed=0) for rule in (DDS(DDS.Params(steps=3)), Piva(shared), Piva(apart))
    )
    for a, b, c in zip(dds, same, other, strict=True):
        torch.testing.assert_close(a.image, b.image, atol=BATCH_TOLERANCE, rtol=0)
        assert max(b.trace["regulariser"]) < 1e-5 < min(c.trace["regulariser"])
        assert not torch.allclose(a.image, c.image, atol=10 * BATCH_TOLERANCE)


@pytest.mark.parametrize("method", [SDS, DDS, Piva])
def test_the_batch_does_not_matter(denoiser, method):
    tasks = make_tasks(5)
    rule = method(method.Params(steps=12))
    together = {outcome.sample_id: outcome for outcome in rule.edit(tasks, denoiser, seed=2)}
    order = [tasks[3], tasks[0], tasks[4]]
    cut = [*rule.edit(order, denoiser, seed=2), *rule.edit(tasks[1:2], denoiser, seed=2)]
    assert [outcome.sample_id for outcome in cut] == ["sample-3", "sample-0", "sample-4", "sample-1"]
    for outcome in cut:
        other = together[outcome.sample_id]
        torch.testing.assert_close(outcome.image, other.image, atol=BATCH_TOLERANCE, rtol=0)
        assert outcome.unet_evaluations == other.unet_evaluations


def test_the_same_run_twice_is_identical_and_seeds_differ(denoiser):
    tasks = make_tasks(2)
    rule = Piva(Piva.Params(steps=4))
    first, second, other = (rule.edit(tasks, denoiser, seed) for seed in (0, 0, 1))
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a.image, b.image)
        assert a.trace == b.trace
        assert not torch.equal(a.image, c.image)


@pytest.mark.parametrize("method", [DDS, Piva])
def test_a_sample_of_nan_leaves_the_others_untouched(denoiser, method):
    tasks = make_tasks(3)
    broken = dataclasses.replace(tasks[1], source=torch.full_like(tasks[1].source, torch.nan))
    rule = method(method.Params(steps=4))
    clean = rule.edit(tasks, denoiser, seed=0)
    mixed = rule.edit([tasks[0], broken, tasks[2]], denoiser, seed=0)
    assert mixed[1].image is None
    assert "step 0" in mixed[1].reason
    assert mixed[1].trace["loss"] == []
    for row in (0, 2):
        assert torch.equal(mixed[row].image, clean[row].image)
        assert mixed[row].reason is None
        assert len(mixed[row].trace["loss"]) == 4


def test_a_sample_that_diverges_on_the_way_is_held_and_reported(denoiser):
    tasks = make_tasks(3)

    latents = []

    class Unstable(DDS):
        def gradient(self, step):
            latents.append(step.latents.clone())
            gradient = super().gradient(step)
            if step.index == 2:
                gradient[1] = torch.inf
            if step.index == 3:
                gradient[2] = 1e9
            return gradient

    clean = DDS(DDS.Params(steps=6)).edit(tasks, denoiser, seed=0)
    seen = []
    outcomes = Unstable(DDS.Params(steps=6)).edit(
        tasks, denoiser, 0, lambda progress: seen.append((progress.index, progress.scalars))
    )
    assert torch.equal(outcomes[0].image, clean[0].image)
    assert [outcome.image is None for outcome in outcomes] == [False, True, True]
    assert "step 2" in outcomes[1].reason
    assert "step 3" in outcomes[2].reason
    assert torch.equal(latents[5][1], latents[2][1])
    assert torch.equal(latents[5][2], latents[4][2])
    assert outcomes[1].trace["loss"] == clean[1].trace["loss"][:2]
    # What is shown are means over the healthy samples, so they are finite to the end.
    assert [index for index, _ in seen] == list(range(6))
    assert seen[-1][1]["loss"] == pytest.approx(clean[0].trace["loss"][-1])


def test_a_batch_that_fails_wholly_stops(denoiser):
    task = dataclasses.replace(make_tasks(1)[0], source=torch.full((3, 32, 32), torch.nan))
    (outcome,) = DDS(DDS.Params(steps=1000)).edit([task], denoiser, 0)
    assert outcome.image is None
    assert outcome.unet_evaluations == 4


def test_what_a_step_reports(denoiser):
    seen = []
    tasks = make_tasks(2)
    outcomes = Piva(Piva.Params(steps=3)).edit(
        tasks, denoiser, 0, lambda p: seen.append((p.index, p.scalars))
    )
    assert [index for index, _ in seen] == [0, 1, 2]
    regulariser = {"regulariser", "regulariser_share", "converged_cosine"}
    assert set(seen[0][1]) == {"loss", "distance", "adapter_loss"} | regulariser == set(outcomes[0].trace)
    for name in outcomes[0].trace:
        mean = sum(outcome.trace[name][2] for outcome in outcomes) / 2
        assert seen[2][1][name] == pytest.approx(mean, rel=1e-5)
    assert outcomes[0].seconds > 0
    # The first step of SGD moves the latents by lr * loss_scale * grad.
    first = outcomes[0].trace
    assert first["distance"][0] == pytest.approx(0.1 * 2000 / 4096 * first["loss"][0], rel=1e-4)


def test_bfloat16_networks_train_their_adapters(tiny_sd):
    from piva_bench.diffusion.load import load_denoiser

    half = load_denoiser(tiny_sd, dtype=torch.bfloat16)
    (outcome,) = Piva(Piva.Params(steps=3, lora_learning_rate=0.01)).edit(make_tasks(1), half, 0)
    assert outcome.image.dtype == torch.float32
    assert outcome.trace["regulariser"][2] != outcome.trace["regulariser"][0]


def test_a_callers_inference_mode_does_not_stop_training(denoiser):
    with torch.inference_mode():
        (outcome,) = Piva(Piva.Params(steps=2)).edit(make_tasks(1), denoiser, 0)
    assert outcome.reason is None


def test_an_empty_batch_is_no_work(denoiser):
    assert DDS(DDS.Params()).edit([], denoiser, 0) == []


def test_pictures_of_different_sizes_are_refused(denoiser):
    tasks = make_tasks(2)
    tasks[1] = dataclasses.replace(tasks[1], source=torch.zeros(3, 64, 64))
    with pytest.raises(UserError, match="one size"):
        DDS(DDS.Params(steps=1)).edit(tasks, denoiser, 0)


def test_timesteps_beyond_the_models_schedule_are_refused(denoiser, monkeypatch):
    schedule = denoiser.schedule
    monkeypatch.setattr(denoiser, "schedule", Schedule(schedule.alpha[:500], schedule.sigma[:500]))
    with pytest.raises(UserError, match="at most 499"):
        DDS(DDS.Params(steps=1)).edit(make_tasks(1), denoiser, 0)


def test_other_sizes_than_the_models_own_work(denoiser):
    task = dataclasses.replace(make_tasks(1)[0], source=torch.rand(3, 48, 40) * 2 - 1)
    (outcome,) = Piva(Piva.Params(steps=2)).edit([task], denoiser, 0)
    assert outcome.image.shape == (3, 48, 40)


def test_a_batch_is_moved_alike(denoiser):
    first, second = make_tasks(2)
    other = dataclasses.replace(second, params=LatentParams(learning_rate=0.2))
    with pytest.raises(UserError, match="edited alike"):
        DDS(DDS.Params(steps=1)).edit([first, other], denoiser, 0)


def test_a_rule_that_moves_the_latents_itself_is_refused(denoiser):
    class Mover(DDS):
        def gradient(self, step):
            step.latents.mul_(0.5)
            return super().gradient(step)

    with pytest.raises(MethodError, match="in place"):
        Mover(DDS.Params(steps=1)).edit(make_tasks(1), denoiser, 0)
