"""`piva-bench sweep` on the miniature of tests/harness.py."""

import csv
import json
from xml.etree import ElementTree

import pytest
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from tests.harness import records

AXES = ("--strength", "brightness", "--identity", "masked")
VALUES = "preservation_weight=0,0.4,0.8"


def table_of(folder):
    with (folder / "sweep.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_a_sweep_ends_with_a_row_a_value_and_a_curve(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("PIVA_BENCH_NO_REFERENCE")
    code, out, err = cli("sweep", "-m", "piva", "--param", VALUES, "-o", "out", *AXES, "-n", "3")
    assert code == 0, err
    report = tmp_path / "out" / "report" / "sweep-piva-preservation_weight"
    rows = table_of(report)
    swept = [f"piva (preservation_weight={value})" for value in ("0", "0.4", "0.8")]
    assert list(rows) == [*swept, "dds", "sds", "identity", "vae_roundtrip", "counterfactual"]
    shown = [line.split("  ")[0] for line in out.splitlines()]
    assert [label for label in shown if label in rows] == list(rows)
    assert {row["samples"] for row in rows.values()} == {"3"}
    # Lambda 0 is DDS's own record.
    assert rows[swept[0]]["brightness"] == rows["dds"]["brightness"]
    stored = [json.loads(path.read_text()) for path in (tmp_path / "out" / "records").iterdir()]
    assert sorted({(r["method"], r["params"].get("preservation_weight")) for r in stored}, key=str) == [
        ("counterfactual", None), ("dds", None), ("identity", None), ("piva", 0.4), ("piva", 0.8),
        ("sds", None), ("vae_roundtrip", None),
    ]  # fmt: skip
    with Image.open(report / "tradeoff.png") as picture:
        assert min(picture.size) > 600
    words = " ".join("".join(e.itertext()) for e in ElementTree.parse(report / "tradeoff.svg").iter())
    for label in ("piva over preservation_weight", "dds", "counterfactual", "0.4", "edit strength"):
        assert label in words


def test_a_sweep_computes_only_what_no_run_and_no_sweep_has_made(cli, tmp_path):
    cli("run", "-m", "piva,dds", "--param", "preservation_weight=0.4", "-n", "3", "-o", "out")
    made = records(tmp_path / "out")
    command = ("sweep", "-m", "piva", "--param", VALUES, "--beside", "dds", "-n", "3", "-o", "out", *AXES)
    assert "9 edits: 3 computed, 6 already stored" in cli(*command)[2]
    again = cli(*command)
    assert "9 edits: 0 computed, 9 already stored" in again[2]
    assert records(tmp_path / "out")["dds", "s0"] == made["dds", "s0"]


def test_values_of_several_parameters_make_a_grid(cli, tmp_path):
    code, _, err = cli(
        "sweep", "-m", "piva", "--param", "preservation_weight=0,0.5", "--param", "guidance_scale=2,3",
        "--param", "t_min=20", "--beside", "dds,identity", "-n", "2", "-o", "out", *AXES,
    )  # fmt: skip
    assert code == 0, err
    rows = table_of(tmp_path / "out" / "report" / "sweep-piva-preservation_weight-guidance_scale")
    assert list(rows)[:4] == [
        f"piva (preservation_weight={weight}, guidance_scale={scale})"
        for weight in ("0", "0.5")
        for scale in (2, 3)
    ]
    stored = [json.loads(path.read_text())["params"] for path in (tmp_path / "out" / "records").iterdir()]
    # One value is everybody's; DDS beside the sweep is at its own guidance.
    assert {params["t_min"] for params in stored if params} == {20}
    assert {params["guidance_scale"] for params in stored if params} == {2.0, 3.0, 7.5}


def test_a_sweep_from_a_file(cli, tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        "method: piva_analytic\nparam:\n  preservation_weight: [0, 1]\nlimit: 1\nbeside: identity\n"
    )
    code, _, err = cli("sweep", "-c", "sweep.yaml", "-o", "out", *AXES)
    assert code == 0, err
    report = tmp_path / "out" / "report" / "sweep-piva_analytic-preservation_weight"
    assert "piva_analytic (preservation_weight=1)" in table_of(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--param", "preservation_weight"], "write name=value"),
        (["--param", "preservation_weight="], "write name=value"),
        (["--param", "preservation_weight=0,0"], "holds a value twice"),
        (["--param", "preservation_weight=0,1", "--param", "preservation-weight=2"], "given twice"),
        (["--param", "preservation_weigh=0,1"], "Did you mean preservation_weight"),
        (["--param", "preservation_weight=0,-1"], "greater than or equal to 0"),
        (["--param", VALUES, "--beside", "sdds"], "Unknown method 'sdds'. Did you mean"),
        (["--param", VALUES, "--strength", "bright"], "Did you mean brightness"),
        (["--param", VALUES], "has no metric of text: name one with --strength"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_computed(cli, tmp_path, arguments, message):
    code, _, err = cli("sweep", "-m", "piva", "-o", "out", *arguments)
    assert code == EXIT_USER_ERROR
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
