"""What the settings of a sweep have in common is computed once, and changes no number."""

import dataclasses

import pytest
import torch

from methods.dds import DDS
from methods.piva import Piva
from methods.piva_analytic import PivaAnalytic
from methods.sds import SDS
from piva_bench.diffusion.kept import KeptRows
from piva_bench.diffusion.load import load_denoiser
from tests.distillation.test_engine import BATCH_TOLERANCE
from tests.tiny_sd import make_tasks

STEPS = 5
SETTINGS = [
    (DDS, {}),
    (Piva, {"preservation_weight": 0.4}),
    (Piva, {"preservation_weight": 0.8}),
    (PivaAnalytic, {"preservation_weight": 0.8}),
    (Piva, {"preservation_weight": 0.8, "guidance_scale": 3.0}),
]


@pytest.fixture
def sharing(tiny_sd):
    """A denoiser that keeps results."""
    denoiser = load_denoiser(tiny_sd)
    denoiser.kept = KeptRows()
    return denoiser


def edit(denoiser, setting, tasks, seed=0, **more):
    method, changes = setting
    params = {"steps": STEPS, "lora_learning_rate": 0.01} | changes | more
    known = {name: value for name, value in params.items() if name in method.Params.model_fields}
    return method(method.Params(**known)).edit(tasks, denoiser, seed)


def images(outcomes):
    return torch.stack([outcome.image for outcome in outcomes])


def test_numbers_are_the_same_to_the_bit_whether_found_or_computed(tiny_sd, sharing):
    tasks = make_tasks(3)
    for setting in [*SETTINGS, *SETTINGS]:  # the second time everything is found
        alone = load_denoiser(tiny_sd)
        alone.kept = KeptRows()
        computed, found = edit(alone, setting, tasks), edit(sharing, setting, tasks)
        assert torch.equal(images(found), images(computed)), setting
        assert [outcome.trace for outcome in found] == [outcome.trace for outcome in computed]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_that_shares_nothing_differs_within_the_tolerance_of_batches(denoiser, sharing, setting):
    tasks = make_tasks(3)
    for _ in range(2):
        shared = images(edit(sharing, setting, tasks, steps=12))
        torch.testing.assert_close(
            shared, images(edit(denoiser, setting, tasks, steps=12)), atol=BATCH_TOLERANCE, rtol=0
        )


class Made:
    """Counts the rows that a model really computes, per edit of a batch."""

    def __init__(self, denoiser):
        self.rows = 0
        denoiser.network.register_forward_pre_hook(self._count)

    def _count(self, module, inputs):
        self.rows += len(inputs[0])

    def by(self, make, edits):
        before = self.rows
        made = make()
        return made, (self.rows - before) / edits


def test_what_is_reported_is_an_edits_own_cost_and_less_is_made(sharing):
    made, tasks, reported, computed = Made(sharing), make_tasks(3), [], []
    for setting in SETTINGS:
        outcomes, rows = made.by(lambda setting=setting: edit(sharing, setting, tasks), 3)
        reported.append((outcomes[0].unet_evaluations / STEPS, outcomes[0].training_evaluations / STEPS))
        computed.append(rows / STEPS)
    # What an edit costs by itself: rows a step, and those of them that train.
    assert reported == [(4, 0), (8, 2), (8, 2), (4, 0), (8, 2)]
    # DDS makes the source's two and its own two, the first Piva its own two, two scores and both adapters' training,
    # the second does not train psi again ...
    assert computed == [4, 6, 5, 2, 5]


def test_an_edits_cost_does_not_depend_on_what_came_before(tiny_sd, sharing):
    tasks = make_tasks(2)
    for setting in SETTINGS[::-1]:
        edit(sharing, setting, tasks)
    fresh = load_denoiser(tiny_sd)
    for setting in SETTINGS:
        for one, other in zip(edit(sharing, setting, tasks), edit(fresh, setting, tasks), strict=True):
            assert one.unet_evaluations == other.unet_evaluations
            assert one.training_evaluations == other.training_evaluations


@pytest.mark.parametrize(
    "change",
    [
        lambda task: dataclasses.replace(task, source=task.source.flip(2)),
        lambda task: dataclasses.replace(task, source_prompt="a green drum"),
        lambda task: dataclasses.replace(task, sample_id="another"),
    ],
)
def test_other_sources_share_nothing_and_other_targets_everything(sharing, denoiser, change):
    (task,), made = make_tasks(1), Made(sharing)
    piva = (Piva, {"preservation_weight": 0.8})
    _, full = made.by(lambda: edit(sharing, piva, [task]), 1)
    other = change(task)
    (outcome,), rows = made.by(lambda: edit(sharing, piva, [other]), 1)
    assert rows >= full - STEPS  # the null prompt's predictions may be shared
    torch.testing.assert_close(
        outcome.image, edit(denoiser, piva, [other])[0].image, atol=BATCH_TOLERANCE, rtol=0
    )
    ship = dataclasses.replace(task, target_prompt="a ship at sea")
    assert made.by(lambda: edit(sharing, piva, [ship]), 1)[1] == full - 3 * STEPS


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"preservation_weight": 0.1}, 3),
        ({"guidance_scale": 3.0}, 3),
        ({"weighting": "sds"}, 3),
        ({"aux_steps": 2}, 2),
        ({"lora_rank": 2}, 2),
        ({"lora_learning_rate": 0.02}, 2),
        ({"prompt_dropout": 0.9}, 2),
        ({"t_max": 500}, 1),
        ({"seed": 1}, 0),
    ],
)
def test_parameters_that_matter_are_not_shared_across(sharing, denoiser, changes, shared):
    tasks, counter = make_tasks(2), Made(sharing)
    edit(sharing, (Piva, {}), tasks)
    outcomes, made = counter.by(lambda: edit(sharing, (Piva, {}), tasks, **changes), 2)
    expected = edit(denoiser, (Piva, {}), tasks, **changes)
    full = expected[0].unet_evaluations
    assert outcomes[0].unet_evaluations == full
    if changes.get("t_max") or changes.get("aux_steps"):
        assert full - made >= shared * STEPS - 1
    else:
        assert full - made == shared * STEPS
    torch.testing.assert_close(images(outcomes), images(expected), atol=BATCH_TOLERANCE, rtol=0)


@pytest.mark.parametrize("rows", [0, 10, 25, 40])
def test_whatever_is_lost_from_memory_is_computed_again(tiny_sd, sharing, rows):
    tasks = make_tasks(2)
    expected = edit(sharing, SETTINGS[2], tasks)
    forgetful = load_denoiser(tiny_sd)
    forgetful.kept = KeptRows(memory_bytes=rows * 4 * 4000, disk_bytes=0)
    for setting in SETTINGS[1:3]:
        outcomes = edit(forgetful, setting, tasks)
    assert torch.equal(images(outcomes), images(expected))


def forget_after(sharing, monkeypatch, steps):
    """From so many steps on no weights are found."""
    found, asked = sharing.kept.get, []

    def forget(keys, like):
        if like.shape[1:] != (4, 8, 8):  # weights
            asked.append(like)
            if len(asked) == steps + 1:
                return None
        return found(keys, like)

    monkeypatch.setattr(sharing.kept, "get", forget)


def test_training_that_is_lost_half_way_is_repeated_from_the_start(sharing, monkeypatch):
    tasks = make_tasks(2)
    (first, second) = (edit(sharing, setting, tasks) for setting in SETTINGS[1:3])
    forget_after(sharing, monkeypatch, 3)
    again = edit(sharing, SETTINGS[2], tasks)
    assert torch.equal(images(again), images(second))
    assert [outcome.trace for outcome in again] == [outcome.trace for outcome in second]
    assert again[0].training_evaluations == second[0].training_evaluations
    assert not torch.equal(images(first), images(second))


@pytest.mark.parametrize("mode", ["pretrained", "online"])
def test_what_was_fitted_before_is_shared_and_trained_on(sharing, denoiser, mode, monkeypatch):
    tasks, made = make_tasks(2), Made(sharing)
    settings = [
        (Piva, {"psi_mode": mode, "source_steps": 7, "source_draws": 2, "preservation_weight": weight})
        for weight in (0.8, 0.4)
    ]
    runs = [made.by(lambda setting=setting: edit(sharing, setting, tasks), 2) for setting in settings]
    online = mode == "online"
    assert {outcomes[0].training_evaluations for outcomes, _ in runs} == {7 * 2 + (1 + online) * STEPS}
    # The second time the fit is found, and of each step the two predictions on the source and psi's training.
    assert runs[0][1] - runs[1][1] == 7 * 2 + (2 + online) * STEPS
    for setting, (outcomes, _) in zip(settings, runs, strict=True):
        expected = images(edit(denoiser, setting, tasks))
        torch.testing.assert_close(images(outcomes), expected, atol=BATCH_TOLERANCE, rtol=0)
    # What is lost from memory half way is trained again from where the fit had ended.
    forget_after(sharing, monkeypatch, 3)
    assert torch.equal(images(edit(sharing, settings[0], tasks)), images(runs[0][0]))


def test_sds_has_nothing_to_share(sharing):
    (outcome,) = edit(sharing, (SDS, {}), make_tasks(1))
    assert outcome.unet_evaluations == 2 * STEPS
    assert (sharing.kept.hits, sharing.kept.misses) == (0, 0)
