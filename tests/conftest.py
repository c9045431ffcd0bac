"""Set before torch is imported by any test: tests never reach a network and never fight over the cores."""

import os
import sys

import pytest

import piva_bench

piva_bench.prepare()  # before any test file: it makes torchvision importable beside a CPU build of torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for name in [name for name in os.environ if name.startswith("PIVA_BENCH_")]:
    del os.environ[name]  # a developer's own defaults must not reach the tests


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """A miniature benchmark: model, dataset, methods, protocol. Read only."""
    from tests.harness import make_bench

    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def tiny_profile(bench, monkeypatch):
    """The embedded profile on the miniature, in this process."""
    from piva_bench import profiles, registry

    changes = {
        "model": str(bench / "model"), "resolution": 32, "protocol": "pixels-v1", "method_defaults": {"steps": 2},
    }  # fmt: skip
    profile = profiles.PROFILES["embedded"].model_copy(update=changes)
    monkeypatch.setitem(profiles.PROFILES, "embedded", profile)
    monkeypatch.syspath_prepend(str(bench / "plugins"))
    monkeypatch.setattr(registry.PROTOCOLS, "_points", registry.find_plugins(registry.PROTOCOLS.group))
    return profile


@pytest.fixture
def cli(bench, tiny_profile, monkeypatch, capsys, tmp_path):
    """Runs the command line in this process, in a fresh folder: ``cli("run", ...)`` gives (code, out, err)."""
    from piva_bench.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIVA_BENCH_DATA_ROOT", str(bench / "data"))
    monkeypatch.setenv(
        "PIVA_BENCH_NO_REFERENCE", "1"
    )  # tests count edits; those of reference rows take it away
    monkeypatch.setenv("PIVA_BENCH_WORKERS", "1")  # what is patched here is not patched in other processes

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["piva-bench", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        captured = capsys.readouterr()
        return exit_info.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def server():
    """The address of a server that speaks S3, on loopback."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch, request):
    """An empty bucket."""
    import boto3
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/deep/run"
