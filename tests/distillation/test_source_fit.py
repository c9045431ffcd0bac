"""Adapters of the source, fitted before the edit: what they learn, who shares them, and what a kill or damage does."""

import dataclasses

import pytest
import torch
from diffusers import DDPMScheduler

from methods.piva import Piva
from piva_bench.diffusion.load import load_denoiser
from piva_bench.distillation import source_fit
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.params import AdapterSpec
from piva_bench.errors import MethodError
from piva_bench.profiles import get_profile
from piva_bench.runs.variants import resolve_variants
from piva_bench.session.noise import noise, timestep, uniform
from tests.distillation.scene_tasks import make_scene_tasks
from tests.distillation.test_engine import BATCH_TOLERANCE, count_calls
from tests.peft_reference import copy_weights, flat, parameters, peft_unet
from tests.tiny_sd import make_tasks

FIT = {"source_steps": 4, "source_draws": 3, "lora_learning_rate": 0.01, "lora_rank": 2}
ROWS = FIT["source_steps"] * FIT["source_draws"]


def method(**changes):
    return Piva(Piva.Params(**({"steps": 2} | FIT | changes)))


def edit(denoiser, tasks, seed=0, **changes):
    return method(**changes).edit(tasks, denoiser, seed)


def files(adapters):
    return sorted(adapters.glob("*.safetensors"))


def same(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert torch.equal(one.image, other.image)
        assert one.trace == other.trace
        assert one.unet_evaluations == other.unet_evaluations
        assert one.training_evaluations == other.training_evaluations


def test_a_fit_is_pefts_adapter_and_adamw_on_the_sources_own_noise(denoiser, tiny_sd, adapters):
    (task,), params = make_tasks(1), method(prompt_dropout=0.5).params
    edit(denoiser, [task], seed=3, prompt_dropout=0.5)
    (kept,) = files(adapters)
    weights, _, _ = source_fit._read(kept, kept.stem)
    scheduler, latents = (
        DDPMScheduler.from_pretrained(tiny_sd / "scheduler"),
        denoiser.encode_images(task.source[None]),
    )
    name = source_fit_name(denoiser, task)
    model = peft_unet(tiny_sd, denoiser.lora(), 2, ["psi"])
    numel = (denoiser.lora().a_numel(2),)
    first = denoiser.lora().initial(uniform(3, name, 0, "adapter/source/weights", numel)[None])[0]
    copy_weights(model, denoiser.lora(), "psi", first)
    optimizer = torch.optim.AdamW(
        [weight for pair in parameters(model, denoiser.lora(), "psi") for weight in pair], lr=0.01
    )
    for step in range(params.source_steps):
        losses = []
        for draw in range(params.source_draws):
            what = "adapter/source/fit" + (f"/{draw}" if draw else "")
            t = torch.tensor([timestep(3, name, step, range(0, 1000), f"{what}/t")])
            eps = noise(3, name, step, f"{what}/noise", latents.shape[1:])[None]
            dropped = uniform(3, name, step, f"{what}/dropout") < params.prompt_dropout
            text = denoiser.condition(["" if dropped else task.source_prompt]).text
            predicted = model(scheduler.add_noise(latents, eps, t), t, encoder_hidden_states=text).sample
            losses.append(torch.nn.functional.mse_loss(predicted, eps))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    difference = (weights - flat(parameters(model, denoiser.lora(), "psi")).detach()).abs()
    assert (weights - first).abs().mean() > 0.005
    # AdamW divides by the gradient's size, which blows up rounding where a gradient is almost zero.
    assert difference.mean() < 1e-5
    assert (difference > 1e-3).float().mean() < 1e-3


def source_fit_name(denoiser, task):
    from piva_bench.distillation.latents import LatentImages
    from piva_bench.distillation.picture_edit import _source
    from piva_bench.session.pictures import picture_rows

    return LatentImages(picture_rows([task], denoiser), task.params, sources=[_source(task)]).source_names[0]


def test_kept_or_fresh_every_bit_and_every_count_is_the_same(tiny_sd, adapters, monkeypatch):
    tasks = make_tasks(3)
    fresh_model, later = load_denoiser(tiny_sd), load_denoiser(tiny_sd)
    fresh = edit(fresh_model, tasks)
    assert len(files(adapters)) == 3
    before = [path.stat().st_mtime_ns for path in files(adapters)]
    calls = count_calls(later, monkeypatch)
    found = edit(later, tasks)  # another process: nothing but the files is shared
    same(fresh, found)
    assert [path.stat().st_mtime_ns for path in files(adapters)] == before
    assert found[0].unet_evaluations - sum(calls) / 3 == ROWS
    without = edit(later, tasks, source_steps=0)
    assert found[0].training_evaluations - without[0].training_evaluations == ROWS
    assert not torch.equal(found[0].image, without[0].image)


def test_alone_or_in_a_batch(denoiser, adapters, monkeypatch, tmp_path):
    tasks = make_tasks(4)
    together = edit(denoiser, tasks, source_draws=1)
    for number, task in enumerate(tasks):
        monkeypatch.setenv("PIVA_BENCH_ADAPTERS", str(tmp_path / str(number)))
        (alone,) = edit(denoiser, [task], source_draws=1)
        torch.testing.assert_close(alone.image, together[number].image, atol=BATCH_TOLERANCE, rtol=0)
        # The same source has the same name whoever stands beside it.
        assert files(tmp_path / str(number))[0].name in {path.name for path in files(adapters)}


def test_passes_are_no_wider_than_the_batch_and_a_batch_of_gaps_fits_the_gaps_alone(
    denoiser, monkeypatch, adapters
):
    tasks = make_tasks(4)
    edit(denoiser, tasks[1:2])
    calls = count_calls(denoiser, monkeypatch)
    edit(denoiser, tasks, steps=1, source_draws=2, source_steps=3)
    assert calls[:6] == [4] * 6  # four sources, two at a time with two draws each
    calls.clear()
    edit(denoiser, tasks, steps=1)
    assert calls[:12] == [3] * 12  # three sources that are new, one at a time with three draws


@pytest.mark.parametrize(
    "changes",
    [
        {"preservation_weight": 0.8},
        {"guidance_scale": 3.0},
        {"psi_mode": "pretrained"},
        {"steps": 3},
        {"aux_steps": 2},
        {"aux_draws": 2},
        {"weighting": "sds"},
        {"edit_score_prompt": "source"},
        "target",
        "sample",
    ],
    ids=str,
)
def test_it_depends_on_neither_target_nor_rule(denoiser, adapters, monkeypatch, changes):
    (task,) = make_tasks(1)
    edit(denoiser, [task])
    if changes == "target":
        task, changes = dataclasses.replace(task, target_prompt="a ship at sea"), {}
    elif changes == "sample":
        task, changes = dataclasses.replace(task, sample_id="another"), {}
    monkeypatch.setattr(source_fit, "save", None)  # whatever is written from here on fails
    edit(denoiser, [task], **changes)
    assert len(files(adapters)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"source_steps": 5},
        {"source_draws": 2},
        {"lora_rank": 3},
        {"lora_layers": "all"},
        {"lora_learning_rate": 0.02},
        {"prompt_dropout": 0.9},
        {"seed": 1},
        {"source_prompt": "a green drum"},
        "picture",
    ],
    ids=str,
)
def test_what_it_depends_on_is_another_fit(denoiser, adapters, changes):
    (task,) = make_tasks(1)
    edit(denoiser, [task])
    if changes == "picture":
        task, changes = dataclasses.replace(task, source=task.source.flip(2)), {}
    if "source_prompt" in changes:
        task, changes = dataclasses.replace(task, **changes), {}
    edit(denoiser, [task], **changes)
    assert len(files(adapters)) == 2


def test_edits_of_one_source_have_one_fit(denoiser, adapters, monkeypatch):
    (task,) = make_tasks(1)
    other = dataclasses.replace(task, sample_id="other", target_prompt="a ship at sea")
    calls = count_calls(denoiser, monkeypatch)
    outcomes = edit(denoiser, [task, other])
    assert calls[:5] == [3, 3, 3, 3, 12]
    assert len(files(adapters)) == 1
    assert {outcome.training_evaluations for outcome in outcomes} == {ROWS + 2 * 2}


@pytest.mark.parametrize("harm", ["torn", "turned", "foreign", "empty"])
def test_a_damaged_file_is_told_and_fitted_again(denoiser, adapters, harm):
    tasks = make_tasks(2)
    whole = edit(denoiser, tasks)
    one, other = files(adapters)
    content = one.read_bytes()
    if harm == "torn":
        one.write_bytes(content[:-100])
    elif harm == "turned":
        one.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "foreign":
        one.write_bytes(other.read_bytes())
    else:
        one.write_bytes(b"")
    with pytest.warns(UserWarning, match=rf"{one.name} is damaged: the adapter in it is fitted again"):
        again = edit(denoiser, tasks)
    assert one.read_bytes() == content
    same(whole, again)


def test_a_kill_in_the_middle_of_a_fit_leaves_nothing_half_there(denoiser, adapters, monkeypatch):
    class Killed(BaseException):
        """As a signal: nothing catches it."""

    tasks, learn, learnt = make_tasks(2), AdapterTrainer.learn, []
    whole = edit(denoiser, tasks, source_draws=2)
    contents = {path: path.read_bytes() for path in files(adapters)}
    for path in contents:
        path.unlink()

    def killed(self, done):
        learnt.append(done)
        if len(learnt) == 7:  # in the second of two fits
            raise Killed
        return learn(self, done)

    monkeypatch.setattr(AdapterTrainer, "learn", killed)
    with pytest.raises(Killed):
        edit(denoiser, tasks, source_draws=2)
    monkeypatch.setattr(AdapterTrainer, "learn", learn)
    assert [path for path in adapters.iterdir() if path.suffix != ".lock"] == []
    same(whole, edit(denoiser, tasks, source_draws=2))
    assert {path: path.read_bytes() for path in files(adapters)} == contents


def test_an_adapter_under_the_target_prompt_cannot_be_had_for_all(denoiser):
    class Odd(Piva):
        @property
        def adapters(self):
            return (AdapterSpec("psi", "source", "target"), AdapterSpec("phi", "edit", "target"))

    with pytest.raises(MethodError, match="learns the source under the target prompt"):
        Odd(method().params).edit(make_tasks(1), denoiser, 0)


def test_without_a_fit_nothing_is_kept_and_keys_are_as_they_were(denoiser, adapters):
    edit(denoiser, make_tasks(1), source_steps=0)
    assert not adapters.exists()
    (variant,) = resolve_variants(["piva"], {}, get_profile("embedded"))
    (asked,) = resolve_variants(["piva"], {"source_steps": 200}, get_profile("embedded"))
    params = variant.params_dict()
    assert params["psi_warmup"] == 0
    assert not {"source_steps", "source_draws"} & params.keys()
    assert asked.params_dict() == {**params, "source_steps": 200}


# Scenes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["random", "scene"])
def test_a_scenes_adapter_is_fitted_over_its_views_and_kept(denoiser, adapters, monkeypatch, background):
    tasks = make_scene_tasks(2, background=background)
    first, second = (
        dataclasses.replace(task, sample_id=f"edit-{i}", target_prompt=f"a {i}")
        for i, task in enumerate([tasks[0], tasks[0]])
    )
    calls = count_calls(denoiser, monkeypatch)
    fresh = method().edit_scenes([first, tasks[1]], denoiser, 0)
    assert len(files(adapters)) == 2
    made = sum(calls)
    calls.clear()
    found = method().edit_scenes([first, tasks[1]], denoiser, 0)
    assert made - sum(calls) == 2 * 2 * ROWS  # two scenes, two views
    for one, other in zip(fresh, found, strict=True):
        assert torch.equal(one.field.raw, other.field.raw)
        assert one.trace == other.trace
        assert one.training_evaluations == other.training_evaluations == 2 * (ROWS + 2 * 2)
    # Another edit of the object, by another rule.
    monkeypatch.setattr(source_fit, "save", None)
    method(preservation_weight=0.1).edit_scenes([second], denoiser, 0)
    assert len(files(adapters)) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda task: dataclasses.replace(task, source_prompt="a green drum", side_prompts={}),
        lambda task: dataclasses.replace(task, cameras=task.cameras[[1, 2, 3]]),
        lambda task: dataclasses.replace(task, params=task.params.model_copy(update={"views": 1})),
        lambda task: dataclasses.replace(task, params=task.params.model_copy(update={"background": "scene"})),
        lambda task: dataclasses.replace(task, params=task.params.model_copy(update={"view_prompts": False})),
        lambda task: dataclasses.replace(task, field=make_scene_tasks(2)[1].field),
    ],
)
def test_another_look_at_a_scene_is_another_fit(denoiser, adapters, change):
    (task,) = make_scene_tasks(1)
    method(steps=1).edit_scenes([task], denoiser, 0)
    method(steps=1).edit_scenes([change(task)], denoiser, 0)
    assert len(files(adapters)) == 2
    method(steps=1).edit_scenes(
        [dataclasses.replace(task, params=task.params.model_copy(update={"field_learning_rate": 0.9}))],
        denoiser, 0,
    )  # fmt: skip
    assert len(files(adapters)) == 2
