"""`run -o s3://...`: the same edits as in a folder, whatever is killed, lost or unreachable on the way."""

import shutil
import subprocess
import time

import pytest

from piva_bench.address import Address
from piva_bench.errors import UserError
from piva_bench.runs import follow
from piva_bench.runs.remote import key_of
from tests.cli.test_merge import untimed
from tests.harness import command, environment
from tests.runs.test_damage import tree

RUN = ("run", "-m", "dds,identity", "-n", "3", "-b", "2", "--workers", "1", "--device", "cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes the commands that follow run on a machine of that name, which has nothing at first."""

    def use(name):
        monkeypatch.setenv("PIVA_BENCH_REMOTE", str(tmp_path / name))
        return tmp_path / name

    monkeypatch.setattr(follow, "WAITS", (0.0, 0.0))
    return use


def edits_at(bucket):
    return [name for name in Address(bucket).names() if key_of(name)]


def test_a_run_in_an_object_store_is_that_of_a_folder(cli, bucket, machine, tmp_path):
    machine("one")
    code, _, err = cli(*RUN, "-o", bucket)
    assert code == 0, err
    assert err.count(f"results go to {bucket}, by way of {tmp_path / 'one'}") == 1
    assert len(edits_at(bucket)) == 6
    assert cli(*RUN, "-o", "folder")[0] == 0
    machine("two")
    code, _, err = cli(*RUN, "-o", bucket)
    assert code == 0, err
    assert "6 edits: 0 computed, 6 already stored" in err
    (two,) = (tmp_path / "two").iterdir()
    assert untimed(two) == untimed(tmp_path / "folder")
    for name in ("images", "traces", "scores"):
        assert tree(two / name) == tree(tmp_path / "folder" / name)
    assert len(edits_at(bucket)) == 6
    code, _, err = cli(*RUN, "-o", bucket, "--dtype", "bfloat16")
    assert code == 2
    assert "another set-up" in err


def test_commands_read_what_lies_there(cli, bucket, machine):
    machine("one")
    for index in range(2):
        assert cli(*RUN, "-o", bucket, "--shard", f"{index}/2")[0] == 0
    for number, line in enumerate((("report",), ("score",), ("compare", f"{bucket}:identity"))):
        machine(f"reader {number}")
        *given, place = (*line, bucket) if len(line) == 1 else (line[0], line[1], f"{bucket}:dds")
        code, _, err = cli(*given, place)
        assert code == 0, err
        assert f"6 edits fetched from {bucket} into " in err
    machine("reader")
    code, _, err = cli("report", f"{bucket}-nothing")
    assert code == 2
    assert f"{bucket}-nothing holds no run" in err


def test_scores_that_are_made_later_are_put_there(cli, bucket, machine, tmp_path):
    one = machine("one")
    assert cli(*RUN, "-o", bucket)[0] == 0
    shutil.rmtree(next(one.iterdir()) / "scores")
    before = set(edits_at(bucket))
    assert cli("score", bucket)[0] == 0
    # The same scores under the same names: nothing new lies there.
    assert set(edits_at(bucket)) == before


def test_killed_in_the_middle_and_gone_on_with_elsewhere(cli, bench, bucket, machine, tmp_path):
    one = machine("one")
    slow = [part.replace("dds", f"{bench / 'odd.py'}:Slow") for part in RUN]
    slow[slow.index("-b") + 1] = "1"
    more = {"SLOW_LOG": str(tmp_path / "log"), "SLOW_SECONDS": "0.5"}
    line = command(bench, *slow, "-o", bucket)
    job = subprocess.Popen(line, cwd=tmp_path, env=environment(bench, **more), stderr=subprocess.PIPE)
    while not edits_at(bucket):
        assert job.poll() is None, job.stderr.read().decode()
        time.sleep(0.05)
    job.kill()
    job.communicate()
    there = len(edits_at(bucket))
    assert 0 < there < 6
    shutil.rmtree(one)
    machine("two")
    done = subprocess.run(line, cwd=tmp_path, env=environment(bench, **more), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"6 edits: {6 - there} computed, {there} already stored" in done.stderr
    alone = command(bench, *slow, "-o", "alone")
    assert subprocess.run(alone, cwd=tmp_path, env=environment(bench, **more)).returncode == 0
    (two,) = (tmp_path / "two").iterdir()
    assert untimed(two) == untimed(tmp_path / "alone")
    assert tree(two / "images") == tree(tmp_path / "alone" / "images")
    assert tree(two / "scores") == tree(tmp_path / "alone" / "scores")


def test_no_network_is_one_line_before_anything_is_made(cli, bucket, machine, monkeypatch):
    import s3fs

    one = machine("one")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    for line in ((*RUN, "-o", bucket), ("report", bucket)):
        code, _, err = cli(*line)
        assert code == 2
        assert err.count(f"{bucket} cannot be read or written") == 1
        assert "Traceback" not in err
        assert not list(one.rglob("records"))


@pytest.mark.parametrize("failures", [2, 10**9])
def test_what_cannot_be_put_is_tried_again_and_kept(cli, bucket, machine, monkeypatch, failures):
    one = machine("one")
    put, left = Address.put, [failures]

    def fail(self, name, data):
        if name.startswith("edits/") and left[0]:
            left[0] -= 1
            raise UserError("the wire is cut.")
        put(self, name, data)

    monkeypatch.setattr(follow, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(Address, "put", fail)
    code, _, err = cli(*RUN, "-o", bucket)
    if failures == 2:
        assert code == 0, err
        assert "wire" not in err
    else:
        (folder,) = one.iterdir()
        assert code == 2
        assert err.count("the wire is cut. Until then edits are kept in ") == 1
        assert f"`piva-bench merge {folder} -o {bucket}`" in err
        assert edits_at(bucket) == []
        left[0] = 0
        code, _, err = cli(*RUN, "-o", bucket)
        assert code == 0, err
        assert "6 edits: 0 computed, 6 already stored" in err
    assert len(edits_at(bucket)) == 6
