"""The authors' loops do the engine's work: the same picture under the same draws, from the rows that are meant."""

import dataclasses
import io
from contextlib import redirect_stdout

import pytest
import torch

from benchmarks import official
from benchmarks.loops import LOOPS, ORIGINS
from benchmarks.loops.model import Model
from piva_bench.diffusion.load import load_denoiser
from piva_bench.registry import METHODS
from piva_bench.session.noise import BatchNoise
from tests.tiny_sd import make_tasks, tiny_sd

__all__ = ["tiny_sd"]

STEPS = 3
EXTRA = {"cds": 2, "vsd": 1, "nfsd": 1, "csd": 1}
"""Rows of a step that the authors' code computes and the engine does not: the target's two rows again for the
contrastive loss, phi's second row, the null prompt's second row, a row of weight 0."""


@pytest.fixture(scope="module")
def exact(tiny_sd):
    return load_denoiser(tiny_sd, dtype=torch.float64)


@pytest.fixture(scope="module")
def task():
    return make_tasks(1)[0]


@pytest.fixture
def same_draws(task, monkeypatch):
    """Loop and engine draw one noise, the middle timestep and the middle of every interval."""
    noise, weights = torch.randn(4, 8, 8, dtype=torch.float64), BatchNoise.uniform

    def uniform(self, step, purpose, shape=()):
        if purpose.endswith("/weights"):
            return weights(self, step, purpose, shape)
        return torch.full((len(self.sample_ids), *shape), 0.5)

    def timesteps(self, step, among, purpose):
        return torch.full((len(self.sample_ids),), among[len(among) // 2])

    monkeypatch.setattr(BatchNoise, "uniform", uniform)
    monkeypatch.setattr(BatchNoise, "timesteps", timesteps)
    monkeypatch.setattr(BatchNoise, "noise", lambda self, *_: noise.expand(len(self.sample_ids), -1, -1, -1))
    monkeypatch.setattr(torch, "randn_like", lambda x, **_: noise[None].to(x))
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(0.5))
    middle = lambda low, high, size, **_: torch.full(size, low + (high - low) // 2)  # noqa: E731
    monkeypatch.setattr(torch, "randint", middle)


def both(name, exact, task, changes=None):
    """A rule's picture by the loop and by the engine, and the rows of each: all, and those with a graph."""
    rule = official.Rule(name, STEPS, exact, Model(exact))
    if changes:
        rule.method = type(rule.method)(rule.method.params.model_copy(update=changes))
        vars(rule.settings).update(changes)
    theirs = LOOPS[name](rule.copy, task, rule.settings)
    rule.by_engine([task])
    (ours,) = rule.outcomes
    rows = (rule.copy.rows, rule.copy.differentiated), (ours.unet_evaluations, ours.training_evaluations)
    return theirs, ours.image, *rows


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_makes_the_engines_picture(name, exact, task, same_draws):
    # Adapters begin with random numbers of their own: here they learn nothing.
    frozen = {"lora_learning_rate": 1e-300} if name in ("vsd", "piva") else {}
    theirs, ours, loop_rows, engine_rows = both(name, exact, task, frozen)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    if name == "ism":
        # The engine makes as many hops as the noisiest timestep needs, whatever was drawn.
        assert engine_rows[0] / 2 < loop_rows[0] <= engine_rows[0]
    else:
        assert loop_rows[0] == engine_rows[0] + STEPS * EXTRA.get(name, 0)
    assert loop_rows[1] == engine_rows[1]


@pytest.mark.parametrize("name", ["vsd", "piva"])
def test_adapters_of_a_loop_learn(name, exact, task, same_draws):
    pictures = [both(name, exact, task, {"lora_learning_rate": rate})[0] for rate in (1e-300, 0.05)]
    assert (pictures[0] - pictures[1]).abs().max() > 1e-4


def test_there_is_a_loop_for_every_rule_of_a_paper():
    # Piva's two limits are its own, and ours.
    distilling = {name for name in METHODS.names() if METHODS.load(name).card.kind == "distillation"} - {
        "piva_analytic",
        "piva_untrained",
    }
    assert distilling == set(LOOPS) == set(ORIGINS)


def test_the_script_prints_a_row_for_each_rule(tiny_sd):
    options = {"model": str(tiny_sd), "shape": None, "samples": 2, "loops": 1, "steps": 2, "repeats": 1}
    options |= {"device": "cpu", "dtype": "float32", "threads": None, "profile": False}
    with redirect_stdout(io.StringIO()) as out:
        official.main(only="sds,piva", **options)
    rows = [line.split("|") for line in out.getvalue().splitlines() if line.startswith("| `")]
    assert [row[1].strip() for row in rows] == ["`sds`", "`piva`"]
    assert [[cell.strip() for cell in row[6:8]] for row in rows] == [["4 (0)"] * 2, ["16 (4)"] * 2]
    for row in rows:
        slow, fast, ratio = float(row[2]), float(row[3]), float(row[4].split()[0])
        assert slow / fast == pytest.approx(ratio, rel=0.05)


def test_an_edit_that_failed_is_not_timed(exact, task):
    rule = official.Rule("sds", 1, exact, Model(exact))
    rule.by_engine([task])
    broken = dataclasses.replace(task, source=torch.full_like(task.source, torch.inf))
    with pytest.raises(RuntimeError, match="sds"):
        rule.by_engine([broken])
