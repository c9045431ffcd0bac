"""Formats that can name code to run: what nerfstudio writes is read, and nothing in it is run."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from piva_bench.method import EditOutcome
from piva_bench.nerfstudio.untrusted import load_checkpoint, load_configuration


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_checkpoint_is_tensors_and_numbers(tmp_path):
    content = {
        "step": 3,
        "pipeline": {"weight": torch.ones(2)},
        "optimizers": {"lr": np.float64(0.5), "count": np.int64(4), "flag": np.bool_(True)},
    }
    torch.save(content, tmp_path / "step-3.ckpt")
    found = load_checkpoint(tmp_path / "step-3.ckpt")
    assert found["optimizers"] == content["optimizers"]
    assert torch.equal(found["pipeline"]["weight"], torch.ones(2))


def test_a_checkpoint_runs_nothing(tmp_path):
    torch.save({"step": 3, "x": Evil(str(tmp_path / "ran"))}, tmp_path / "step-3.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "step-3.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_configuration_holds_dataclasses_and_paths():
    """As ns-train dumps them: objects of a package's dataclasses, names, tuples, paths."""
    text = yaml.dump({"made": EditOutcome("a", None, reason="b"), "path": Path("a/b"), "pair": (1, 2)})
    text += "optimizer: !!python/name:torch.optim.adam.Adam ''\n"
    found = load_configuration(text)
    assert found["made"] == EditOutcome("a", None, reason="b")
    assert found["path"] == Path("a/b")
    assert found["pair"] == (1, 2)
    assert found["optimizer"] is torch.optim.Adam


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [ran]",
        "!!python/object/new:os.mkdir [ran]",
        "!!python/object/apply:subprocess.run [[mkdir, ran]]",
        '!!python/object/apply:builtins.eval [\'__import__("os").mkdir("ran")\']',
        "!!python/object/apply:piva_bench.files.write_atomic [ran, x]",
        "!!python/name:os.system ''",
        "!!python/module:antigravity ''",
        "!!python/object:subprocess.Popen {args: [mkdir, ran]}",
        "!!python/object/apply:torch.optim.adam.Adam [[]]",
    ],
)
def test_a_configuration_runs_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(yaml.YAMLError, match="not run"):
        load_configuration(f"a: {text}\n")
    assert not list(tmp_path.iterdir())
