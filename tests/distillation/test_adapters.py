"""Batched adapter training, and the whole of Piva, against one picture at a time with peft and AdamW."""

import pytest
import torch
from diffusers import DDPMScheduler

from methods.piva import Piva
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.params import AdapterSpec
from piva_bench.session.noise import noise, timestep, uniform
from tests.peft_reference import copy_weights, flat, parameters, peft_unet
from tests.rows import rows_of, shown
from tests.tiny_sd import make_tasks

SPECS = (AdapterSpec("psi", "source", "source"), AdapterSpec("phi", "edit", "target"))
PARAMS = Piva.Params(lora_rank=2, lora_learning_rate=0.01, prompt_dropout=0.5)


@pytest.fixture
def scheduler(tiny_sd):
    return DDPMScheduler.from_pretrained(tiny_sd / "scheduler")


def trainer(denoiser, tasks, specs=SPECS, views=1):
    return AdapterTrainer(specs, PARAMS, denoiser, shown(tasks, views), 0)


class OneAtATime:
    """psi and phi of one picture, as peft adapters with an AdamW each."""

    def __init__(self, folder, denoiser, scheduler, task, params, weights):
        self.task, self.params, self.denoiser, self.scheduler = task, params, denoiser, scheduler
        self.model = peft_unet(folder, denoiser.lora(), params.lora_rank, ["psi", "phi"])
        self.optimizers = {}
        for name in ("psi", "phi"):
            copy_weights(self.model, denoiser.lora(), name, weights[name])
            factors = [weight for pair in parameters(self.model, denoiser.lora(), name) for weight in pair]
            self.optimizers[name] = torch.optim.AdamW(factors, lr=params.lora_learning_rate)

    def train(self, name, latents, prompt, step, seed=0):
        losses = []
        for draw in range(self.params.aux_draws):
            purpose = f"adapter/{name}/step0" + (f"/{draw}" if draw else "")
            losses.append(self.loss(name, latents, prompt, step, seed, purpose))
        loss = torch.stack(losses).mean()
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()
        return loss.item()

    def loss(self, name, latents, prompt, step, seed, purpose):
        sample = self.task.sample_id
        t = torch.tensor([timestep(seed, sample, step, range(0, 1000), f"{purpose}/t")])
        eps = noise(seed, sample, step, f"{purpose}/noise", latents.shape[1:])[None]
        if uniform(seed, sample, step, f"{purpose}/dropout") < self.params.prompt_dropout:
            prompt = ""
        predicted = self.predict(name, self.scheduler.add_noise(latents, eps, t), t, prompt)
        return torch.nn.functional.mse_loss(predicted, eps)

    def predict(self, name, noisy, t, prompt):
        self.model.set_adapter(name)
        self.model.base_model.requires_grad_(True)
        return self.model(noisy, t, encoder_hidden_states=self.denoiser.condition([prompt]).text).sample

    def weights(self, name):
        return flat(parameters(self.model, self.denoiser.lora(), name)).detach()


@pytest.mark.parametrize("draws", [1, 3])
def test_training_equals_pefts_adapters_one_at_a_time(denoiser, tiny_sd, scheduler, draws):
    tasks, params = make_tasks(3), PARAMS.model_copy(update={"aux_draws": draws})
    ours = AdapterTrainer(SPECS, params, denoiser, shown(tasks, 1), 0)
    alone = [
        OneAtATime(
            tiny_sd,
            denoiser,
            scheduler,
            task,
            params,
            {name: ours.weights[name][row] for name in ours.weights},
        )
        for row, task in enumerate(tasks)
    ]
    start = {name: weights.detach().clone() for name, weights in ours.weights.items()}
    generator = torch.Generator().manual_seed(0)
    data = {name: torch.randn(3, 4, 8, 8, generator=generator) for name in ("source", "edit")}
    rows = rows_of(denoiser, tasks, **data)
    for step in range(3):
        losses = ours.train(step, rows, SPECS, "step0")
        for row, (task, single) in enumerate(zip(tasks, alone, strict=True)):
            psi = single.train("psi", data["source"][row : row + 1], task.source_prompt, step)
            phi = single.train("phi", data["edit"][row : row + 1], task.target_prompt, step)
            assert losses[:, row].tolist() == pytest.approx([psi, phi], rel=1e-4)
    for name, weights in ours.weights.items():
        assert (weights - start[name]).abs().mean() > 0.005
        for row, single in enumerate(alone):
            # AdamW divides by the gradient's size, which blows up rounding where a gradient is almost zero.
            difference = (weights[row] - single.weights(name)).abs()
            assert difference.mean() < 1e-5
            assert (difference > 1e-3).float().mean() < 1e-3


def test_an_adapter_learns_from_all_views_of_its_sample(denoiser, tiny_sd):
    """Gradient and loss of each sample are the mean of what peft's adapter gets from each view by itself."""
    tasks, views = make_tasks(2), 3
    ours = trainer(denoiser, tasks, SPECS[1:], views)
    ours.weights["phi"].data += 0.05 * torch.randn_like(ours.weights["phi"])
    rows = rows_of(denoiser, tasks, torch.randn(6, 4, 8, 8), torch.randn(6, 4, 8, 8), views)
    lesson = ours.lesson(5, rows, SPECS[1], "step0", 1)
    model = peft_unet(tiny_sd, denoiser.lora(), PARAMS.lora_rank, ["phi"])
    expected, losses = [], []
    for sample in range(2):
        copy_weights(model, denoiser.lora(), "phi", ours.weights["phi"][sample])
        factors = [weight for pair in parameters(model, denoiser.lora(), "phi") for weight in pair]
        total = 0.0
        for row in range(views * sample, views * (sample + 1)):
            given = lesson.noisy[row : row + 1], lesson.t[row : row + 1]
            predicted = model(*given, encoder_hidden_states=lesson.condition.text[row : row + 1]).sample
            total = total + torch.nn.functional.mse_loss(predicted, lesson.noise[row : row + 1]) / views
        losses.append(total.item())
        gradients = torch.autograd.grad(total, factors)
        expected.append(flat(list(zip(gradients[::2], gradients[1::2], strict=True))))
    learnt = ours.learn(ours.forward(SPECS[1:], [lesson]))
    assert learnt[0].tolist() == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(ours.weights["phi"].grad, torch.stack(expected), atol=1e-6, rtol=1e-3)


def test_every_view_has_noise_and_a_timestep_of_its_own(denoiser):
    tasks = make_tasks(2)
    rows = rows_of(denoiser, tasks, torch.randn(6, 4, 8, 8), torch.randn(6, 4, 8, 8), views=3)
    lesson = trainer(denoiser, tasks, views=3).lesson(0, rows, SPECS[0], "step0", 1)
    assert len(lesson.t.unique()) == 6
    what = "adapter/psi/step0"
    assert torch.equal(lesson.noise[4], noise(0, "sample-1/view1", 0, f"{what}/noise", (4, 8, 8)))


def test_frozen_adapters_stay_as_they_are(denoiser):
    tasks = make_tasks(2)
    ours = trainer(denoiser, tasks)
    rows = rows_of(denoiser, tasks, torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8))
    ours.train(0, rows, SPECS, "step0")
    psi, phi = (ours.weights[name].detach().clone() for name in ("psi", "phi"))
    ours.train(1, rows, SPECS[1:], "step0")
    assert torch.equal(ours.weights["psi"], psi)
    assert not torch.equal(ours.weights["phi"], phi)


def test_training_touches_no_weight_of_the_model(denoiser):
    before = {name: value.clone() for name, value in denoiser.unet.state_dict().items()}
    Piva(Piva.Params(steps=2, lora_learning_rate=0.1)).edit(make_tasks(2), denoiser, 0)
    after = denoiser.unet.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(weight.grad is None for weight in denoiser.unet.parameters())


def test_adapters_learn_their_picture(denoiser):
    (task,) = make_tasks(1)
    ours = trainer(denoiser, [task], SPECS[:1])
    source = torch.randn(1, 4, 8, 8)
    rows = rows_of(denoiser, [task], source, source)
    losses = [float(ours.train(step, rows, SPECS[:1], "step0")) for step in range(120)]
    assert sum(losses[-30:]) < 0.9 * sum(losses[:30])


def test_piva_is_the_hand_written_loop(denoiser, tiny_sd, scheduler):
    tasks = make_tasks(2)
    params = Piva.Params(
        steps=5, lora_rank=2, lora_learning_rate=0.01, prompt_dropout=0.3, preservation_weight=0.7
    )
    outcomes = Piva(params).edit(tasks, denoiser, seed=4)
    for task, outcome in zip(tasks, outcomes, strict=True):
        expected = piva_of_one_picture(tiny_sd, denoiser, scheduler, task, params, seed=4)
        torch.testing.assert_close(outcome.image, expected, atol=1e-3, rtol=0)
        without = Piva(params.model_copy(update={"preservation_weight": 0})).edit([task], denoiser, 4)[0]
        assert (outcome.image - without.image).abs().max() > 0.01


def piva_of_one_picture(folder, denoiser, scheduler, task, params, seed):
    """Piva as one would write it for a single picture: render, noise, scores, move the edit, train psi and phi."""
    lora = denoiser.lora()
    numel = lora.a_numel(params.lora_rank)
    initial = {
        name: lora.initial(uniform(seed, task.sample_id, 0, f"adapter/{name}/weights", (numel,))[None])[0]
        for name in ("psi", "phi")
    }
    adapters = OneAtATime(folder, denoiser, scheduler, task, params, initial)
    z_src = denoiser.encode_images(task.source[None])
    z = z_src.clone()
    source, target = task.source_prompt, task.target_prompt

    def base(noisy, t, prompt):
        return denoiser.unet(noisy, t, encoder_hidden_states=denoiser.condition([prompt]).text).sample

    def guided(noisy, t, prompt):
        null = base(noisy, t, "")
        return null + params.guidance_scale * (base(noisy, t, prompt) - null)

    for step in range(params.steps):
        t = torch.tensor([timestep(seed, task.sample_id, step, range(50, 949), "edit/t")])
        eps = noise(seed, task.sample_id, step, "edit/noise", z.shape[1:])[None]
        noisy, noisy_source = scheduler.add_noise(z, eps, t), scheduler.add_noise(z_src, eps, t)
        with torch.no_grad():
            delta = guided(noisy, t, target) - guided(noisy_source, t, source)
            regulariser = adapters.predict("psi", noisy, t, source) - adapters.predict(
                "phi", noisy, t, target
            )
        z = z - 0.1 * (2000 / 4096) * (delta + params.preservation_weight * regulariser)
        adapters.train("psi", z_src, source, step, seed)
        adapters.train("phi", z, target, step, seed)
    return denoiser.decode_latents(z)[0]
