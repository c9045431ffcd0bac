"""The gallery's files: what the page is given."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from piva_bench.data.sample import Sample
from piva_bench.report.gallery import write
from piva_bench.report.gallery.data import to_script
from piva_bench.report.gallery.write import SCRIPTS, write_gallery
from piva_bench.report.results import load_results
from tests.report.runs import make_run


def read_data(folder):
    text = (folder / "data.js").read_text(encoding="utf-8")
    return json.loads(re.fullmatch(r"window\.GALLERY_DATA=(.*);\n", text, re.DOTALL)[1])


@pytest.fixture
def gallery(run, samples, tmp_path):
    write_gallery(tmp_path / "gallery", load_results(run), samples, run)
    return tmp_path / "gallery"


@given(st.dictionaries(st.text(), st.text() | st.none() | st.integers()))
def test_the_script_holds_the_data_and_nothing_that_a_page_could_read_as_a_tag(data):
    text = to_script(data)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text.removeprefix("window.GALLERY_DATA=").removesuffix(";\n")) == data


def test_scores_are_those_of_the_records(gallery, run):
    data, results = read_data(gallery), load_results(run)
    metrics = [metric["name"] for metric in data["metrics"]]
    assert len(data["edits"]) == len(results)
    by_key = results.set_index("key")
    for edit in data["edits"]:
        sample, variant, seed = edit["at"]
        row = by_key.loc[edit["key"]]
        assert data["samples"][sample]["id"] == row["sample_id"]
        assert data["variants"][variant]["name"] == row["variant"]
        assert data["seeds"][seed] == row["seed"]
        for name, value in zip(metrics, edit["scores"], strict=True):
            assert (value is None) == pd.isna(row[name])
            assert value is None or value == pytest.approx(row[name], rel=1e-4)


def test_every_file_it_names_is_there_and_no_other(gallery, run, samples):
    (gallery / "edits" / "old.png").write_bytes(b"")
    write_gallery(gallery, load_results(run), samples, run)
    data = read_data(gallery)
    named = {f"edits/{edit['key']}.png" for edit in data["edits"]}
    named |= {sample[name] for sample in data["samples"] for name in ("source", "reference")}
    assert named == {str(p.relative_to(gallery)) for p in gallery.glob("*/*")}
    assert {p.name for p in gallery.glob("*.*")} == {"index.html", "data.js", "gallery.css", *SCRIPTS}
    page = (gallery / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://", page)


def test_an_odd_id_is_no_path(samples, tmp_path):
    first = next(iter(samples.values()))
    evil = Sample("../../<b>&amp;", first.source_path, "a", "b", "", "x/../y")
    run = make_run(tmp_path / "odd", {evil.id: evil}, {"piva": 1.0})
    write_gallery(tmp_path / "g", load_results(run), {evil.id: evil}, run)
    assert read_data(tmp_path / "g")["samples"][0]["id"] == evil.id
    assert len(list((tmp_path / "g" / "samples").iterdir())) == 1


def test_large_pictures_get_thumbnails_and_the_mask_becomes_a_layer(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    picture = tmp_path / "large.png"
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(picture)
    sample = Sample("1", picture, "a", "b", "", "t", mask_rle=(0, 20_000), reference_path=picture)
    run = make_run(tmp_path / "run", {"1": sample}, {"piva": 1.0})
    results = load_results(run).assign(resolution=200)
    write_gallery(tmp_path / "g", results, {"1": sample}, run)
    data = read_data(tmp_path / "g")
    assert data["thumbnails"]
    with Image.open(tmp_path / "g" / "thumbs" / f"{data['edits'][0]['key']}.jpg") as thumbnail:
        assert max(thumbnail.size) <= 160
    with Image.open(tmp_path / "g" / data["samples"][0]["source_small"]) as thumbnail:
        assert thumbnail.size == (160, 160)
    with Image.open(tmp_path / "g" / data["samples"][0]["mask"]) as mask:
        alpha = np.asarray(mask)[..., 3] > 0
    np.testing.assert_array_equal(alpha, sample.load_mask())
    # Of very many edits the page loads the pictures themselves, those that are looked at.
    monkeypatch.setattr(write, "MOST_THUMBNAILS", 0)
    write_gallery(tmp_path / "g", results, {"1": sample}, run)
    assert not read_data(tmp_path / "g")["thumbnails"]
    assert list((tmp_path / "g" / "thumbs").iterdir()) == []
    assert (tmp_path / "g" / "edits" / f"{data['edits'][0]['key']}.png").is_file()


def test_a_dataset_that_is_gone_leaves_edits_and_scores(run, tmp_path):
    write_gallery(tmp_path / "g", load_results(run), {}, run)
    data = read_data(tmp_path / "g")
    assert len(data["samples"]) == 8
    assert "source" not in data["samples"][0]


def test_films_of_the_run_are_shown_with_their_edits(run, samples, tmp_path):
    key = load_results(run)["key"].iloc[0]
    (run / "turntables").mkdir()
    for name in (f"{key}.gif", "stranger.gif"):
        (run / "turntables" / name).write_bytes(b"GIF89a")
    write_gallery(tmp_path / "g", load_results(run), samples, run)
    shown = {edit["key"]: edit["film"] for edit in read_data(tmp_path / "g")["edits"] if "film" in edit}
    assert shown == {key: f"films/{key}.gif"}
    assert [path.name for path in (tmp_path / "g" / "films").iterdir()] == [f"{key}.gif"]
