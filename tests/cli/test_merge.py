"""Shares of a run, and runs joined: the same results as of one run, whatever was interrupted on the way."""

import json
import shutil

import pytest

from piva_bench.runs import store as store_module
from piva_bench.runs.store import Store
from tests.harness import records
from tests.runs.test_damage import tree

RUN = ("run", "-m", "piva,identity", "-b", "1", "-o", "out")


def untimed(folder):
    names = ("seconds", "peak_memory_mb", "created")
    return {key: {n: v for n, v in row.items() if n not in names} for key, row in records(folder).items()}


@pytest.fixture
def shares(cli, tmp_path):
    for index in range(4):
        code, _, err = cli(*RUN, "-n", "5", "--shard", f"{index}/4")
        assert code == 0, err
    return [tmp_path / f"out-shard-{index}-of-4" for index in range(4)]


def test_shares_merged_are_the_whole_run(cli, shares, tmp_path):
    assert [len(records(share)) for share in shares] == [4, 2, 2, 2]
    before = [tree(share) for share in shares]
    code, _, err = cli("merge", *shares, "-o", "merged")
    assert code == 0, err
    assert "10 edits in merged: 10 taken from 4 runs, 0 damaged" in err
    assert [tree(share) for share in shares] == before
    code, _, err = cli(*RUN, "-n", "5")
    assert code == 0, err
    assert untimed(tmp_path / "merged") == untimed(tmp_path / "out")
    for name in ("images", "traces", "scores"):
        assert tree(tmp_path / "merged" / name) == tree(tmp_path / "out" / name)
    assert "10 edits scored with pixels-v1" in cli("score", "merged")[2]
    code, _, err = cli("report", "merged")
    assert code == 0, err
    assert "warning" not in err
    # A run goes on where the merge has ended.
    assert "10 edits: 0 computed, 10 already stored" in cli(*RUN[:-1], "merged", "-n", "5")[2]


def test_more_shares_than_samples_and_what_a_scheduler_says(cli, tmp_path, monkeypatch):
    code, _, err = cli(*RUN, "-n", "2", "--shard", "7/8")
    assert (code, "shard 7/8 has no sample: nothing to do" in err) == (0, True)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    code, _, err = cli(*RUN, "-n", "2")
    assert code == 0, err
    assert (
        err.count("shard 1/2, as SLURM_ARRAY_TASK_ID and _COUNT say; --shard 0/1 makes all of the run here")
        == 1
    )
    assert {sample for _, sample in records(tmp_path / "out-shard-1-of-2")} == {"s1"}
    assert cli(*RUN, "-n", "2", "--shard", "0/1")[0] == 0
    assert len(records(tmp_path / "out")) == 4


def test_a_sweep_in_shares(cli, tmp_path):
    arguments = (
        "sweep",
        "-m",
        "piva",
        "--param",
        "steps=1,2",
        "--strength",
        "brightness",
        "--identity",
        "brightness",
        "--beside",
        "identity",
        "-n",
        "2",
        "-o",
        "swept",
    )
    for index in range(2):
        code, _, err = cli(*arguments, "--shard", f"{index}/2")
        assert code == 0, err
    assert cli("merge", "swept-shard-0-of-2", "swept-shard-1-of-2", "-o", "swept")[0] == 0
    code, _, err = cli(*arguments)
    assert code == 0, err
    assert "6 edits: 0 computed, 6 already stored" in err


def test_a_merge_cut_short_is_repeated(cli, shares, tmp_path, monkeypatch):
    """Stop after each write of a merge in turn."""
    written, total = 0, 0
    original = store_module.write_atomic
    assert cli("merge", *shares[:2], "-o", "whole")[0] == 0
    for stop in range(0, 40, 3):
        written = 0

        def write(path, data, sync=True, stop=stop):
            nonlocal written
            written += 1
            if written > stop:
                raise KeyboardInterrupt
            original(path, data)

        monkeypatch.setattr(store_module, "write_atomic", write)
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        cli("merge", *shares[:2], "-o", "cut")
        monkeypatch.setattr(store_module, "write_atomic", original)
        code, _, err = cli("merge", *shares[:2], "-o", "cut")
        assert code == 0, err
        for name in ("records", "images", "traces", "scores"):
            assert tree(tmp_path / "cut" / name) == tree(tmp_path / "whole" / name)
        total += written > stop
    assert total > 5


def test_of_equal_edits_the_newer_and_of_damaged_ones_the_whole(cli, shares, tmp_path):
    shutil.copytree(shares[1], tmp_path / "other")
    with Store(tmp_path / "other") as store:
        (one, two) = store.records().values()
        newer = one.model_copy(update={"created": "2999-01-01T00:00:00+00:00", "seconds": 123.0})
        store.commit([store_module.Edit(newer, store.load(one).png)])
    store.image_path(two.key).write_bytes(b"torn")
    for order in ((shares[1], "other"), ("other", shares[1])):
        code, _, err = cli("merge", *order, "-o", "merged")
        assert code == 0, err
        assert "2 edits in merged" in err
        assert ", 0 damaged" in err
        assert "torn or was changed" in err or order[0] == shares[1]
        merged = Store(tmp_path / "merged").records()
        assert merged[one.key].seconds == 123.0
        assert all(Store(tmp_path / "merged").is_whole(record) for record in merged.values())
        shutil.rmtree(tmp_path / "merged")
    code, _, err = cli("merge", "other", "-o", "merged")
    assert "1 edits in merged: 1 taken from 1 runs, 1 damaged and missing" in err


def test_what_does_not_belong_together_is_refused(cli, shares, tmp_path):
    code, _, err = cli("run", "-m", "identity", "-n", "1", "-o", "half", "--dtype", "bfloat16")
    assert code == 0, err
    code, _, err = cli("merge", shares[0], "half", "-o", "merged")
    assert code == 2
    assert "dtype" in err
    assert not (tmp_path / "merged" / "records").exists()
    assert cli("merge", shares[0], "nowhere", "-o", "merged")[0] == 2
    # A manifest that says otherwise than its records.
    manifest = json.loads((tmp_path / "half" / "manifest.json").read_text())
    del manifest["content_hash"]
    manifest["setup"]["dtype"] = "float32"
    (tmp_path / "half" / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = cli("merge", shares[0], "half", "-o", "merged")
    assert code == 2
    assert "half does not belong to the others" in err


def test_other_versions_of_libraries_are_told(cli, shares, tmp_path):
    path = shares[1] / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["content_hash"]
    manifest["runs"][-1]["environment"]["packages"]["torch"] = "1.13"
    path.write_text(json.dumps(manifest))
    code, _, err = cli("merge", *shares[:2], "-o", "merged")
    assert code == 0, err
    assert "warning: merged holds edits made with torch 1.13 and " in err
    assert "torch" not in cli("merge", shares[0], shares[2], "-o", "alike")[2]
