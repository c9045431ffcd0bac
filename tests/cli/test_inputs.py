"""Inputs as people have them, through the command line: right, or one line and an exit code that is not zero."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from piva_bench.cli.data import EXIT_PROBLEMS
from piva_bench.cli.run import EXIT_FAILED_SAMPLES
from tests.harness import RESOLUTION, records


@pytest.fixture
def own_pie(bench, tmp_path):
    """A copy of the miniature dataset whose mapping may be changed: a function of a function of the mapping."""
    shutil.copytree(bench / "data", tmp_path / "pie")
    path = tmp_path / "pie" / "mapping_file.json"

    def change(edit):
        mapping = json.loads(path.read_text())
        edit(mapping)
        path.write_text(json.dumps(mapping))
        return tmp_path / "pie"

    return change


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "cup.png"
    Image.fromarray(np.full((RESOLUTION, RESOLUTION, 3), 90, np.uint8)).save(path)
    return path


def test_a_bad_entry_costs_its_own_sample_alone(cli, own_pie, tmp_path):
    root = own_pie(
        lambda m: (m["s1"].pop("mask"), m["s2"].update(mask=[0, 1, 2]), m["s0"].pop("blended_word"))
    )
    code, _, err = cli("run", "-m", "identity", "-o", "good", "--sample", "s0,s3", "--data-root", root)
    assert code == 0, err
    assert "blended_word is missing and taken as empty" in err
    assert {row["status"] for row in records(tmp_path / "good").values()} == {"ok"}
    code, out, err = cli("run", "-m", "identity", "-o", "all", "--data-root", root)
    assert code == EXIT_FAILED_SAMPLES
    assert "identity" in out  # the table of the others
    reasons = {name: row["reason"] for (_, name), row in records(tmp_path / "all").items()}
    assert reasons["s1"] == "sample 's1': has no mask: add it, or null where there is none"
    assert "odd number of values" in reasons["s2"]
    assert [reasons[name] for name in ("s0", "s3", "s4", "s5")] == [None] * 4
    code, out, err = cli("data", "verify", "pie", "--data-root", root)
    assert code == EXIT_PROBLEMS
    assert reasons["s1"] in out
    assert reasons["s2"] in out
    assert "2 problems" in out
    assert "note: blended_word is missing" in err
    code, _, err = cli("report", "all", "--data-root", root)
    assert code == 0, err
