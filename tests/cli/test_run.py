"""`piva-bench run` from the outside, on the miniature of tests/harness.py."""

import errno
import json
import os
import signal
import subprocess
import time

import pytest
import yaml

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.cli.run import EXIT_FAILED_SAMPLES, EXIT_INTERRUPTED
from tests.harness import command, environment, records


@pytest.fixture
def odd(bench):
    return lambda name: f"{bench / 'odd.py'}:{name}"


def only_line(err):
    """The error of a command that must have said exactly one thing, on one line."""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_a_run_ends_with_pictures_scores_table_and_report(cli, tmp_path):
    code, out, err = cli("run", "--method", "piva,dds", "-m", "identity", "-o", "out", "--limit", "2")
    assert code == 0, err
    assert "Results by method" in out
    assert "pixels-v1" in out
    for name in ("piva", "dds", "identity"):
        assert any(line.startswith(name) for line in out.splitlines())
    assert "[2/6] piva" in err
    assert "brightness" in err
    assert "6 edits: 6 computed, 0 already stored, 0 failed" in err
    report = {path.name for path in (tmp_path / "out" / "report").iterdir()}
    assert report >= {"methods.csv", "methods.md", "methods.tex", "by_type.csv", "contact_sheet.png"}
    assert len(records(tmp_path / "out")) == 6
    assert len(list((tmp_path / "out" / "scores" / "pixels-v1").iterdir())) == 6


def test_the_default_directory_names_profile_and_dataset(cli, tmp_path):
    assert cli("run", "-m", "identity", "-n", "1")[0] == 0
    assert (tmp_path / "results" / "runs" / "embedded-pie" / "manifest.json").is_file()


def test_the_same_command_again_computes_nothing_and_prints_the_same_table(cli):
    first = cli("run", "-m", "identity", "-o", "out")
    second = cli("run", "-m", "identity", "-o", "out")
    assert second[1] == first[1]
    assert "0 computed, 6 already stored" in second[2]


def test_a_failed_sample_is_reported_and_makes_the_run_exit_non_zero(cli, odd):
    code, out, err = cli("run", "-m", odd("FailsOne"), "-o", "out")
    assert code == EXIT_FAILED_SAMPLES
    assert "failed: fails_one on s1: diverged at step 2" in err
    assert "Results by method" in out
    assert cli("run", "-m", odd("FailsOne"), "-o", "out", "--fail-above", "0.2")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "pvia"], "Unknown method 'pvia'. Did you mean piva"),
        (["-m", "piva", "-d", "pei"], "Unknown dataset 'pei'. Did you mean pie?"),
        (["-m", "piva", "-p", "papper"], "Unknown profile 'papper'. Did you mean paper?"),
        (
            ["-m", "piva", "--param", "guidance=3"],
            "Unknown parameter of piva 'guidance'. Did you mean guidance_scale",
        ),
        (["-m", "piva", "--param", "steps=0"], "steps=0: input should be greater than or equal to 1"),
        (["-m", "piva", "--param", "steps"], "write name=value"),
        (["-m", "piva", "--param", "steps=1", "--param", "steps=2"], "given twice"),
        (["-m", "piva", "--sample", "s9"], "Unknown sample 's9'. Did you mean"),
        (["-m", "piva", "--seed", "one"], "a seed is a whole number"),
        (["-m", "piva", "--device", "cuda:7"], "There is no device 'cuda:7' here"),
        (["-m", "piva", "--device", "banana"], "There is no device 'banana' here"),
        (["-m", "piva", "--model", "nowhere"], "No model at 'nowhere'"),
        (["-m", "piva", "--model", "."], "is no complete diffusers folder: scheduler"),
        (["-m", "piva", "--data-root", "nowhere"], "nowhere does not exist"),
        (["-m", "piva", "--config", "none.yaml"], "none.yaml: No such file"),
        (["-m", "no_file.py:X"], "There is no file 'no_file.py'"),
        (["-m", ","], "Give at least one --method"),
        (["-m", "piva", "--timeout", "0"], "--timeout 0: give a number above 0"),
        (["-m", "piva", "--max-hours", "nan"], "--max-hours nan: give a number above 0"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(cli, arguments, message):
    code, _, err = cli("run", *arguments)
    assert code == EXIT_USER_ERROR
    assert message in only_line(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--method'"),
        (["-m", "piva", "--limit", "0"], "--limit"),
        (["-m", "piva", "--dtype", "float8"], "float8"),
        (["-m", "piva", "--batch-size", "0"], "a whole number from 1, or auto"),
        (["-m", "piva", "--batch-size", "all"], "a whole number from 1, or auto"),
        (["-m", "piva", "--batchsize", "3"], "No such option"),
    ],
)
def test_mistakes_in_options_are_explained_and_exit_2(cli, arguments, message):
    code, _, err = cli("run", *arguments)
    assert code == EXIT_USER_ERROR
    assert message in err


def test_command_line_beats_environment_beats_file(cli, tmp_path, monkeypatch):
    def ran():
        (run,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["runs"][-1:]
        return (
            run["samples"],
            run["seeds"],
            run["batch_size"],
            run["variants"][0]["params"]["preservation_weight"],
        )

    config = {"method": ["piva"], "limit": 3, "seed": [5, 6], "batch-size": 2, "output_dir": "out",
              "param": {"preservation_weight": 0.25}}  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert cli("run", "--config", "c.yaml")[0] == 0
    assert ran() == (3, [5, 6], 2, 0.25)
    monkeypatch.setenv("PIVA_BENCH_SEED", "7")
    monkeypatch.setenv("PIVA_BENCH_BATCH_SIZE", "3")
    assert cli("run", "--config", "c.yaml", "--batch-size", "1", "--param", "preservation_weight=0.5")[0] == 0
    assert ran() == (3, [7], 1, 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("limt: 8", "Unknown option in c.yaml 'limt'. Did you mean limit"),
        ("- a\n- b", "write one 'option: value' a line"),
        ("a: [", "is no YAML"),
    ],
)
def test_mistakes_in_the_file_are_one_line(cli, tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    code, _, err = cli("run", "--config", "c.yaml", "-m", "piva")
    assert code == EXIT_USER_ERROR
    assert message in only_line(err)


def test_dry_run_prints_the_plan_with_an_estimate_and_stores_nothing(cli, tmp_path):
    code, out, _ = cli(
        "run", "-m", "piva,identity", "-o", "out", "--dry-run", "--param", "preservation_weight=0"
    )
    assert code == 0
    assert "dds (asked for as piva): steps=2" in out
    assert "12 edits: 0 stored, 12 to compute" in out
    assert "from a trial of a few steps" in out
    assert "min in all" in out
    assert not (tmp_path / "out").exists()
    assert cli("run", "-m", "identity", "-o", "out", "-n", "2")[0] == 0
    out = cli("run", "-m", "identity", "-o", "out", "--dry-run")[1]
    assert "6 edits: 2 stored, 4 to compute" in out
    assert "from 2 stored edits" in out


def test_a_full_disk_is_one_line_exit_2_and_resumable(cli, odd, tmp_path, monkeypatch):
    from piva_bench.runs import store

    original, budget = store.write_atomic, 12

    def fills_up(path, data):
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, data)

    monkeypatch.setattr(store, "write_atomic", fills_up)
    code, _, err = cli("run", "-m", odd("Invert"), "-o", "out", "-b", "1")
    assert code == EXIT_USER_ERROR
    assert "No space left on device" in only_line(err)
    kept = set(records(tmp_path / "out"))
    assert 0 < len(kept) < 6
    monkeypatch.setattr(store, "write_atomic", original)
    code, _, err = cli("run", "-m", odd("Invert"), "-o", "out", "-b", "1")
    assert code == 0
    assert f"{6 - len(kept)} computed, {len(kept)} already stored" in err


def test_no_permission_is_one_line_and_exit_2(cli, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = cli("run", "-m", "identity", "-o", "file/out")
    assert code == EXIT_USER_ERROR
    assert "Give --output-dir a folder you can write to" in only_line(err)


def test_another_setup_in_the_directory_is_refused(cli):
    assert cli("run", "-m", "identity", "-o", "out", "-n", "1")[0] == 0
    code, _, err = cli("run", "-m", "identity", "-o", "out", "-n", "1", "--dtype", "bfloat16")
    assert code == EXIT_USER_ERROR
    assert "dtype float32, now bfloat16" in only_line(err)


def test_a_torn_source_costs_its_sample_and_not_the_table(cli, bench, tmp_path):
    import shutil

    shutil.copytree(bench / "data", tmp_path / "data")
    (path,) = (tmp_path / "data" / "annotation_images").rglob("s3.png")
    path.write_bytes(path.read_bytes()[:100])
    code, out, err = cli("run", "-m", "identity", "-o", "out", "--data-root", "data")
    assert code == EXIT_FAILED_SAMPLES
    assert "failed: identity on s3" in err
    assert "Results by method" in out


def start_slow(bench, tmp_path, seconds):
    """Starts a run of two edits a batch, and waits until its second batch has begun."""
    log = tmp_path / "log"
    log.touch()
    arguments = (
        "run",
        "-m",
        f"{bench / 'odd.py'}:Slow",
        "-o",
        str(tmp_path / "out"),
        "-b",
        "2",
        "--device",
        "cpu",
    )
    process = subprocess.Popen(
        command(bench, *arguments),
        env=environment(bench, SLOW_LOG=str(log), SLOW_SECONDS=str(seconds)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them, and their children, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 200
    while len(log.read_text().splitlines()) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, arguments, log


def untimed(row):
    return {
        name: value for name, value in row.items() if name not in ("seconds", "peak_memory_mb", "created")
    }


def test_killed_and_run_again_it_completes_with_the_same_numbers(bench, cli, tmp_path, monkeypatch):
    process, arguments, log = start_slow(bench, tmp_path, 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = records(tmp_path / "out")
    assert len(before) == 2
    monkeypatch.setenv("SLOW_LOG", str(log))
    code, _, err = cli(*arguments)
    assert code == 0, err
    assert "4 computed, 2 already stored" in err
    assert len(log.read_text().splitlines()) == 4  # the second of three batches was lost and made again
    assert cli(*arguments, "-o", "whole")[0] == 0
    finished, whole = records(tmp_path / "out"), records(tmp_path / "whole")
    assert len(list((tmp_path / "out" / "records").iterdir())) == 6
    assert {key: untimed(row) for key, row in finished.items()} == {
        key: untimed(row) for key, row in whole.items()
    }
    assert all(finished[key] == before[key] for key in before)


def test_interrupted_it_says_so_exits_130_and_can_be_resumed(bench, cli, tmp_path, monkeypatch):
    process, arguments, log = start_slow(bench, tmp_path, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == EXIT_INTERRUPTED
    assert "interrupted: finished batches are stored" in err
    assert "Traceback" not in err
    assert len(records(tmp_path / "out")) == 2
    monkeypatch.setenv("SLOW_LOG", str(log))
    assert "4 computed, 2 already stored" in cli(*arguments)[2]


def test_ctrl_c_before_a_command_has_begun_is_a_word_and_130(cli, monkeypatch):
    from piva_bench.cli import app

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "app", interrupted)
    code, _, err = cli("run", "-m", "identity")
    assert (code, err) == (EXIT_INTERRUPTED, "interrupted\n")
