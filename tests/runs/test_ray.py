"""Workers on a Ray cluster make what workers here make; nodes and drivers that go cost nothing but time."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from piva_bench.runs.store import Store
from tests.harness import command, environment, records
from tests.runs.test_pool import stored

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

# The launcher's profile, for processes that Ray starts.
SITE = """
import os
if "TINY_MODEL" in os.environ:
    from piva_bench import profiles
    profiles.PROFILES["embedded"] = profiles.PROFILES["embedded"].model_copy(
        update={"model": os.environ["TINY_MODEL"], "resolution": 32, "protocol": "pixels-v1",
                "method_defaults": {"steps": 2}})
"""


@pytest.fixture(scope="module")
def variables(bench, tmp_path_factory):
    """The environment of the drivers and of the cluster."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(SITE)
    given = environment(
        bench, TINY_MODEL=str(bench / "model"), SLOW_LOG=str(site / "log"), SLOW_SECONDS="3",
        RAY_USAGE_STATS_ENABLED="0",
    )  # fmt: skip
    given["PYTHONPATH"] = os.pathsep.join((str(site), given["PYTHONPATH"]))
    return given


@pytest.fixture(scope="module")
def cluster(variables):
    """Two nodes on this machine, a core each; the second one may be removed."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        made.second = made.add_node(num_cpus=1)
        yield made
        made.shutdown()


def ray_run(bench, cluster, variables, out, method, *options, start=False):
    name = f"{bench / 'odd.py'}:{method}" if method[0].isupper() else method
    line = command(bench, "run", "-m", name, "-b", "1", "--executor", "ray", "-o", str(out), *options)
    given = {**variables, "RAY_ADDRESS": cluster.address}
    if start:
        return subprocess.Popen(line, env=given, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    return subprocess.run(line, env=given, capture_output=True, text=True, timeout=280)


def until(condition, process):
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_cluster_makes_what_this_machine_makes(bench, cluster, variables, tmp_path):
    done = ray_run(bench, cluster, variables, tmp_path / "ray", "dds", "-n", "3")
    assert done.returncode == 0, done.stderr
    line = command(
        bench, "run", "-m", "dds", "-b", "1", "-n", "3", "--workers", "2", "-o", str(tmp_path / "here")
    )
    here = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=280)
    assert here.returncode == 0, here.stderr
    assert len(stored(tmp_path / "ray")[0]) == 3
    assert stored(tmp_path / "ray") == stored(tmp_path / "here")
    one = ray_run(bench, cluster, variables, tmp_path / "one", "dds", "-n", "1")  # fewer samples than workers
    assert one.returncode == 0, one.stderr
    assert len(records(tmp_path / "one")) == 1


def test_a_driver_that_is_killed_goes_on(bench, cluster, variables, tmp_path):
    out = tmp_path / "o"
    driver = ray_run(bench, cluster, variables, out, "Slow", start=True)
    until(lambda: len(list((out / "records").glob("*.json"))) >= 2, driver)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    with Store(out) as store:
        before = {key: record.created for key, record in store.records().items()}
    assert 2 <= len(before) < 6
    done = ray_run(bench, cluster, variables, out, "Slow")
    assert done.returncode == 0, done.stderr
    after = Store(out).records()
    assert len(after) == 6
    assert {key: after[key].created for key in before} == before


def test_a_node_that_goes_costs_a_retry(bench, cluster, variables, tmp_path):
    out, log = tmp_path / "o", Path(variables["SLOW_LOG"])
    log.write_text("")
    driver = ray_run(bench, cluster, variables, out, "Slow", start=True)
    until(lambda: len(log.read_text().splitlines()) >= 3, driver)  # both nodes are at work
    cluster.remove_node(cluster.second, allow_graceful=False)
    _, err = driver.communicate(timeout=280)
    assert driver.returncode == 0, err
    assert "a worker process died" in err
    assert {row["status"] for row in records(out).values()} == {"ok"}
    assert len(records(out)) == 6


def test_a_cluster_that_is_not_there_is_one_line(bench, variables, tmp_path):
    line = command(bench, "run", "-m", "dds", "--executor", "ray", "--ray-address", "127.0.0.1:1", "-o", "o")
    done = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert done.returncode == 2
    assert "error: There is no Ray cluster at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
