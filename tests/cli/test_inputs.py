"""Inputs as people have them, through the command line: right, or one line and an exit code that is not zero."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.cli.data import EXIT_PROBLEMS
from piva_bench.cli.run import EXIT_FAILED_SAMPLES
from tests.harness import RESOLUTION, records


@pytest.fixture
def own_pie(bench, tmp_path):
    """A copy of the miniature dataset whose mapping may be changed: a function of a function of the mapping."""
    shutil.copytree(bench / "data", tmp_path / "pie")
    path = tmp_path / "pie" / "mapping_file.json"

    def change(edit):
        mapping = json.loads(path.read_text())
        edit(mapping)
        path.write_text(json.dumps(mapping))
        return tmp_path / "pie"

    return change


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "cup.png"
    Image.fromarray(np.full((RESOLUTION, RESOLUTION, 3), 90, np.uint8)).save(path)
    return path


def test_a_bad_entry_costs_its_own_sample_alone(cli, own_pie, tmp_path):
    root = own_pie(
        lambda m: (m["s1"].pop("mask"), m["s2"].update(mask=[0, 1, 2]), m["s0"].pop("blended_word"))
    )
    code, _, err = cli("run", "-m", "identity", "-o", "good", "--sample", "s0,s3", "--data-root", root)
    assert code == 0, err
    assert "blended_word is missing and taken as empty" in err
    assert {row["status"] for row in records(tmp_path / "good").values()} == {"ok"}
    code, out, err = cli("run", "-m", "identity", "-o", "all", "--data-root", root)
    assert code == EXIT_FAILED_SAMPLES
    assert "identity" in out  # the table of the others
    reasons = {name: row["reason"] for (_, name), row in records(tmp_path / "all").items()}
    assert reasons["s1"] == "sample 's1': has no mask: add it, or null where there is none"
    assert "odd number of values" in reasons["s2"]
    assert [reasons[name] for name in ("s0", "s3", "s4", "s5")] == [None] * 4
    code, out, err = cli("data", "verify", "pie", "--data-root", root)
    assert code == EXIT_PROBLEMS
    assert reasons["s1"] in out
    assert reasons["s2"] in out
    assert "2 problems" in out
    assert "note: blended_word is missing" in err
    code, _, err = cli("report", "all", "--data-root", root)
    assert code == 0, err


LONG = "a red cup on a wooden table at a window, with a spoon and a plate, and a curious cat that looks at all of it "


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a red cup", "", "The target prompt is empty"),
        ("a red cup", " \t ", "The target prompt is empty"),
        ("", "a red cup", "The source prompt is empty"),
        ("a red cup", "a  red cup ", "are the same: nothing to edit"),
        ("a red cup", "a blue \udcff cup", r"The target prompt is no UTF-8 text: 'a blue \udcff cup'"),
        (LONG + "red", LONG + "blue", "differ only beyond the 77 tokens the model reads"),
    ],
)
def test_prompts_of_one_edit_that_ask_for_nothing(cli, bench, picture, tmp_path, source, target, message):
    before = set(tmp_path.iterdir())
    code, _, err = cli("edit", picture, source, target, "--model", bench / "model", "--param", "steps=1")
    assert code == EXIT_USER_ERROR
    (line,) = err.splitlines()
    assert message in line
    assert set(tmp_path.iterdir()) == before


def test_what_is_cut_off_a_prompt_is_said(cli, bench, picture):
    code, _, err = cli(
        "edit",
        picture,
        "a red cup",
        "a blue cup " + LONG + "END",
        "--model",
        bench / "model",
        "--param",
        "steps=1",
    )
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if "tokens the model reads" in line]
    assert line.startswith("the target prompt is longer than the 77 tokens the model reads: '")
    assert "is cut off" in line
    assert "a blue cup" not in line  # it names the end, not the beginning
    code, _, err = cli(
        "edit", picture, "a red cup", "a blue cup", "--model", bench / "model", "--param", "steps=1"
    )
    assert "tokens the model reads" not in err


def test_prompts_of_a_dataset_that_are_cut(cli, own_pie, tmp_path):
    def change(mapping):
        mapping["s1"] |= {"original_prompt": LONG + "[red]", "editing_prompt": LONG + "[blue]"}
        mapping["s2"] |= {"editing_prompt": "a [blue] cup " + LONG}

    root = own_pie(change)
    code, _, err = cli("run", "-m", "dds,identity", "-o", "out", "--data-root", root)
    assert code == EXIT_FAILED_SAMPLES
    said = [line for line in err.splitlines() if line.startswith("sample ")]
    assert [line.split("'")[1] for line in said] == ["s1", "s1", "s2"]
    for (_, name), record in records(tmp_path / "out").items():
        assert (record["status"] == "failed") == (name == "s1")
        assert name != "s1" or "differ only beyond the 77 tokens" in record["reason"]
    code, out, err = cli("data", "verify", "pie", "--data-root", root)
    assert code == EXIT_PROBLEMS
    assert "sample 's1': source and target prompt differ only beyond" in out
    assert "note: sample 's2': the target prompt is longer than the 77 tokens" in err
    assert "1 problem" in out


def test_links_in_a_circle_and_pipes_are_one_line(cli, bench, picture, tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    prompts = ("a red cup", "a blue cup", "--model", bench / "model", "--param", "steps=1")
    for arguments, message in (
        (("loop.png", *prompts), "loop.png"),
        (("pipe.png", *prompts), "is no plain file but a pipe or device"),
        ((picture, *prompts, "--mask", "pipe.png"), "is no plain file but a pipe or device"),
    ):
        code, _, err = cli("edit", *arguments)
        assert code == EXIT_USER_ERROR
        (line,) = err.splitlines()
        assert message in line
    for option in ("--data-root", "--evaluators"):
        code, _, err = cli("run", "-m", "identity", "-o", "out", option, tmp_path / "loop.png", "-n", "1")
        assert "Traceback" not in err
        assert code == (EXIT_USER_ERROR if option == "--data-root" else 0)


def test_names_that_are_no_text_in_this_encoding(cli, bench, tmp_path):
    """A path of bytes is written down in the manifest and found again."""
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/pie\xff"))
    shutil.copytree(bench / "data", folder)
    assert cli("run", "-m", "identity", "-n", "1", "-o", "out", "--data-root", folder)[0] == 0
    assert cli("report", "out")[0] == 0
    assert cli("import", folder, "-d", "folder", "--name", "\udcff")[0] == EXIT_USER_ERROR


def test_a_full_disk_leaves_no_half_picture(cli, bench, picture, tmp_path, monkeypatch):
    from PIL import Image as Pillow

    real = Pillow.Image.save

    def save(image, file, *arguments, **options):
        if image.width > RESOLUTION:  # the pair, after the edit itself
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        return real(image, file, *arguments, **options)

    monkeypatch.setattr(Pillow.Image, "save", save)
    code, _, err = cli(
        "edit",
        picture,
        "a red cup",
        "a blue cup",
        "--model",
        bench / "model",
        "--param",
        "steps=1",
        "-o",
        "x.jpg",
    )
    assert code == EXIT_USER_ERROR
    assert err == "error: Cannot write x-compare.png: No space left on device.\n"
    assert Image.open(tmp_path / "x.jpg").format == "JPEG"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["cup.png", "x.jpg"]


def test_pictures_and_scores_that_are_gone_are_said_to_be(cli, tmp_path):
    cli("run", "-m", "identity", "-n", "3", "-o", "out")
    first, second, third = sorted((tmp_path / "out" / "images").iterdir())
    first.write_bytes(b"")
    second.unlink()
    (tmp_path / "out" / "scores" / "pixels-v1" / f"{third.stem}.json").write_text("{")
    for command in ("report", "score"):
        code, _, err = cli(command, "out")
        assert code == 0
        for path, what in ((first, "is torn or was changed"), (second, "cannot be read")):
            (line,) = [line for line in err.splitlines() if path.name in line and "left out" not in line]
            assert line.startswith("warning: ")
            assert what in line
            assert "`piva-bench run` makes it again" in line
        assert any(
            third.stem in line and "`piva-bench score` makes it again" in line for line in err.splitlines()
        )


def test_byte_order_marks_in_options_and_cards(cli, own_pie, tmp_path):
    root = own_pie(lambda mapping: None)
    for path in (root / "mapping_file.json", root / "dataset.yaml"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (tmp_path / "options.yaml").write_bytes(b"\xef\xbb\xbfmethod: identity\nlimit: 1\n")
    code, _, err = cli("run", "--config", "options.yaml", "-o", "out", "--data-root", root)
    assert code == 0, err
    assert len(records(tmp_path / "out")) == 1


@pytest.mark.parametrize("value", ["true", "false", "yes"])
def test_truth_is_no_number(cli, value):
    code, _, err = cli("run", "-m", "dds", "--param", f"steps={value}", "-o", "out")
    assert code == EXIT_USER_ERROR
    assert "write a number, not true or false" in err


def deep(size):
    return Image.fromarray((np.linspace(0, 1, size * size).reshape(size, size) * 65535).astype(np.uint16))


def test_pictures_of_a_dataset_are_read_like_ones_own(cli, own_pie, tmp_path):
    """Transparency on white, 16 bits scaled, orientation followed: in the edit and in what it is compared with."""
    side = RESOLUTION
    root = own_pie(lambda mapping: None)
    mapping = json.loads((root / "mapping_file.json").read_text())
    paths = {name: root / "annotation_images" / entry["image_path"] for name, entry in mapping.items()}
    hole = np.zeros((side, side, 4), np.uint8)
    hole[: side // 2] = (200, 30, 40, 255)
    Image.fromarray(hole).save(paths["s0"])
    deep(side).save(paths["s1"])
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(
        np.dstack([np.full((side, side), 9)] * 2 + [np.tri(side) * 255]).astype(np.uint8)
    )
    stored.save(paths["s2"], exif=exif)
    Image.fromarray(np.asarray(deep(side)).astype(np.int32)).save(paths["s3"], format="TIFF")
    code, _, _ = cli("run", "-m", "identity", "-o", "out", "--data-root", root)
    assert code == EXIT_FAILED_SAMPLES
    found = {name: row for (_, name), row in records(tmp_path / "out").items()}
    edits = {
        name: np.asarray(Image.open(tmp_path / "out" / "images" / f"{row['key']}.png")).astype(int)
        for name, row in found.items()
        if row["status"] == "ok"
    }
    white = hole[..., :3] * (hole[..., 3:] > 0) + 255 * (hole[..., 3:] == 0)
    assert np.array_equal(edits["s0"], white)
    assert np.abs(edits["s1"] - np.linspace(0, 255, side * side).reshape(side, side, 1)).max() <= 1
    assert np.array_equal(edits["s2"], np.rot90(np.asarray(stored), -1))
    assert "integers of 32 bits" in found["s3"]["reason"]
    assert "integers of 32 bits" in cli("data", "verify", "pie", "--data-root", root)[1]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.fromarray(np.eye(RESOLUTION, dtype=np.uint8)), "the mask marks"),
        (Image.new("L", (RESOLUTION, RESOLUTION)), "error: mask.png marks nothing"),
        (Image.new("L", (RESOLUTION, 2 * RESOLUTION), 255), "is not the shape of its picture"),
    ],
)
def test_masks_are_read_or_refused_never_empty_or_full(cli, bench, picture, tmp_path, mask, words):
    mask.save(tmp_path / "mask.png")
    (tmp_path / "own").mkdir()
    shutil.copy(picture, tmp_path / "own" / "cup.png")
    shutil.copy(tmp_path / "mask.png", tmp_path / "own")
    (tmp_path / "own" / "prompts.csv").write_text(
        "image,source_prompt,target_prompt,mask\ncup.png,a red cup,a blue cup,mask.png\n"
    )
    good = words.startswith("the mask marks")
    code, out, _ = cli("data", "verify", "folder", "--data-root", "own")
    assert code == (0 if good else EXIT_PROBLEMS)
    assert good or words.removeprefix("error: mask.png") in out
    code, _, err = cli(
        "edit", picture, "a red cup", "a blue cup", "--model", bench / "model", "--param", "steps=1",
        "--mask", "mask.png", "-m", "dds",
    )  # fmt: skip
    assert code == (0 if good else EXIT_USER_ERROR)
    assert words in err
    code, _, err = cli("run", "-m", "identity", "-d", "folder", "--data-root", "own", "-o", "out")
    assert code == (0 if good else EXIT_FAILED_SAMPLES), err
    assert good or ("is not scored" in err and words.removeprefix("error: mask.png") in err)


@pytest.mark.parametrize("command", [("run",), ("sweep", "--param", "steps=1,2")])
def test_a_second_run_in_one_folder_is_refused_before_anything_is_loaded(cli, tmp_path, monkeypatch, command):
    from piva_bench.runs import request, sweep  # noqa: F401 (imported before what it takes from there is replaced)
    from piva_bench.runs.store import Store

    monkeypatch.setattr(request, "prepare", lambda *given, **more: pytest.fail("something was loaded"))
    with Store(tmp_path / "out", lambda line: None):
        code, _, err = cli(command[0], "-m", "dds", "-o", "out", *command[1:])
    assert code == EXIT_USER_ERROR
    (line,) = err.splitlines()
    assert "Another run is writing to out: wait for it or give --output-dir" in line
