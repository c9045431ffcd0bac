"""On a cache laid out exactly like the package's own."""

import gzip
import json
import urllib.error
from pathlib import Path

import pytest
import trimesh

from piva_bench.errors import DataError, UnknownName, UserError
from piva_bench.scene.objaverse import ObjaverseFetcher, ObjectCard, glb_fault, read_subset, subset_names
from piva_bench.scene.subject import load_model

FREE, PAID, SILENT, GONE = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)


def zipped(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(value).encode()))


@pytest.fixture
def cache(tmp_path):
    root = tmp_path / "hf-objaverse-v1"
    paths = {uid: f"glbs/000-{i:03d}/{uid}.glb" for i, uid in enumerate((FREE, PAID, SILENT))}
    zipped(root / "object-paths.json.gz", paths)
    zipped(root / "metadata" / "000-000.json.gz", {FREE: {"name": "Box", "license": "by", "likeCount": 3}})
    zipped(root / "metadata" / "000-001.json.gz", {PAID: {"name": "House", "license": "by-nc-sa"}})
    zipped(root / "metadata" / "000-002.json.gz", {SILENT: {"name": "?"}})
    for path in paths.values():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box().export(root / path)
    return tmp_path


@pytest.fixture
def network(monkeypatch):
    """Counts downloads; what is put into ``answers`` is what they give, an exception by default."""

    class Network:
        calls, answers = 0, []

    def retrieve(url, path):
        Network.calls += 1
        answer = Network.answers.pop(0) if Network.answers else urllib.error.URLError("no route")
        if isinstance(answer, Exception):
            raise answer
        Path(path).write_bytes(answer)

    monkeypatch.setattr("urllib.request.urlretrieve", retrieve)
    return Network


def cards(*uids, **extra):
    return [ObjectCard(uid=uid, **extra) for uid in uids]


def fetcher(cache, **options):
    return ObjaverseFetcher(cache, sleep=lambda seconds: None, **options)


def test_a_full_cache_needs_no_network_and_licences_are_minded(cache, network, capsys):
    result = fetcher(cache).fetch(cards(FREE, PAID, SILENT, GONE))
    assert [item.card.uid for item in result.objects] == [FREE]
    assert result.objects[0].licence == "CC-BY-4.0"
    assert load_model(result.objects[0].path).surfaces
    assert "CC-BY-NC-SA-4.0 forbids commercial use" in result.left_out[PAID]
    assert "not stated" in result.left_out[SILENT]
    assert "no such object" in result.left_out[GONE]
    asked = fetcher(cache, noncommercial=True).fetch(cards(FREE, PAID))
    assert [item.licence for item in asked.objects] == ["CC-BY-4.0", "CC-BY-NC-SA-4.0"]
    assert network.calls == 0
    assert capsys.readouterr().out == ""


def test_annotations_go_before_the_card_and_the_card_before_nothing(cache):
    assert not fetcher(cache).fetch(cards(PAID, licence="CC0-1.0")).objects
    assert fetcher(cache).fetch(cards(SILENT, licence="CC-BY-4.0")).objects[0].licence == "CC-BY-4.0"


def test_a_missing_object_is_downloaded_after_a_failure_and_torn_ones_again(cache, network):
    path = cache / "hf-objaverse-v1" / f"glbs/000-000/{FREE}.glb"
    whole = path.read_bytes()
    path.unlink()
    waits = []
    network.answers[:] = [urllib.error.URLError("reset"), whole[:-7], whole]
    result = ObjaverseFetcher(cache, sleep=waits.append).fetch(cards(FREE))
    assert result.objects[0].path == path
    assert network.calls == 3
    assert waits == [2.0, 4.0]
    path.write_bytes(whole[:100])
    network.answers[:] = [whole]
    assert fetcher(cache).fetch(cards(FREE)).objects[0].path.read_bytes() == whole


def test_one_object_that_cannot_be_had_does_not_stop_the_others(cache, network):
    (cache / "hf-objaverse-v1" / f"glbs/000-000/{FREE}.glb").unlink()
    result = fetcher(cache, noncommercial=True, attempts=2).fetch(cards(FREE, PAID))
    assert [item.card.uid for item in result.objects] == [PAID]
    assert "after 2 attempts: <urlopen error no route>" in result.left_out[FREE]
    assert "\n" not in result.left_out[FREE]


def test_no_network_and_no_cache_is_one_line(tmp_path, network):
    with pytest.raises(UserError, match="cannot fetch Objaverse's list of objects after 3 attempts") as error:
        fetcher(tmp_path).fetch(cards(FREE))
    assert "\n" not in str(error.value)


def test_a_changed_file_is_noticed(cache):
    first = fetcher(cache).fetch(cards(FREE)).objects[0]
    assert fetcher(cache).fetch(cards(FREE)).objects[0].sha256 == first.sha256
    trimesh.creation.icosphere().export(first.path)
    assert "checksum of its first fetch" in fetcher(cache).fetch(cards(FREE)).left_out[FREE]
    trimesh.creation.box().export(first.path)
    assert "checksum pinned" in fetcher(cache).fetch(cards(FREE, sha256="0" * 64)).left_out[FREE]
    (cache / "piva-bench-objects.json").write_text("{")
    assert "torn" in fetcher(cache).fetch(cards(FREE)).left_out[FREE]


def test_the_package_is_left_as_it_was(cache):
    import objaverse

    before = objaverse.BASE_PATH, objaverse._VERSIONED_PATH
    fetcher(cache).fetch(cards(FREE))
    assert before == (objaverse.BASE_PATH, objaverse._VERSIONED_PATH)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda b: b[:-1], "torn"),
        (lambda b: b + b"x", "torn"),
        (lambda b: b"<html>", "no GLB"),
        (lambda b: b"", "no GLB"),
        (lambda b: b[:4] + b"\1" + b[5:], "version 1"),
    ],
)
def test_what_is_no_whole_glb(tmp_path, change, fault):
    path = tmp_path / "x.glb"
    trimesh.creation.box().export(path)
    assert glb_fault(path) is None
    path.write_bytes(change(path.read_bytes()))
    assert fault in glb_fault(path)


def test_the_first_authors_list():
    assert "first-author" in subset_names()
    subset = read_subset("first-author")
    assert len(subset.objects) == 32
    assert len(subset.promptable()) >= 12
    house = next(card for card in subset.objects if card.name == "Forest House")
    assert house.licence == "CC-BY-NC-4.0"


def test_faulty_subsets_are_one_line(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean first-author"):
        read_subset("first-authors")
    head = "name: x\ntitle: X\nsource: here\nobjects:\n"
    for text, line in (
        (head + f"- uid: {FREE}\n- uid: {FREE}\n", "listed twice"),
        (head + "- uid: 123\n", "objects.0.uid"),
        (head + f"- uid: {FREE}\n  color: red\n", "color"),
        (head, "objects"),
        ("[", "cannot be read"),
        ("", "the file"),
    ):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(DataError, match=line) as error:
            read_subset(tmp_path / "s.yaml")
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_subset(tmp_path / "none.yaml")
