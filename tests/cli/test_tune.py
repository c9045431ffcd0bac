"""`piva-bench tune` on a tiny model and a protocol whose metrics stand in for distance and accuracy."""

import json
import re
import shutil

import pandas as pd
import pytest

from piva_bench import paths
from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.runs import run as runs
from piva_bench.runs import tuning

SHADES = '''
import torch
from piva_bench.method import EditMethod, EditOutcome, MethodCard, Strength
from piva_bench.params import MethodParams, parameter


class ShadesParams(MethodParams):
    level: float = parameter(0.9, ge=0, le=1, source="assumed", description="brightness")
    tint: float = parameter(0.0, ge=0, le=1, source="assumed", tune=(0.0, 0.05), description="more of it")


class Shades(EditMethod):
    """Grey of a brightness; sample-independent, so that the best setting is known."""

    card = MethodCard(name="shades", title="Shades", paper=None, summary="a test", kind="sampling",
                      strength=Strength(parameter="level", values=(0.0, 0.2, 0.4, 0.6, 0.8)), idea_code_license="none")
    Params = ShadesParams

    def edit(self, batch, denoiser, seed, on_step=None):
        value = 2 * min(self.params.level + self.params.tint, 1.0) - 1
        return [EditOutcome(t.sample_id, torch.full_like(t.source, value), None, 10) for t in batch]
'''


@pytest.fixture
def tiny_val(bench, tmp_path, monkeypatch):
    """The miniature as the validation set."""
    shutil.copytree(bench / "data", tmp_path / "datasets" / "pie_val")
    monkeypatch.setattr(paths, "data_root", lambda: tmp_path / "datasets")


@pytest.fixture
def tune(cli, tmp_path, monkeypatch, tiny_val):
    """Brightness stands for the distance, and brightness within the mask over 0.5 for an edit."""
    monkeypatch.setattr(tuning, "DISTANCE", ("brightness",))
    monkeypatch.setattr(tuning, "ACCURACY", "masked")
    monkeypatch.setattr(paths, "tuning_dir", lambda: tmp_path / "none")
    (tmp_path / "shades.py").write_text(SHADES)

    def run(*arguments):
        return cli("tune", "-m", "shades.py:Shades", "--limit", 5, "-o", "out", *arguments)

    return run


def facts(tmp_path):
    return json.loads((tmp_path / "results" / "tuning" / "shades-pie_val.json").read_text())


def test_it_finds_the_best_setting_shows_what_it_tried_and_again_makes_nothing(tune, tmp_path):
    code, out, err = tune()
    assert code == 0, err
    made = facts(tmp_path)
    # 0 is no edit (nothing within the mask), so 0.05 comes nearest.
    assert made["chosen"] == {"level": 0.0, "tint": 0.05}
    assert made["default"] == {"level": 0.9, "tint": 0.0}
    assert "**Chosen: level=0.0, tint=0.05**" in out
    assert made["searched"] == {"level": [0.0, 0.2, 0.4, 0.6, 0.8], "tint": [0.0, 0.05]}
    assert (made["settings"], len(made["trials"]), made["samples"], made["whole"]) == (11, 11, 5, False)
    stated = (
        "profile",
        "protocol",
        "fingerprint",
        "model_fingerprint",
        "machine",
        "criterion",
        "budget",
        "spent",
    )
    assert all(made[name] for name in stated)
    assert made["spent"] == sum(trial["samples"] * 10 for trial in made["trials"])
    assert made["spent"] <= tuning.edits(11, 5) * 10
    frame = pd.read_csv(tmp_path / "results" / "tuning" / "shades-pie_val.csv")
    # The default goes all the way.
    assert frame.loc[0, ["level", "tint", "samples"]].tolist() == [0.9, 0.0, 5]
    best = frame[frame["chosen"]].iloc[0]
    assert best["samples"] == 5
    grey = round(0.05 * 255)
    assert best["distance"] == pytest.approx(grey, abs=0.5)
    assert best["to_default"] == pytest.approx(grey - round(0.9 * 255), abs=1)
    assert best["to_default_low"] <= best["to_default"] <= best["to_default_high"]
    assert (frame["samples"].value_counts().to_dict()) == {1: 4, 2: 3, 3: 1, 5: 3}
    text = (tmp_path / "results" / "tuning" / "shades-pie_val.md").read_text()
    assert text.strip() == out.strip()
    # A second one finds all edits and chooses the same.
    code, _, err = tune()
    assert code == 0
    assert not re.search(r"^\[\d", err, re.MULTILINE)
    again = facts(tmp_path)
    for row in (*made["trials"], *again["trials"]):
        row.pop("seconds")
    assert again == made


def test_a_killed_tune_goes_on_and_chooses_the_same(tune, tmp_path, monkeypatch):
    whole, computed = tune(), []
    chosen = facts(tmp_path)["chosen"]
    assert whole[0] == 0
    for place in (tmp_path / "out", tmp_path / "results"):
        place.rename(tmp_path / f"{place.name}-whole")
    real = runs._compute

    def killed(*arguments):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(1)
        return real(*arguments)

    monkeypatch.setattr(runs, "_compute", killed)
    code, _, err = tune()
    assert (code, "run the same command again" in err) == (130, True)
    before = len(list((tmp_path / "out" / "records").iterdir()))
    monkeypatch.setattr(runs, "_compute", real)
    assert tune()[0] == 0
    assert facts(tmp_path)["chosen"] == chosen
    assert 0 < before < len(list((tmp_path / "out" / "records").iterdir()))


def test_a_small_budget_tries_less_and_says_so(tune, tmp_path):
    code, _, err = tune("--budget", 200)
    assert code == 0
    made = facts(tmp_path)
    assert len(made["trials"]) < 11
    assert made["spent"] <= 200
    assert f"{len(made['trials'])} of 11 settings" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "pie"], "tune does not look at pie: results are reported on test sets"),
        (["--dataset", "objaverse"], "Give --dataset pie_val or objaverse_val"),
        (["--param", "levle=0,1"], "Did you mean level"),
        (["--param", "level=0.5", "--param", "tint=0"], "has nothing to tune"),
        (["--param", "level=0,2"], "less than or equal to 1"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_computed(tune, tmp_path, arguments, message):
    code, _, err = tune(*arguments)
    assert code == EXIT_USER_ERROR
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_protocol_without_the_truth_cannot_judge(cli, tiny_val):
    code, _, err = cli("tune", "-m", "dds", "-o", "out")
    assert code == EXIT_USER_ERROR
    assert "pixels-v1 does not measure the distance to the true edit" in err


def test_list_describe_and_check_know_what_is_tuned(cli, tmp_path):
    rows = {row["name"]: row for row in json.loads(cli("list", "methods", "--json")[1])["methods"]}
    assert (rows["piva"]["strength"], rows["identity"]["strength"]) == ("preservation_weight", None)
    assert "lora_learning_rate" in rows["piva"]["tuned"]
    described = json.loads(cli("describe", "method", "piva", "--json")[1])
    tuned = {row["name"]: row["tuned over"] for row in described["parameters"]}
    assert tuned["lora_learning_rate"] == "0.0003, 0.001, 0.003"
    plain = SHADES.replace('strength=Strength(parameter="level", values=(0.0, 0.2, 0.4, 0.6, 0.8)),', "")
    (tmp_path / "plain.py").write_text(plain)
    code, out, _ = cli("check", "method", "plain.py:Shades")
    assert "warning  Its card names the parameter that says how strongly it edits" in out
    assert code == ("FAILED" in out)
