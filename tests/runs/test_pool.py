"""Several worker processes make what one makes, survive what kills them, and leave nothing behind."""

import signal
import subprocess
import time

import psutil
import pytest

from piva_bench.cli.run import EXIT_FAILED_SAMPLES, EXIT_INTERRUPTED
from piva_bench.runs.store import Store
from tests.harness import command, environment, records

COSTS = {"seconds", "peak_memory_mb", "created"}


def run(bench, out, *options, method="dds,piva", **variables):
    names = ",".join(
        f"{bench / 'odd.py'}:{name}" if name[0].isupper() else name for name in method.split(",")
    )
    line = command(bench, "run", "-m", names, "-b", "2", "-o", str(out), *options)
    return subprocess.run(
        line, env=environment(bench, **variables), capture_output=True, text=True, timeout=250
    )


def stored(out):
    """Records without what no two runs share, pictures and scores, by key."""
    rows = {row["key"]: {k: v for k, v in row.items() if k not in COSTS} for row in records(out).values()}
    files = [*(out / "images").iterdir(), *(out / "scores").rglob("*.json")]
    return rows, {path.relative_to(out): path.read_bytes() for path in files}


def test_two_workers_make_what_one_makes_bit_for_bit(bench, tmp_path):
    for workers in ("1", "2"):
        done = run(bench, tmp_path / workers, "--workers", workers)
        assert done.returncode == 0, done.stderr
    assert len(stored(tmp_path / "1")[0]) == 12
    assert stored(tmp_path / "2") == stored(tmp_path / "1")


def test_sweeps_share_in_every_worker_and_make_the_same(bench, tmp_path):
    for workers in ("1", "2"):
        line = command(
            bench, "sweep", "-m", "piva", "--param", "preservation_weight=0,0.4,0.8", "-b", "2",
            "--beside", "identity", "--strength", "masked", "-o", str(tmp_path / workers), "--workers", workers,
        )  # fmt: skip
        done = subprocess.run(line, env=environment(bench), capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
    assert stored(tmp_path / "2") == stored(tmp_path / "1")


def test_a_worker_that_dies_costs_a_retry(bench, tmp_path):
    done = run(bench, tmp_path / "o", "--workers", "2", method="Kills", KILL_ONCE=str(tmp_path / "flag"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("a worker process died (SIGKILL: out of memory, or killed)") == 1
    assert {row["status"] for row in records(tmp_path / "o").values()} == {"ok"}


def test_a_batch_that_kills_twice_is_a_reason_on_its_samples(bench, tmp_path):
    done = run(bench, tmp_path / "o", "--workers", "2", method="Kills")
    assert done.returncode == EXIT_FAILED_SAMPLES, done.stderr
    rows = {sample: row for (_, sample), row in records(tmp_path / "o").items()}
    assert len(rows) == 6
    failed = {sample: row["reason"] for sample, row in rows.items() if row["status"] == "failed"}
    assert set(failed) == {"s0", "s1"}
    assert "died of it twice (SIGKILL" in failed["s1"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_an_interruption_ends_all_processes_and_keeps_what_is_finished(bench, tmp_path, name):
    out, log = tmp_path / "o", tmp_path / "log"
    line = command(
        bench, "run", "-m", f"{bench / 'odd.py'}:Slow", "-b", "1", "-o", str(out), "--workers", "2"
    )
    variables = environment(bench, SLOW_LOG=str(log), SLOW_SECONDS="3")
    process = subprocess.Popen(line, env=variables, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while len(list((out / "records").glob("*.json"))) < 1:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    if name != "SIGKILL":
        assert process.returncode == EXIT_INTERRUPTED, err
        assert "run the same command again to finish" in err
        assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    with Store(out) as store:  # a batch may have been interrupted while it was being stored
        before = len(store.records())
    done = run(bench, out, "-b", "1", "--workers", "2", method="Slow", SLOW_LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert len(records(out)) == 6
    assert f"{6 - before} computed, {before} already stored" in done.stderr


def test_what_a_worker_cannot_do_is_one_line(bench, tmp_path):
    done = run(bench, tmp_path / "o", "--workers", "2", method="Useless")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        line for line in done.stderr.splitlines() if "breaks alike on its first 3 edits" in line
    ]
    assert "Traceback" not in done.stderr


def test_the_cores_are_used_by_default(bench, tmp_path):
    import json

    done = run(bench, tmp_path / "o", method="identity")
    assert done.returncode == 0, done.stderr
    (noted,) = json.loads((tmp_path / "o" / "manifest.json").read_text())["runs"]
    assert noted["workers"] == min(psutil.cpu_count(logical=False) or 1, 3)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_batch_that_hangs_is_a_reason_on_its_samples(bench, tmp_path, workers):
    done = run(bench, tmp_path / "o", "--workers", workers, "--timeout", "8", method="Hangs")
    assert done.returncode == EXIT_FAILED_SAMPLES, done.stderr
    rows = {sample: row for (_, sample), row in records(tmp_path / "o").items()}
    assert len(rows) == 6
    reasons = {sample: row["reason"] for sample, row in rows.items() if row["status"] == "failed"}
    assert reasons == dict.fromkeys(("s0", "s1"), "it took longer than --timeout 8 s")
    assert done.stderr.count("a batch of hangs is given up") == 1


def test_a_time_limit_changes_no_number(bench, tmp_path):
    for name, limit in (("without", ()), ("with", ("--timeout", "200"))):
        done = run(bench, tmp_path / name, "--workers", "1", *limit, "-n", "2", OMP_NUM_THREADS="2")
        assert done.returncode == 0, done.stderr
    assert len(stored(tmp_path / "with")[0]) == 4
    assert stored(tmp_path / "with") == stored(tmp_path / "without")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_hours_that_are_over_are_an_interruption(bench, tmp_path, workers):
    out, log = tmp_path / "o", tmp_path / "log"
    options = "-b", "1", "--workers", workers
    # Slow takes a thousand seconds; the limit is reached in its first or second batch.
    done = run(bench, out, *options, "--max-hours", "0.01", method="identity,Slow", SLOW_LOG=str(log),
               SLOW_SECONDS="1000")  # fmt: skip
    assert done.returncode == EXIT_INTERRUPTED, done.stderr
    assert "--max-hours is over: finished batches are stored in" in done.stderr
    assert "Traceback" not in done.stderr
    assert {method for method, _ in records(out)} == {"identity"}
    done = run(bench, out, *options, method="identity,Slow", SLOW_LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert "12 edits: 6 computed, 6 already stored" in done.stderr
