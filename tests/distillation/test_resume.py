"""Scene edits that are killed on their way and go on: everything is as if nothing had happened, bit for bit."""

import numpy as np
import pytest
import torch

from methods.dds import DDS
from methods.piva import Piva
from piva_bench.distillation import engine
from piva_bench.runs import unfinished
from piva_bench.runs.unfinished import Unfinished
from tests.distillation.scene_tasks import make_scene_tasks


class Killed(BaseException):
    """As a signal: nothing catches it."""


def kill_at(step):
    def told(progress):
        if progress.index == step:
            raise Killed

    return told


def same(one, other):
    assert torch.equal(one.field.raw, other.field.raw)
    assert np.array_equal(one.views.images, other.views.images)
    assert one.trace == other.trace
    assert (one.unet_evaluations, one.training_evaluations) == (
        other.unet_evaluations,
        other.training_evaluations,
    )


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(unfinished, "EVERY", 0)


METHODS = [
    DDS(DDS.Params(steps=5)),
    Piva(Piva.Params(steps=5, lora_learning_rate=0.01)),
    Piva(Piva.Params(steps=5, lora_learning_rate=0.01, fused_training=True)),
]


@pytest.mark.parametrize("method", METHODS, ids=["dds", "piva", "fused"])
def test_a_killed_edit_goes_on_bit_for_bit(denoiser, tmp_path, often, method, monkeypatch):
    monkeypatch.setattr(engine, "DIAGNOSED", 2)  # so that what is only measured now and then is there, too
    tasks = make_scene_tasks(2, field_learning_rate=0.1, colour_variation=1.0)
    whole = method.edit_scenes(tasks, denoiser, 4)
    with pytest.raises(Killed):
        method.edit_scenes(tasks, denoiser, 4, kill_at(3), unfinished=Unfinished(tmp_path, "a/state", "one"))
    seen = []
    again = method.edit_scenes(
        tasks, denoiser, 4, lambda progress: seen.append(progress.index),
        unfinished=Unfinished(tmp_path, "a/state", "one"),
    )  # fmt: skip
    assert seen == [3, 4]
    for one, other in zip(whole, again, strict=True):
        same(one, other)


def test_one_that_failed_before_the_kill_stays_failed(denoiser, tmp_path, often):
    tasks = make_scene_tasks(2)
    tasks[1].field.raw.data.fill_(float("nan"))
    method = DDS(DDS.Params(steps=4))
    with pytest.raises(Killed):
        method.edit_scenes(tasks, denoiser, 0, kill_at(2), unfinished=Unfinished(tmp_path, "state", "one"))
    well, failed = method.edit_scenes(tasks, denoiser, 0, unfinished=Unfinished(tmp_path, "state", "one"))
    assert "diverged at step 0" in failed.reason
    same(well, method.edit_scenes(tasks, denoiser, 0)[0])


@pytest.mark.parametrize("harm", ["torn", "foreign", "link", "none"])
def test_a_state_that_is_torn_or_anothers_is_passed_over(denoiser, tmp_path, often, harm):
    (task,) = make_scene_tasks(1)
    method, path = DDS(DDS.Params(steps=3)), tmp_path / "state"
    with pytest.raises(Killed):
        method.edit_scenes([task], denoiser, 0, kill_at(2), unfinished=Unfinished(tmp_path, "state", "one"))
    if harm == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    identity = "other" if harm == "foreign" else "one"
    seen = []
    (outcome,) = method.edit_scenes(
        [task], denoiser, 0, lambda progress: seen.append(progress.index),
        unfinished=Unfinished(tmp_path, "state", identity),
    )  # fmt: skip
    assert seen == ([2] if harm == "none" else [0, 1, 2])
    same(outcome, method.edit_scenes([task], denoiser, 0)[0])


def test_where_the_way_is_wanted_it_is_gone_again(denoiser, tmp_path, often):
    (task,) = make_scene_tasks(1)
    method = DDS(DDS.Params(steps=4))
    with pytest.raises(Killed):
        method.edit_scenes([task], denoiser, 0, kill_at(3), unfinished=Unfinished(tmp_path, "state", "one"))
    (outcome,) = method.edit_scenes([task], denoiser, 0, None, [2], Unfinished(tmp_path, "state", "one"))
    same(outcome.snapshots[2], DDS(DDS.Params(steps=2)).edit_scenes([task], denoiser, 0)[0])


def test_states_are_kept_now_and_then_and_their_time_counts(tmp_path, monkeypatch):
    from piva_bench.distillation.state import State

    clock = iter([100.0, 130.0, 170.0, 180.0, 190.0, 500.0, 520.0]).__next__
    monkeypatch.setattr(unfinished.time, "monotonic", clock)
    kept = Unfinished(tmp_path, "state", "one")  # at 100
    assert not kept.due  # at 130
    assert kept.due  # at 170
    kept.write(State(7, {"x": torch.arange(3)}, {"a": [1.5, float("nan")]}))  # 80 s of work by 180
    again = Unfinished(tmp_path, "state", "one")
    state = again.read()
    assert (state.steps, again.earlier) == (7, 80.0)
    assert torch.equal(state.tensors["x"], torch.arange(3))
    assert state.words["a"][0] == 1.5
    assert np.isnan(state.words["a"][1])
    again.remove()
    assert not (tmp_path / "state").exists()
