"""A plug-in's life on the command line: started, checked, run, broken."""

import json
import subprocess
import sys

import pytest

from piva_bench.cli.app import EXIT_USER_ERROR
from tests.harness import records


@pytest.fixture
def mine(cli, tmp_path):
    assert cli("new", "method", "my_method")[0] == 0
    return tmp_path / "my_method.py"


def test_a_new_method_runs_and_passes_its_own_test(cli, mine, tmp_path):
    code, _, err = cli("run", "-m", f"{mine}:MyMethod", "-n", 2, "-o", "o", "--param", "steps=2")
    assert code == 0, err
    assert {name for name, _ in records(tmp_path / "o")} == {"my_method"}
    test = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_my_method.py")],
        capture_output=True, text=True, cwd=tmp_path, timeout=250,
    )  # fmt: skip
    assert test.returncode == 0, test.stdout
    code, _, err = cli("new", "method", "my_method")
    assert code == EXIT_USER_ERROR
    assert "is there already" in err


def test_a_name_that_is_none_is_refused(cli):
    code, _, err = cli("new", "method", "My-Method")
    assert code == EXIT_USER_ERROR
    assert "as in my_method" in err


def test_check_names_what_is_wrong_and_where(cli, mine):
    text = mine.read_text()
    mine.write_text(text.replace("offset = step", "offset = 1 / 0 + step"))
    code, out, _ = cli("check", "method", f"{mine}:MyMethod")
    assert code == 1
    assert "ZeroDivisionError: division by zero (my_method.py, line" in out
    assert "ok       The card is complete" in out


def test_an_edited_sibling_is_another_method(cli, mine, tmp_path):
    (tmp_path / "helper.py").write_text("WEIGHT = 1.0\n")
    mine.write_text(
        mine.read_text()
        .replace("if TYPE_CHECKING", "import helper\n\nif TYPE_CHECKING", 1)
        .replace("offset = step", "offset = helper.WEIGHT * step", 1)
    )
    command = ("run", "-m", f"{mine}:MyMethod", "-n", 1, "-o", "o", "--param", "steps=1")
    assert "1 computed" in cli(*command)[2]
    assert "0 computed, 1 already stored" in cli(*command)[2]
    (tmp_path / "helper.py").write_text("WEIGHT = 2.0\n")
    assert "1 computed" in cli(*command)[2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def gradient", "def gradeint", "MyMethod is not finished: it has no gradient"),
        ("0.05, ge=0, le=10,", "0.05,", "parameter anchor_weight has no bounds"),
        (
            'parameter="guidance_scale"',
            'parameter="strenght"',
            "strength, strenght, is none of its parameters",
        ),
        ("class MyMethod(", "class MyMethod(1 / 0, ", "ZeroDivisionError"),
    ],
)
def test_what_a_method_lacks_is_said_once_before_the_run(cli, mine, tmp_path, old, new, message):
    mine.write_text(mine.read_text().replace(old, new))
    code, _, err = cli("run", "-m", f"{mine}:MyMethod", "-o", "o")
    assert code == EXIT_USER_ERROR
    assert [line for line in err.splitlines() if message in line], err
    assert not (tmp_path / "o" / "records").exists()


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("return offset.sum()", "The rule's gradient is (), not a tensor like its latents, (2, 4, 8, 8)."),
        ('step.scalars["x"] = offset.mean()\n        return offset', "scalar 'x' has the shape ()"),
        (
            'return step.predict({"a": Query(step.edit, "sourse")})["a"]',
            "Unknown prompt 'sourse'. Did you mean source",
        ),
    ],
)
def test_what_breaks_the_contract_stops_the_run_with_one_line(cli, mine, new, message):
    text = mine.read_text()
    mine.write_text(text[: text.index("        return self.weight(step.edit)")] + f"        {new}\n")
    code, _, err = cli("run", "-m", f"{mine}:MyMethod", "-n", 2, "-o", "o", "-b", 2, "--param", "steps=1")
    assert code == EXIT_USER_ERROR
    assert len([line for line in err.splitlines() if message in line]) == 1, err


def test_a_dataset_and_a_protocol_can_be_files(cli, tmp_path, bench):
    (tmp_path / "own.py").write_text(
        "from dataclasses import replace\n"
        "from piva_bench.data.pie import open_pie\n"
        "def open_own(profile, root):\n"
        "    return replace(open_pie(profile, root), name='own')\n"
    )
    (tmp_path / "bright.py").write_text(
        (bench / "plugins" / "pixels.py").read_text().replace("pixels-v1", "bright-v1")
    )
    code, _, err = cli("run", "-m", "identity", "-d", f"{tmp_path / 'own.py'}:open_own", "-n", 2, "-o", "o")
    assert code == 0, err
    assert cli("run", "-m", "identity", "-n", 2, "-o", "p")[0] == 0
    code, _, err = cli("score", "p", "--protocol", f"{tmp_path / 'bright.py'}:PixelsV1")
    assert code == 0, err
    assert "2 edits scored" in err
    # The second protocol's report lies beside the first's.
    assert len(list((tmp_path / "p" / "report").rglob("methods.csv"))) == 2


def test_one_methods_parameter_is_set_by_its_name(cli, tmp_path):
    params = ("--param", "pds.guidance_scale=100", "--param", "guidance_scale=5", "--param", "steps=1")
    code, _, err = cli("run", "-m", "pds,dds", *params, "-n", 1, "-o", "o")
    assert code == 0, err
    rows = {method: row["params"]["guidance_scale"] for (method, _), row in records(tmp_path / "o").items()}
    assert rows == {"pds": 100, "dds": 5}


def test_a_default_that_the_profile_replaced_is_said(cli):
    _, _, err = cli("run", "-m", "dds,sds,pds,identity", "-n", 1, "-o", "o")
    assert "steps=2 by profile embedded, not 200 (dds, sds, pds)" in err.splitlines()
    _, _, err = cli("run", "-m", "dds", "-n", 1, "-o", "p", "--param", "steps=3")
    assert "by profile" not in err


def test_snapshots_are_filed_under_the_keys_of_their_own_steps(cli, tmp_path):
    command = ("run", "-m", "dds,identity", "-n", 2, "-o", "o", "--param", "steps=4")
    assert cli(*command, "--snapshots", "1,3,9")[0] == 0
    rows = [json.loads(path.read_text()) for path in (tmp_path / "o" / "records").iterdir()]
    assert sorted(row["params"]["steps"] for row in rows if row["method"] == "dds") == [1, 1, 3, 3, 4, 4]
    # What a run of three steps would make is there.
    _, _, err = cli("run", "-m", "dds", "-n", 2, "-o", "o", "--param", "steps=3")
    assert "0 computed, 2 already stored" in err
    code, _, err = cli("run", "-m", "identity", "-n", 1, "-o", "o", "--snapshots", "5")
    assert (code, "none of these methods" in err) == (EXIT_USER_ERROR, True)


def test_a_model_beside_the_main_one_is_attached_and_part_of_the_key(cli, mine, tmp_path, bench):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(bench / "model", other)
    text = mine.read_text().replace(
        'kind="distillation",', f'kind="distillation",\n        models=({str(other)!r},),'
    )
    asked = f'"target": Query(step.edit, "target", guidance, model={str(other)!r}),'
    mine.write_text(text.replace('"target": Query(step.edit, "target", guidance),', asked))
    command = ("run", "-m", f"{mine}:MyMethod", "-n", 1, "-o", "o", "--param", "steps=1")
    code, _, err = cli(*command)
    assert code == 0, err
    (row,) = records(tmp_path / "o").values()
    assert len(row["params"][str(other)]) == 16
    index = json.loads((other / "unet" / "config.json").read_text())
    (other / "unet" / "config.json").write_text(json.dumps(index | {"note": "changed"}))
    assert "1 computed" in cli(*command)[2]


def test_what_a_dataset_knows_reaches_the_method(cli, mine, tmp_path):
    mine.write_text(
        mine.read_text()
        .replace('kind="distillation",', 'kind="distillation",\n        uses_mask=True,')
        .replace(
            "        offset =",
            "        assert step.mask.shape == (len(step.names), 1, 8, 8), step.mask\n"
            "        assert 0 < float(step.mask.mean()) < 1\n"
            "        assert set(step.blended_words) == {(('red', 'blue'),)}, step.blended_words\n"
            "        assert set(step.instructions) == {'make the cup blue'}\n"
            "        assert all(step.edit_types)\n        offset =",
            1,
        )
    )
    code, _, err = cli("run", "-m", f"{mine}:MyMethod", "-n", 2, "-o", "o", "--param", "steps=1")
    assert code == 0, err
