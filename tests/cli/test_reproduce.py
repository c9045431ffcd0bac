"""`piva-bench reproduce`: what is the same is said to be, and every kind of difference is found with its size."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from piva_bench.runs.edit import encode_png
from piva_bench.runs.sealed import sealed, unsealed
from tests.cli.test_run import only_line
from tests.harness import records


@pytest.fixture
def made(cli, tmp_path):
    """A run of two methods, and what the first sample's record is called."""
    code, _, err = cli("run", "-m", "dds,identity", "-b", "2", "-o", "out", "-n", "4")
    assert code == 0, err
    return tmp_path / "out"


def rewrite(path, change):
    content = unsealed(path.read_bytes())
    change(content)
    path.write_bytes(sealed(content))


def of(folder, method, sample):
    return records(folder)[method, sample]["key"]


def test_a_run_is_made_again_to_the_bit(cli, made, tmp_path):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    code, out, err = cli("reproduce", "out")
    assert code == 0, err
    assert "made again: 8 edits, 8 with equal pictures; 8 within the tolerance (1 of 255" in out
    assert "dds: 4 edits, 4 with equal pictures; pixels differ by 0 of 255 on average in the worst" in out
    assert "scores are equal" in out
    assert "otherwise:" not in out
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    code, out, _ = cli("reproduce", "out", "--limit", "2")
    assert (code, "made again: 4 edits, 4 with equal" in out) == (0, True)


def test_other_pixels_are_found_with_their_size(cli, made):
    key = of(made, "dds", "s0")
    picture = made / "images" / f"{key}.png"
    pixels = np.asarray(Image.open(io.BytesIO(picture.read_bytes())))
    other = np.where(pixels > 128, pixels - 3, pixels + 3).astype(
        np.uint8
    )  # each value by 3, to the other side
    png, sha = encode_png(other)
    picture.write_bytes(png)
    rewrite(made / "records" / f"{key}.json", lambda content: content.update(image_sha=sha))
    code, out, err = cli("reproduce", "out")
    assert code == 3, err
    assert (
        "dds: 4 edits, 3 with equal pictures; pixels differ by 3 of 255 on average in the worst, by 3 at"
        in out
    )
    assert "differs: dds on s0: pixels by 3 of 255 on average" in out
    assert (
        "made again: 8 edits, 7 with equal pictures; 7 within the tolerance (1 of 255, scores 1 %), 1 beyond"
        in out
    )
    assert cli("reproduce", "out", "--tolerance", "3")[0] == 0


def test_a_score_that_moved_is_named(cli, made):
    def shift(by):
        def change(content):
            content["values"]["brightness"] *= 1 + by

        rewrite(made / "scores" / "pixels-v1" / f"{of(made, 'identity', 's1')}.json", change)

    shift(0.005)
    code, out, _ = cli("reproduce", "out")
    assert code == 0
    assert "identity: 4 edits, 4 with equal pictures" in out
    assert "; brightness by 0.6" in out  # of about 127
    shift(0.1)
    code, out, _ = cli("reproduce", "out")
    assert code == 3
    assert "differs: identity on s1: pixels by 0 of 255 on average, the score brightness" in out


def test_what_the_run_stood_on_is_compared(cli, made):
    def older(content):
        content["runs"][-1]["environment"]["packages"]["torch"] = "1.13"
        content["runs"][-1]["environment"]["threads"] = 96

    rewrite(made / "manifest.json", older)
    code, out, _ = cli("reproduce", "out", "-n", "1")
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("otherwise: ")]
    assert len(lines) == 2
    assert lines[0].startswith("otherwise: threads 96, here ")
    assert lines[1].startswith("otherwise: torch 1.13, here ")


def test_a_torn_picture_and_another_model_are_differences(cli, made, bench, tmp_path):
    key = of(made, "identity", "s0")
    (made / "images" / f"{key}.png").write_bytes(b"torn")
    code, out, _ = cli("reproduce", "out")
    assert code == 3
    assert "differs: identity on s0: " in out
    rewrite(made / "manifest.json", lambda content: content["setup"].update(model_fingerprint="0" * 16))
    code, _, err = cli("reproduce", "out")
    assert code == 2
    assert "name the right one with --model" in only_line(err)


def test_a_method_from_a_file_is_run_only_when_it_is_given(cli, bench, tmp_path):
    odd = f"{bench / 'odd.py'}:FailsOne"
    assert cli("run", "-m", odd, "-o", "out", "-b", "2")[0] == 3
    code, _, err = cli("reproduce", "out")
    assert code == 2
    assert "give it with --method file.py:Class" in only_line(err)
    code, out, err = cli("reproduce", "out", "-m", odd)
    # s1 fails again, which is the same.
    assert code == 0, out
    assert "fails_one: 6 edits, 6 with equal pictures" in out
    assert "runs the code in" in err
    key = of(tmp_path / "out", "fails_one", "s1")
    record = json.loads((tmp_path / "out" / "records" / f"{key}.json").read_text())
    assert record["status"] == "failed"


def test_a_folder_without_edits_of_ours_is_one_line(cli, tmp_path):
    (tmp_path / "empty" / "records").mkdir(parents=True)
    code, _, err = cli("reproduce", "empty")
    assert code == 2
    assert "holds no results" in only_line(err)
