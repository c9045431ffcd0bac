"""Results folders of strangers, and damaged ones: reported, compared, scored and completed without running,
reading or writing anything outside them."""

import csv
import json
import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image

from piva_bench.runs.record import Record
from piva_bench.runs.store import Store
from tests.harness import records
from tests.runs.test_damage import DAMAGES, a_link, tree

COMMANDS = [("report", "got"), ("score", "got"), ("compare", "got:piva", "got:identity"),
            ("run", "-m", "piva,identity", "-o", "got", "-b", "3")]  # fmt: skip
_made = {}


@pytest.fixture
def got(cli, tmp_path, tmp_path_factory):
    """A finished run at ./got of the folder that commands run in."""
    if "run" not in _made:
        folder = tmp_path_factory.mktemp("made") / "run"
        assert cli("run", "-m", "piva,identity", "-o", folder, "-b", "3")[0] == 0
        _made["run"] = folder
    shutil.copytree(_made["run"], tmp_path / "got")
    return tmp_path / "got"


def check(code, err):
    """Ended as it should, without a traceback or lines of source."""
    assert code == 0, err
    assert "Traceback" not in err
    assert "warnings.warn" not in err
    assert "UserWarning" not in err


@pytest.mark.parametrize("command", COMMANDS[:3])
def test_no_file_that_a_results_folder_names_is_run(cli, got, tmp_path, command):
    (got / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\nclass M: pass\n")
    for path in (got / "records").iterdir():
        record = json.loads(path.read_text())
        del record["content_hash"]
        if record["method"] == "piva":
            path.unlink()
            evil = Record.model_validate({**record, "method": "got/evil.py:M"})
            evil = evil.model_copy(update={"key": evil.expected_key()})
            (got / "records" / f"{evil.key}.json").write_text(evil.model_dump_json())
            image = got / "images" / f"{record['key']}.png"
            image.rename(got / "images" / f"{evil.key}.png")
    manifest = json.loads((got / "manifest.json").read_text())
    del manifest["content_hash"]
    for run in manifest["runs"]:
        for variant in run["variants"]:
            variant |= {"requested": "got/evil.py:M", "method": "got/evil.py:M"}
    (got / "manifest.json").write_text(json.dumps(manifest))
    arguments = ["got:got/evil.py:M" if "piva" in part else part for part in command]
    check(*cli(*arguments)[::2])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_command_names_and_survives_damage_of_every_file(cli, got, tmp_path, damage):
    stored = sorted(row["key"] for (method, _), row in records(got).items() if method == "piva")
    damaged = {
        "record": f"records/{stored[0]}.json",
        "image": f"images/{stored[1]}.png",
        "trace": f"traces/{stored[2]}.json",
        "scores": f"scores/pixels-v1/{stored[3]}.json",
        "manifest": "manifest.json",
    }
    reads = dict.fromkeys(("report", "score", "run"), damaged) | {"compare": ("record", "scores", "image")}
    outside = tmp_path / "outside"
    for command in COMMANDS:
        shutil.rmtree(got)
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        shutil.copytree(_made["run"], got)
        for name in damaged.values():
            if damage is a_link:
                shutil.move(got / name, outside / Path(name).name)
                (got / name).symlink_to(outside / Path(name).name)
            else:
                damage(got / name)
        before = tree(outside)
        code, _, err = cli(*command)
        check(code, err)
        for kind in reads[command[0]]:
            named = [line for line in err.splitlines() if damaged[kind] in line]
            assert named, (command[0], kind, err)
            assert all(line.startswith("warning: ") for line in named)
        assert tree(outside) == before
    # The last command was `run`: all is whole again but the trace, which nothing needs.
    code, _, err = cli("report", "got")
    check(code, err)
    assert [line for line in err.splitlines() if damaged["trace"] not in line] == []
    assert len(records(got)) == 12


def test_links_of_a_stranger_lead_nowhere(cli, got, tmp_path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "letter.gif").write_text("dear diary")
    Image.new("RGB", (32, 32), "red").save(private / "photo.png")
    record = next(iter(records(got).values()))
    shutil.rmtree(got / "report" / "gallery" / "edits")
    (got / "report" / "gallery" / "edits").symlink_to(private)
    (got / "images" / f"{record['key']}.png").unlink()
    (got / "images" / f"{record['key']}.png").symlink_to(private / "photo.png")
    (got / "turntables").mkdir()
    (got / "turntables" / f"x-{record['key'][:8]}.gif").symlink_to(private / "letter.gif")
    (got / "report" / "index.html").unlink()
    (got / "report" / "index.html").symlink_to(private / "letter.gif")
    (got / "report" / "gallery" / "films").rmdir()
    (got / "report" / "gallery" / "films").symlink_to(private)
    before = tree(private)
    code, _, err = cli("report", "got")
    check(code, err)
    assert tree(private) == before
    shown = b"".join(path.read_bytes() for path in (got / "report").rglob("*") if path.is_file())
    assert b"dear diary" not in shown
    assert (private / "photo.png").read_bytes() not in shown
    assert not [path for path in (got / "report").rglob("*") if path.is_symlink()]


def test_folders_in_the_way_of_a_report_stop_nothing(cli, got):
    for name in ("gallery/edits/sub", "methods.csv.part", "gallery/thumbs/sub"):
        (got / "report" / name / "theirs").mkdir(parents=True)
    for name in ("methods.csv", "gallery/data.js", "published.md"):
        (got / "report" / name).unlink(missing_ok=True)
        (got / "report" / name / "theirs").mkdir(parents=True)
    (got / "records" / "x.part").mkdir()
    for command in COMMANDS:
        check(*cli(*command)[::2])
    assert (got / "report" / "methods.csv").is_file()
    assert (got / "report" / "gallery" / "data.js").is_file()
    assert (got / "report" / "gallery" / "edits" / "sub" / "theirs").is_dir()
    assert (got / "report" / "methods.csv.aside1" / "theirs").is_dir()


def test_scores_of_another_version_are_left_out_and_said(cli, got):
    path = next((got / "scores" / "pixels-v1").iterdir())
    scores = json.loads(path.read_text())
    del scores["content_hash"]
    path.write_text(json.dumps({**scores, "fingerprint": "older"}))
    code, _, err = cli("report", "got")
    check(code, err)
    assert "1 of 12 scores are not 0123456789abcdef's and are left out" in err
    assert "12 edits scored" in cli("score", "got")[2]
    assert "warning" not in cli("report", "got")[2]


def test_control_characters_and_markup_are_shown_not_obeyed(cli, got, tmp_path):
    """In a stranger's records: a method, an edit type, a reason, names of parameters and of a trace."""
    odd = "\x1b[31m$\\frac=cmd|' /C calc'!A0<script>\u202e"
    for path in list((got / "records").iterdir()):
        record = json.loads(path.read_text())
        del record["content_hash"]
        if record["method"] != "piva":
            continue
        path.unlink()
        changed = Record.model_validate(
            {**record, "method": "=" + odd, "edit_type": odd, "params": {odd: odd}, "tags": {odd: odd}}
        )
        changed = changed.model_copy(update={"key": changed.expected_key()})
        (got / "records" / f"{changed.key}.json").write_text(changed.model_dump_json())
        for folder, suffix in (("images", "png"), ("scores/pixels-v1", "json")):
            old = got / folder / f"{record['key']}.{suffix}"
            old.rename(old.with_name(f"{changed.key}.{suffix}"))
        (got / "traces" / f"{changed.key}.json").write_text(json.dumps({odd: [1.0, 2.0]}))
    code, out, err = cli("report", "got")
    check(code, err)
    assert "Glyph" not in err
    assert "\x1b" not in out + err
    assert "\\x1b[31m" in out
    for path in (got / "report").rglob("*"):
        if path.suffix in (".csv", ".md", ".tex", ".html", ".js", ".svg"):
            text = path.read_text(encoding="utf-8")
            assert "\x1b" not in text, path
            assert "\u202e" not in text, path
            if path.suffix in (".md", ".html", ".js"):
                assert "<script>\\" not in text, path
    for path in (got / "report").glob("*.csv"):
        cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))], path
    assert "'=\\x1b" in (got / "report" / "methods.csv").read_text()
    page = (got / "report" / "index.html").read_text()
    assert "Content-Security-Policy" in page
    assert "default-src 'none'" in page


def test_a_second_run_on_a_folder_is_told_before_anything_is_loaded(cli, got, monkeypatch):
    def loads(*_, **__):
        raise AssertionError("looked something up")

    monkeypatch.setattr("piva_bench.runs.request.prepare", loads)
    monkeypatch.setattr("piva_bench.runs.sweep.prepare_sweep", loads)
    ready, done = threading.Event(), threading.Event()

    def hold():
        with Store(got):
            ready.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(60)
    try:
        for arguments in (("run", "-m", "piva"), ("sweep", "-m", "piva", "--param", "steps=1,2")):
            code, _, err = cli(*arguments, "-o", "got")
            assert (code, "Another run is writing to got" in err) == (2, True)
    finally:
        done.set()
        holder.join()


def test_a_method_in_a_file_is_said_to_run(cli, bench):
    code, _, err = cli("run", "-m", f"{bench / 'odd.py'}:Invert", "-n", "1")
    assert code == 0
    assert f"runs the code in {bench / 'odd.py'}, as --method asks for" in err
    assert "runs the code" not in cli("run", "-m", "identity", "-n", "1")[2]
