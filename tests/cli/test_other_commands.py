"""Help, list, describe, report, score."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from piva_bench.cli.app import EXIT_USER_ERROR
from tests.harness import records


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; from piva_bench.cli.app import main; sys.argv = ['piva-bench', *%r]\n"
        "try: main()\nexcept SystemExit as e: code = e.code\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'yaml') if m in sys.modules], code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code % arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.stdout.splitlines()[-1] in ("[] 0", "[] None"), result.stdout + result.stderr


def test_list_shows_everything_with_its_status(cli):
    code, out, _ = cli("list", "--json")
    listing = json.loads(out)
    assert code == 0
    assert set(listing) == {"methods", "datasets", "protocols", "profiles"}
    methods = {row["name"]: row for row in listing["methods"]}
    assert methods["piva"]["status"] == "ok"
    assert methods["identity"]["kind"] == "reference"
    assert {row["name"] for row in listing["protocols"]} >= {"studio-v1", "pixels-v1"}
    pie = next(row for row in listing["datasets"] if row["name"] == "pie")
    assert (pie["samples"], pie["resolution"]) == (6, 32)
    profiles = {row["name"]: row["status"] for row in listing["profiles"]}
    assert profiles["embedded"] == "ok"
    assert "--model" in profiles["paper"]


def test_list_of_one_kind_as_a_table(cli):
    code, out, _ = cli("list", "methods")
    assert code == 0
    assert "piva_analytic" in out
    assert "profiles" not in out


def test_list_imports_neither_torch_nor_a_web_client(bench, cli):
    code = (
        "import sys; sys.argv = ['piva-bench', 'list']; from piva_bench.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'asyncio', 'httpx', 'httpx2', 'huggingface_hub.hf_api'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_describe_method_gives_default_bounds_source_and_meaning(cli):
    code, out, _ = cli("describe", "method", "piva", "--json")
    assert code == 0
    description = json.loads(out)
    assert description["paper"] == "2406.08953"
    parameters = {row["name"]: row for row in description["parameters"]}
    weight = parameters["preservation_weight"]
    assert (weight["default"], weight["bounds"], weight["source"]) == (0.4, ">= 0, <= 100", "seed")
    assert "lambda" in weight["description"]
    assert parameters["steps"]["default"] == 2
    assert "profile embedded" in parameters["steps"]["source"]
    latents = {row["name"]: row for row in description["for pictures"]}
    assert latents["optimizer"]["bounds"] == "sgd | adam"
    assert "views" in {row["name"] for row in description["for scenes"]}
    out = cli("describe", "method", "piva")[1]
    assert "preservation_weight" in out
    assert ">= 0, <= 100" in out


def test_describe_the_others(cli):
    assert "2_add_object" in cli("describe", "dataset", "pie")[1]
    assert "brightness" in cli("describe", "protocol", "pixels-v1")[1]
    assert "pixels-v1" in cli("describe", "profile", "embedded")[1]
    code, _, err = cli("describe", "method", "pvia")
    assert code == EXIT_USER_ERROR
    assert "Did you mean piva" in err


def test_report_writes_the_same_files_again(cli, tmp_path):
    cli("run", "-m", "identity,counterfactual", "-o", "out")
    report = tmp_path / "out" / "report"

    def files():
        return {p.relative_to(report): p.read_bytes() for p in report.rglob("*") if p.is_file()}

    before = files()
    shutil.rmtree(report)
    code, out, err = cli("report", "out")
    assert code == 0, err
    assert files() == before
    assert "Results by method" in out


def test_score_fills_in_what_is_missing_and_keeps_the_rest(cli, tmp_path):
    cli("run", "-m", "identity", "-o", "results/runs/x")
    scores = tmp_path / "results" / "runs" / "x" / "scores" / "pixels-v1"
    files = sorted(scores.iterdir())
    contents = [path.read_bytes() for path in files]
    files[0].unlink()
    stale = json.loads(contents[1]) | {"fingerprint": "of an older protocol"}
    files[1].write_text(json.dumps(stale))
    time.sleep(0.01)
    kept = files[2].stat().st_mtime_ns
    code, _, err = cli("score", "--protocol", "pixels-v1")
    assert code == 0, err
    assert "6 edits scored with pixels-v1" in err
    assert [path.read_bytes() for path in files] == contents
    assert files[2].stat().st_mtime_ns == kept


def test_a_run_directory_is_checked(cli, tmp_path, bench):
    assert "there is none below results/runs" in cli("report")[2]
    assert "nowhere holds no run" in cli("report", "nowhere")[2]
    cli("run", "-m", "identity", "-o", "out", "-n", "1")
    (tmp_path / "data").symlink_to(bench / "data")
    assert cli("report", "out", "--data-root", "data")[0] == 0
    from tests.harness import make_dataset

    make_dataset(tmp_path / "other", samples=3)
    code, _, err = cli("report", "out", "--data-root", "other")
    assert code == EXIT_USER_ERROR
    assert "name the right one with --data-root" in err
    (tmp_path / "out" / "manifest.json").write_text("{")
    code, _, err = cli("report", "out")
    assert code == 0
    assert "manifest.json is torn or no manifest: the set-up is taken from the records" in err
    assert len(records(tmp_path / "out")) == 1
