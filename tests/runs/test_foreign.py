"""Taking in somebody else's edits: which file belongs to which sample, and what is refused with which reason."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.cli.run import EXIT_FAILED_SAMPLES
from piva_bench.errors import DataError
from piva_bench.report.results import load_results
from piva_bench.runs.foreign import read_edit
from tests.harness import records

SIDE = 32


def flat(value: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    return Image.fromarray(np.full((height, width, 3), value, np.uint8))


@pytest.fixture
def score(cli, tmp_path):
    """Imports a folder of edits of own pictures: ``score({id: picture}, {file: image})`` gives code, err and values."""

    def run(samples, edits, *arguments):
        own, theirs = tmp_path / "own", tmp_path / "theirs"
        rows = ["id,image,source_prompt,target_prompt"]
        for name, picture in samples.items():
            (own / picture).parent.mkdir(parents=True, exist_ok=True)
            flat(0).save(own / picture)
            rows.append(f"{name},{picture},a red cup,a blue cup")
        (own / "prompts.csv").write_text("\n".join(rows) + "\n")
        for name, image in edits.items():
            (theirs / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(image, bytes):
                (theirs / name).write_bytes(image)
            else:
                image.save(theirs / name)
        code, _, err = cli(
            "import", theirs, "-d", "folder", "--data-root", own, "-p", "embedded", "-o", "run", *arguments
        )  # fmt: skip
        values = {}
        for (_, sample), record in records(tmp_path / "run").items() if (tmp_path / "run").is_dir() else ():
            path = tmp_path / "run" / "scores" / "pixels-v1" / f"{record['key']}.json"
            values[sample] = (
                round(json.loads(path.read_text())["values"]["brightness"])
                if path.is_file()
                else record["reason"]
            )
        return code, err, values

    return run


def test_dots_belong_to_the_name(score):
    code, err, values = score(
        {"cup.v1": "cup.v1.png", "cup.v2": "cup.v2.png", "cup": "cup.png"},
        {"cup.png": flat(10), "cup.v1.png": flat(20), "cup.v2.png": flat(30)},
    )
    assert code == 0, err
    assert values == {"cup": 10, "cup.v1": 20, "cup.v2": 30}


def test_dotted_ids_without_a_file_of_their_own_get_nobody_elses(score):
    code, err, values = score({"cup.v1": "cup.v1.png", "cup": "cup.png"}, {"cup.png": flat(10)})
    assert code == 0, err
    assert values["cup"] == 10
    assert "holds no edit of this sample" in values["cup.v1"]
    assert "1 samples without one, 0 with one that cannot be used" in err


@pytest.mark.parametrize("name", ["a.JPEG", "a.PNG", "a.bmp", "a.gif", "a.tif", "a.TIFF", "a.webp", "a.Jpg"])
def test_endings_of_pictures_in_any_case(score, name):
    code, err, values = score({"a": "a.png"}, {name: flat(200)})
    assert code == 0, err
    assert values == {"a": 200}


def test_accents_may_be_characters_of_their_own(score):
    code, err, values = score({"\u00fcber": "x.png"}, {"u\u0308ber.png": flat(70)})
    assert code == 0, err
    assert values == {"\u00fcber": 70}


def test_two_candidates_are_none(score):
    code, err, values = score(
        {"a": "a.png", "b": "b.png"}, {"a.jpg": flat(10), "a.png": flat(20), "b.png": flat(9)}
    )
    assert code == EXIT_FAILED_SAMPLES
    assert values["b"] == 9
    assert "a.jpg and" in values["a"]
    assert "could both be its edit: keep one" in values["a"]
    assert "unusable: a: " in err


def test_a_picture_that_several_samples_share_names_none_of_them(score):
    code, err, values = score({"one": "x.png", "two": "x.png"}, {"x.png": flat(10), "two.png": flat(20)})
    assert code == 0, err
    assert values["two"] == 20
    assert "holds no edit of this sample" in values["one"]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (flat(1, 64, 64), "is 64x64 px, not 32x32: make the edits anew at 32 px, or resize them"),
        (flat(1, 48, 32), r"is 48x32 px, not 32x32, and no strip.*--strips"),
        (flat(1, 64, 32), r"is 64x32 px, not 32x32, and no strip.*--strips"),
        (flat(1, 16, 16), "is 16x16 px, not 32x32"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is no whole picture"),
        (b"", "is no whole picture"),
    ],
)
def test_nothing_usable_is_an_error_with_the_reason(score, tmp_path, image, reason):
    code, err, _ = score({"a": "a.png", "b": "b.png"}, {"a.png": image, "b.png": image})
    assert code == EXIT_USER_ERROR
    (line,) = err.splitlines()
    assert line.startswith("error: No edit in")
    assert re.search(reason, line)
    assert "(1 more like this)" in line
    assert not (tmp_path / "run").exists()  # nothing half-made is left


@pytest.mark.parametrize(
    "edits", [{"a.npy": b"x"}, {"out/a.png": flat(1)}, {"a_edited.png": flat(1)}, {"notes/x.txt": b""}]
)
def test_nothing_found_says_where_it_was_looked_for(score, edits):
    code, err, _ = score({"a": "a.png"}, edits)
    assert code == EXIT_USER_ERROR
    assert "holds no edit of any of the 1 samples: they are looked for at" in err
    assert f"which holds {next(iter(edits)).split('/')[0]}" in err


def test_ids_do_not_lead_out_of_the_folder(score, tmp_path):
    flat(5).save(tmp_path / "secret.png")
    code, err, values = score({"../secret": "a.png", "b": "b.png"}, {"b.png": flat(1)})
    assert code == 0, err
    assert "holds no edit" in values["../secret"]


def test_strips_that_are_not_of_whole_panels_must_be_declared(tmp_path):
    panels = [np.full((64, 64, 3), value, np.uint8) for value in (10, 250)]
    headed = np.concatenate([np.zeros((20, 128, 3), np.uint8), np.concatenate(panels, axis=1)])
    pictures = {
        "wide": np.concatenate(panels, axis=1),
        "tall": np.concatenate(panels, axis=0),
        "headed": headed,
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        with pytest.raises(DataError, match="say --strips"):
            read_edit(tmp_path / f"{name}.png", 64)
        assert (read_edit(tmp_path / f"{name}.png", 64, strips=True)[0] == 250).all()
    Image.fromarray(headed).save(tmp_path / "small.png")
    with pytest.raises(DataError, match="is 128x84 px, not 96x96"):
        read_edit(tmp_path / "small.png", 96, strips=True)


def test_a_jpeg_is_known_by_its_content(tmp_path):
    flat(9).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    flat(9).save(tmp_path / "b.png")
    assert read_edit(tmp_path / "a.png", SIDE)[1]
    assert not read_edit(tmp_path / "b.png", SIDE)[1]


def test_edits_are_a_method_with_seed_and_mask_condition(score, tmp_path):
    samples, edits = {"a": "a.png"}, {"a.png": flat(10)}
    for mask in ("none", "own", "end", "steps", None):
        given = ("--mask", mask) if mask else ()
        code, err, _ = score(
            samples, edits, "--name", "theirs", "--seed", "7", "--paper", "2502.17363", *given
        )
        assert code == 0, err
        made = {record["mask"]: record for record in records_by_mask(tmp_path / "run")}
        assert made[mask]["seed"] == 7
    # One folder of the same edits under several conditions: each is a row of a section of its own.
    assert len(made) == 5
    results = load_results(tmp_path / "run")
    assert dict(zip(results["mask"].fillna("-"), results["section"], strict=True)) == {
        "none": "method", "own": "mask", "end": "end", "steps": "steps", "-": "unknown"
    }  # fmt: skip
    assert results["variant"].nunique() == 5
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["runs"][0]["origin"] == {
        "method": "theirs",
        "seed": 7,
        "mask": "none",
        "paper": "2502.17363",
    }


def records_by_mask(run):
    return [json.loads(path.read_text()) for path in (run / "records").rglob("*.json")]
