"""Standard output and error in any encoding, full or closed; what libraries write stays out of them."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from rich.console import Console

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.report.results import load_results
from piva_bench.report.tables import method_table
from piva_bench.report.terminal import print_table
from piva_bench.streams import HANDLER, encodable
from tests.harness import command, environment
from tests.report.runs import make_run, make_samples


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose table has arrows, intervals and powers of ten."""
    root = tmp_path_factory.mktemp("finished")
    make_run(root, make_samples(root, 3), {"piva": 20.0, "dds": 21.0, "identity": 30.0})
    return root


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8"])
def test_a_table_in_any_encoding(finished, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(
        raw, encoding=encoding, errors="strict"
    )  # tables are made fit before they are printed
    print_table(method_table(load_results(finished)), Console(file=stream))
    stream.flush()
    text = raw.getvalue().decode(encoding)
    assert ("±" in text) == (encoding != "ascii" and encodable("±", encoding) == "±")
    assert "?" not in text
    assert "piva" in text
    # What is written is as long as what was measured: columns end alike.
    rows = [line for line in text.splitlines() if line.startswith(("piva", "dds", "identity"))]
    assert len({len(line.rstrip()) for line in rows}) == 1


def test_equivalents():
    assert encodable("PSNR ↑ ±.5 · ×10⁻³ – “a” …", "ascii") == 'PSNR ^ +/-.5 | x10^-3 - "a" ...'
    assert encodable("×10³", "latin-1") == "×10³"
    assert encodable("Café Ångström ½ 水", "ascii") == "Cafe Angstrom 1/2 ?".replace(
        "1/2", encodable("½", "ascii")
    )
    assert "name\udcff".encode("utf-8", HANDLER) == b"name\xff"  # of a file, as the system has it


def piva_bench(bench, *arguments, **options):
    more = options.pop("env", {})
    return subprocess.run(
        command(bench, *arguments), env=environment(bench, **more), timeout=300, check=False, **options
    )


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "cp1252"])
def test_a_finished_run_keeps_its_table(bench, tmp_path, encoding):
    done = piva_bench(
        bench, "run", "-m", "identity", "-n", "2", "-o", tmp_path / "out", env={"PYTHONIOENCODING": encoding},
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"identity" in done.stdout
    assert b"Traceback" not in done.stderr
    assert b"Warning" not in done.stderr
    (tmp_path / "out" / "records" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "out" / "records" / "torn.json").write_bytes(b"{")
    again = piva_bench(
        bench, "report", tmp_path / "out", env={"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert b"identity" in again.stdout
    assert [line for line in again.stderr.decode().splitlines() if "torn.json" in line] == [
        f"warning: {tmp_path / 'out' / 'records' / 'torn.json'} is torn or no record: ignored"
    ]
    assert b"UserWarning" not in again.stderr


def test_loading_a_model_in_parts_draws_nothing(bench, tmp_path):
    """The libraries draw bars for shards, and log what they think of a folder."""
    from diffusers import UNet2DConditionModel

    shutil.copytree(bench / "model", tmp_path / "model")
    unet = tmp_path / "model" / "unet"
    network = UNet2DConditionModel.from_pretrained(unet)
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    network.save_pretrained(unet, max_shard_size="200KB")
    assert len(list(unet.glob("*.safetensors"))) > 1
    (unet / "config.json").write_text(
        (unet / "config.json").read_text().replace("{", '{"nobody_knows_this": 1,', 1)
    )
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    done = piva_bench(
        bench, "edit", "red.png", "a red cup", "a blue cup", "--model", "model", "--param", "steps=1",
        cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"red-piva.png" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_output_is_one_line(bench, unbuffered):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        for arguments in (("list",), ("data", "verify", "pie")):
            done = piva_bench(
                bench, *arguments, stdout=full, stderr=subprocess.PIPE, env={"PYTHONUNBUFFERED": unbuffered}
            )
            assert done.returncode == EXIT_USER_ERROR
            assert done.stderr.decode().splitlines()[-1:] == [
                "error: Cannot write to standard output: No space left on device."
            ]
            assert b"Traceback" not in done.stderr
            assert b"Exception ignored" not in done.stderr


def test_a_reader_that_has_seen_enough(bench):
    script = f"{shlex.join(command(bench, 'list'))} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], env=environment(bench), timeout=300, check=False,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert done.stderr == b""


def test_a_closed_output(bench):
    code = "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *command(bench, "list")], env=environment(bench), timeout=300, check=False,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
