"""Shares of a run, and runs joined: the same results as of one run, whatever was interrupted on the way."""

import json
import shutil
import subprocess
import time

import pytest

from piva_bench.runs import store as store_module
from piva_bench.runs.store import Store
from tests.harness import command, environment, records
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
    return [tmp_path / "out" / "shards" / f"{index}-of-4" for index in range(4)]


def test_shares_merged_are_the_whole_run(cli, shares, tmp_path):
    assert [len(records(share)) for share in shares] == [4, 2, 2, 2]
    before = [tree(share) for share in shares]
    code, _, err = cli("merge", *shares, "-o", "merged")
    assert code == 0, err
    assert "10 edits in merged: 10 taken from 4 runs, 0 damaged" in err
    assert [tree(share) for share in shares] == before
    code, _, err = cli(*RUN[:-1], "whole", "-n", "5")
    assert code == 0, err
    assert untimed(tmp_path / "merged") == untimed(tmp_path / "whole")
    for name in ("images", "traces", "scores"):
        assert tree(tmp_path / "merged" / name) == tree(tmp_path / "whole" / name)
    assert "10 edits scored with pixels-v1" in cli("score", "merged")[2]
    code, _, err = cli("report", "merged")
    assert code == 0, err
    assert "warning" not in err
    # A run goes on where the merge has ended.
    assert "10 edits: 0 computed, 10 already stored" in cli(*RUN[:-1], "merged", "-n", "5")[2]


def test_every_command_reads_the_union_of_shares(cli, shares, tmp_path):
    before = [tree(share) for share in shares]
    # Cut another way: what the others have made is taken in, the rest is made.
    code, _, err = cli(*RUN, "-n", "6", "--shard", "1/2")
    assert code == 0, err
    assert "6 edits: 2 computed, 4 already stored" in err
    assert not (tmp_path / "out" / "records").exists()
    code, _, err = cli("compare", "out:identity", "out:piva")
    assert code == 0, err
    assert "12 edits of shards taken into out" in err
    code, _, err = cli("report")
    assert code == 2  # it lies elsewhere
    code, _, err = cli("score", "out")
    assert code == 0, err
    assert "taken" not in err
    assert "12 edits scored with pixels-v1" in err
    assert "12 edits: 0 computed, 12 already stored" in cli(*RUN)[2]
    assert [tree(share) for share in shares] == before
    # A damaged edit of a share is made again in the whole; a link among the shares is not followed.
    shutil.copytree(tmp_path / "out" / "shards" / "0-of-4", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "out" / "records")
    shutil.rmtree(shares[0])
    shares[0].symlink_to(tmp_path / "elsewhere")
    picture = next((shares[2] / "images").iterdir())
    picture.write_bytes(b"torn")
    code, _, err = cli("report", "out")
    assert code == 0, err
    assert picture.name in err
    assert len(records(tmp_path / "out")) == 12 - 4 - 1
    assert "12 edits: 5 computed, 7 already stored" in cli(*RUN)[2]


def test_shares_of_another_set_up_are_refused(cli, shares, tmp_path):
    code, _, err = cli(*RUN, "-n", "5", "--shard", "0/4", "--dtype", "bfloat16")
    assert code == 2
    assert "holds results of another set-up (dtype float32, now bfloat16)" in err


@pytest.mark.timeout(900)
def test_three_at_once_on_one_folder_one_of_them_killed(cli, bench, tmp_path):
    """As jobs of a cluster: the union is to the byte what one undisturbed process makes."""
    arguments = ("-m", "slow,identity", "-b", "1", "--workers", "1", "--device", "cpu")
    arguments = tuple(one.replace("slow", f"{bench / 'odd.py'}:Slow") for one in arguments)
    more = {"SLOW_LOG": str(tmp_path / "log"), "SLOW_SECONDS": "0.2"}

    def start(index):
        line = command(bench, "run", *arguments, "-o", "out", "--shard", f"{index}/3")
        return subprocess.Popen(line, cwd=tmp_path, env=environment(bench, **more), stderr=subprocess.PIPE)

    jobs = [start(index) for index in range(3)]
    share = tmp_path / "out" / "shards" / "1-of-3"
    while not list(share.glob("records/*")):
        assert jobs[1].poll() is None, jobs[1].stderr.read().decode()
        time.sleep(0.01)
    jobs[1].kill()
    ended = [job.communicate()[1].decode() for job in jobs]
    assert [job.returncode for job in jobs] == [0, -9, 0], ended
    again = start(1)
    err = again.communicate()[1].decode()
    assert again.returncode == 0, err
    assert ", 0 already stored" not in err
    line = command(bench, "run", *arguments, "-o", "alone")
    assert subprocess.run(line, cwd=tmp_path, env=environment(bench, **more)).returncode == 0
    assert "12 edits of shards taken" in cli("report", "out")[2]
    assert untimed(tmp_path / "out") == untimed(tmp_path / "alone")
    for name in ("images", "traces", "scores"):
        assert tree(tmp_path / "out" / name) == tree(tmp_path / "alone" / name)
    rubbish = [path for path in (tmp_path / "out").rglob("*") if path.suffix == ".part"]
    assert rubbish == []


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
    assert {sample for _, sample in records(tmp_path / "out" / "shards" / "1-of-2")} == {"s1"}
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
