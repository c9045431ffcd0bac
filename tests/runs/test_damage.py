"""Every kind of file in a store, damaged in every way: found, named in a line, left out or mended; nothing outside
the store is read, written or removed."""

import json
import os
import re
import shutil
from dataclasses import replace

import pytest

from piva_bench.errors import DataError
from piva_bench.runs.edit import sha256
from piva_bench.runs.inside import make_way, read_inside
from piva_bench.runs.manifest import Manifest
from piva_bench.runs.record import ScoreFile
from piva_bench.runs.store import Store
from tests.runs.test_store import make_edit


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    data = bytearray(path.read_bytes())
    # A digit if there is one: what is left is good JSON, and wrong.
    digits = [i for i, byte in enumerate(data) if 48 <= byte < 57] or [len(data) // 2]
    data[digits[len(digits) // 2]] += 1
    path.write_bytes(bytes(data))


def nested(path):
    path.write_text("[" * 200_000 + "]" * 200_000)


def nested_inside(path):
    deep = "[" * 5000 + "]" * 5000
    path.write_text('{"params": ' + deep + ', "loss": ' + deep + ', "runs": ' + deep + "}")


def other_types(path):
    path.write_text('{"key": 1, "params": [], "loss": {"a": "b"}, "runs": 3, "setup": [], "values": "x"}')


def no_object(path):
    path.write_text('["a", null, 3.5]')


def a_folder(path):
    path.unlink()
    (path / "sub").mkdir(parents=True)


def a_link(path):
    outside = path.parents[3] / "outside"
    outside.mkdir(exist_ok=True)
    target = outside / path.name
    shutil.move(path, target)
    path.symlink_to(target)


def a_dangling_link(path):
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = [truncated, emptied, flipped, nested, nested_inside, other_types, no_object, a_folder, a_link,
           a_dangling_link, a_pipe]  # fmt: skip
KINDS = ["record", "image", "depth", "trace", "scores", "manifest"]


def tree(root):
    """Names and contents of all that lies below a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def make_store(root):
    depth = b"a sheet of depths"
    edits = []
    for name in ("a", "b"):
        edit = make_edit(name)
        path = f"depth/{edit.record.key}.png"
        record = edit.record.model_copy(update={"files": {path: sha256(depth)}})
        edits.append(replace(edit, record=record, files={path: depth}))
    with Store(root) as store:
        store.commit(edits)
        for edit in edits:
            store.save_scores(
                edit.record.key, ScoreFile(protocol="p-v1", fingerprint="f", values={"m": 1.25})
            )
        setup = edits[0].record.model_dump(include=set(type(edits[0].record).__mro__[1].model_fields))
        store.save_json("manifest.json", {"schema_version": 1, "setup": setup, "data_root": None, "runs": []})
    return edits


def place(root, kind, key):
    return {
        "record": root / "records" / f"{key}.json",
        "image": root / "images" / f"{key}.png",
        "depth": root / "depth" / f"{key}.png",
        "trace": root / "traces" / f"{key}.json",
        "scores": root / "scores" / "p-v1" / f"{key}.json",
        "manifest": root / "manifest.json",
    }[kind]


def read_all(root, warn):
    """Everything a command reads of a store; how many edits have each kind of thing."""
    store = Store(root, warn)
    records = store.records()
    whole = [record for record in records.values() if store.is_whole(record)]
    return {
        "record": len(records),
        "image": len(whole),
        "depth": len(whole),
        "trace": sum(bool(store.load_trace(key)) for key in records),
        "scores": sum(store.load_scores("p-v1", key) is not None for key in records),
        "manifest": len(Manifest(root, warn)._content),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_named_and_mended(tmp_path, kind, damage):
    root = tmp_path / "deep" / "out"
    edits = make_store(root)
    warnings = []
    before = read_all(root, warnings.append)
    assert not warnings
    path = place(root, kind, edits[0].record.key)
    damage(path)
    outside = tree(tmp_path / "deep" / "outside") if (tmp_path / "deep" / "outside").exists() else None
    after = read_all(root, warnings.append)
    assert after[kind] < before[kind]
    named = [line for line in warnings if str(path) in line]
    assert len(named) == 1
    assert "\n" not in named[0]
    assert len(named[0]) < 400
    # The other edit is untouched, and computing this one again makes the store whole.
    assert after["record"] >= before["record"] - 1
    assert after["trace"] >= before["trace"] - 1
    with Store(root) as store:
        store.commit(edits)
        for edit in edits:
            store.save_scores(
                edit.record.key, ScoreFile(protocol="p-v1", fingerprint="f", values={"m": 1.25})
            )
        manifest = Manifest(root)
        assert manifest.setup is not None
        assert manifest.setup.model == "m"
        store.save_json("manifest.json", {"setup": manifest.setup.model_dump(), "runs": [], "data_root": None,
                                          "schema_version": 1})  # fmt: skip
    warnings.clear()
    assert read_all(root, warnings.append) == before
    assert not warnings
    if outside is not None:
        assert tree(tmp_path / "deep" / "outside") == outside


@pytest.mark.parametrize("kind", ["record", "trace", "scores", "manifest"])
def test_no_flipped_bit_changes_what_is_read(tmp_path, kind):
    """Of every byte in turn: what is read is what was written, or nothing."""
    root = tmp_path / "out"
    edits = make_store(root)
    key = edits[0].record.key
    path = place(root, kind, key)

    def read():
        store = Store(root)
        return {
            "record": lambda: store.record(key), "trace": lambda: store.load_trace(key),
            "scores": lambda: store.load_scores("p-v1", key), "manifest": lambda: Manifest(root)._content,
        }[kind]()  # fmt: skip

    whole, data = read(), path.read_bytes()
    assert whole
    lost = 0
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(changed))
        found = read()
        assert not found or found == whole
        lost += not found
    assert lost > len(data) // 2


@pytest.mark.parametrize("folder", ["records", "images", "depth", "traces", "scores", "scores/p-v1"])
@pytest.mark.parametrize("what", ["link", "file"])
def test_a_link_or_file_in_place_of_a_folder(tmp_path, folder, what):
    root, outside = tmp_path / "out", tmp_path / "outside"
    edits = make_store(root)
    whole = read_all(root, lambda line: None)
    shutil.move(root / folder, outside)
    (outside / "half.json.part").write_text("somebody's")
    if what == "link":
        (root / folder).symlink_to(outside)
    else:
        (root / folder).write_text("in the way")
    content = tree(outside)
    warnings = []
    kind = {"records": "record", "images": "image", "scores/p-v1": "scores"}.get(folder, folder.rstrip("s"))
    damaged = read_all(root, warnings.append)
    assert damaged[kind if kind in KINDS else "scores"] == 0
    with Store(root, warnings.append) as store:
        store.commit(edits)
        for edit in edits:
            store.save_scores(
                edit.record.key, ScoreFile(protocol="p-v1", fingerprint="f", values={"m": 1.25})
            )
    assert any(str(root / folder) in line for line in warnings)
    assert tree(outside) == content
    assert read_all(root, lambda line: None) == whole


def test_a_journal_leads_nowhere_outside(tmp_path):
    """A key that is a path, and one that is not the content's own."""
    edits = make_store(tmp_path / "out")
    precious = tmp_path / "x.json"
    precious.write_text("precious")
    row = edits[0].record.model_dump()
    for key in ("../../x", "../x", "0" * 32, "/tmp/x"):
        for content in ([{**row, "key": key, "files": {}}], {"records": [{**row, "key": key, "files": {}}]}):
            (tmp_path / "out" / "journal.json").write_text(json.dumps(content))
            warnings = []
            with Store(tmp_path / "out", warnings.append) as store:
                assert set(store.records()) == {edit.record.key for edit in edits}
            assert "journal.json is torn" in warnings[0]
            assert precious.read_text() == "precious"
            assert not (tmp_path / "out" / "journal.json").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_dropped(tmp_path, damage):
    root = tmp_path / "deep" / "out"
    edits = make_store(root)
    with Store(root) as store:
        store.save_json("journal.json", {"records": [edits[0].record.model_dump()]})
    damage(root / "journal.json")
    warnings = []
    with Store(root, warnings.append) as store:
        assert len(store.records()) == 2
    assert any("journal.json" in line for line in warnings)
    assert not os.path.lexists(root / "journal.json")


def test_files_of_a_record_cannot_lie_outside(tmp_path):
    edits = make_store(tmp_path / "out")
    path = place(tmp_path / "out", "record", edits[0].record.key)
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    content = json.loads(path.read_text())
    del content["content_hash"]
    for name in (
        "../secret.png",
        str(secret),
        f"../out/depth/{edits[0].record.key}.png",
        "depth/../../secret.png",
    ):
        path.write_text(json.dumps({**content, "files": {name: sha256(b"secret")}}))
        warnings = []
        assert edits[0].record.key not in Store(tmp_path / "out", warnings.append).records()
        assert str(path) in warnings[0]


def test_only_half_written_files_of_its_own_are_removed(tmp_path):
    root = tmp_path / "home"
    theirs = [
        "film.mkv.part", "records/film.mkv.part", "sub/images/0123456789abcdef0123456789abcdef.png.part",
        "images/holiday.png.part", "thesis.tex",
    ]  # fmt: skip
    key = "0123456789abcdef0123456789abcdef"
    own = [
        f"records/{key}.json.part", f"images/{key}.png.part", "manifest.json.part",
        f"traces/{key}.json.0a1b2c3d.part",
    ]  # fmt: skip
    for name in (*theirs, *own):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "depth" / f"{key}.png.part").mkdir(parents=True)
    with Store(root):
        pass
    assert [name for name in theirs if not (root / name).is_file()] == []
    assert [name for name in own if (root / name).exists()] == []


def test_folders_of_the_names_of_temporary_files_stop_nothing(tmp_path):
    edit = make_edit("a")
    key = edit.record.key
    for name in (f"records/{key}.json.part", f"images/{key}.png.part", "journal.json.part", ".writable.part"):
        (tmp_path / "out" / name / "sub").mkdir(parents=True)
    with Store(tmp_path / "out") as store:
        store.commit([edit])
        assert store.is_whole(store.records()[key])


def test_the_lock_is_no_way_to_empty_a_file(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("precious")
    for name in (".lock", ".writable", ".writable.part", "journal.json.part", "manifest.json.part"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "precious")
    with Store(tmp_path / "out") as store:
        store.commit([make_edit("a")])
        store.save_json("manifest.json", {"runs": []})
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("protocol", ["../..", "/etc", "..", ".", "", "a/b", "a\0b"])
def test_a_protocol_is_no_path(tmp_path, protocol):
    make_store(tmp_path / "out")
    with pytest.raises(DataError, match="no name of a protocol"):
        Store(tmp_path / "out").load_scores(protocol, "0" * 32)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a\0b"])
def test_paths_that_lead_outside_are_refused(tmp_path, name):
    for function in (read_inside, make_way):
        with pytest.raises(OSError, match=re.escape("is no path below a run")):
            function(tmp_path, name)
