"""k steps of a longer run are a run of k steps, bit for bit, for pictures and for scenes."""

import dataclasses

import pytest
import torch

from methods.cds import CDS
from methods.dds import DDS
from methods.piva import Piva
from tests.distillation.scene_tasks import make_scene_tasks
from tests.tiny_sd import make_tasks


def alike(one, other):
    assert one.reason == other.reason
    assert one.trace == other.trace
    assert one.unet_evaluations == other.unet_evaluations
    assert one.training_evaluations == other.training_evaluations


@pytest.mark.parametrize(("method", "more"), [(DDS, {}), (Piva, {"lora_learning_rate": 0.01}), (CDS, {})])
def test_pictures_on_the_way_are_those_of_shorter_runs(denoiser, method, more):
    tasks = make_tasks(3)
    long = method(method.Params(steps=6, **more)).edit(tasks, denoiser, 1, snapshots=(4, 2))
    for steps in (2, 4):
        for whole, short in zip(
            long, method(method.Params(steps=steps, **more)).edit(tasks, denoiser, 1), strict=True
        ):
            assert torch.equal(whole.snapshots[steps].image, short.image)
            alike(whole.snapshots[steps], short)
    plain = method(method.Params(steps=6, **more)).edit(tasks, denoiser, 1)
    assert all(torch.equal(a.image, b.image) for a, b in zip(long, plain, strict=True))


def test_scenes_on_the_way_are_those_of_shorter_runs(denoiser):
    tasks = make_scene_tasks(2)
    long = Piva(Piva.Params(steps=4)).edit_scenes(tasks, denoiser, 1, snapshots=(2,))
    for whole, short in zip(long, Piva(Piva.Params(steps=2)).edit_scenes(tasks, denoiser, 1), strict=True):
        on_the_way = whole.snapshots[2]
        assert torch.equal(on_the_way.field.raw, short.field.raw)
        assert (on_the_way.views.images == short.views.images).all()
        assert not torch.equal(on_the_way.field.raw, whole.field.raw)
        alike(on_the_way, short)


def test_samples_that_fail_on_the_way_fail_in_the_runs_they_are_part_of(denoiser):
    class Unstable(DDS):
        def gradient(self, step):
            gradient = super().gradient(step)
            if step.index == 3:
                gradient[1] = torch.inf
            return gradient

    long = Unstable(DDS.Params(steps=6)).edit(make_tasks(2), denoiser, 0, snapshots=(2, 5))
    assert [o.snapshots[2].reason for o in long] == [None, None]
    assert "step 3" in long[1].snapshots[5].reason
    for steps in (2, 5):
        for whole, short in zip(
            long, Unstable(DDS.Params(steps=steps)).edit(make_tasks(2), denoiser, 0), strict=True
        ):
            alike(whole.snapshots[steps], short)


def test_a_batch_that_fails_wholly_has_all_its_snapshots(denoiser):
    task = dataclasses.replace(make_tasks(1)[0], source=torch.full((3, 32, 32), torch.nan))
    (outcome,) = DDS(DDS.Params(steps=9)).edit([task], denoiser, 0, snapshots=(1, 4))
    assert set(outcome.snapshots) == {1, 4}
    assert all("step 0" in one.reason for one in outcome.snapshots.values())
