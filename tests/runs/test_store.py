import errno
import json

import numpy as np
import pytest
from filelock import FileLock

from piva_bench.errors import UserError
from piva_bench.runs import store as store_module
from piva_bench.runs.edit import Edit, encode_png
from piva_bench.runs.record import Record, ScoreFile, Setup, unit_key
from piva_bench.runs.store import Store

SETUP = Setup(
    profile="p",
    dataset="d",
    dataset_revision="r",
    model="m",
    model_fingerprint="f",
    resolution=8,
    dtype="float32",
)


def make_edit(sample, failed=False, seed=0):
    identity = {"method": "x", "method_version": "1", "method_source": None, "params": {"a": 0.1}}
    png, sha = encode_png(np.full((8, 8, 3), seed, dtype=np.uint8))
    record = Record(
        **SETUP.model_dump(),
        **identity,
        key=unit_key(SETUP, **identity, sample_id=sample, seed=seed),
        status="failed" if failed else "ok",
        reason="why" if failed else None,
        sample_id=sample,
        edit_type="0_random",
        seed=seed,
        device="cpu",
        image_sha=None if failed else sha,
        batch_size=1,
        created="2026-01-01",
    )
    return Edit(record, None if failed else png, {"loss": [0.123456789, float("nan")]})


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def store(tmp_path, warnings):
    with Store(tmp_path / "out", warnings.append) as opened:
        yield opened


def test_what_is_committed_is_read_back(store, warnings):
    edits = [make_edit("a"), make_edit("b", failed=True)]
    store.commit(edits)
    assert list(store.records().values()) == sorted((e.record for e in edits), key=lambda r: r.key)
    assert all(store.is_whole(edit.record) for edit in edits)
    assert store.load_image(edits[0].record).shape == (8, 8, 3)
    trace = json.loads((store.root / "traces" / f"{edits[0].record.key}.json").read_text())
    assert trace.pop("content_hash")
    assert trace == {"loss": [0.123457, None]}
    assert store.load_trace(edits[0].record.key) == trace
    assert not warnings
    assert not (store.root / "journal.json").exists()


@pytest.mark.parametrize("content", [b"", b'{"key": ', b"[]", b"\xff\x00", b'{"key": "x"}'])
def test_torn_and_foreign_records_are_named_and_ignored(store, warnings, content):
    edit = make_edit("a")
    store.commit([edit])
    path = store.root / "records" / f"{edit.record.key}.json"
    path.write_bytes(content)
    assert store.records() == {}
    assert len(warnings) == 1
    assert str(path) in warnings[0]


def test_a_record_whose_content_was_changed_is_not_believed(store, warnings):
    edit = make_edit("a")
    store.commit([edit])
    path = store.root / "records" / f"{edit.record.key}.json"
    changed = json.loads(path.read_text().replace('"a": 0.1', '"a": 0.2'))
    path.write_text(json.dumps(changed))
    assert store.records() == {}
    assert "is torn" in warnings[0]
    del changed["content_hash"]
    path.write_text(json.dumps(changed))
    assert store.records() == {}
    assert "does not hold what its name says" in warnings[1]


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(p.read_bytes()[:50]), lambda p: p.unlink()])
def test_torn_and_missing_pictures_are_noticed(store, warnings, damage):
    edit = make_edit("a")
    store.commit([edit])
    damage(store.image_path(edit.record.key))
    assert not store.is_whole(edit.record)
    assert len(warnings) == 1
    with pytest.raises(UserError, match="torn or was changed|cannot be read"):
        store.load_image(edit.record)


def test_recommitting_drops_the_old_scores(store):
    edit = make_edit("a")
    store.commit([edit])
    store.save_scores(edit.record.key, ScoreFile(protocol="p", fingerprint="f", values={"m": 1.0}))
    assert store.load_scores("p", edit.record.key) is not None
    store.commit([edit])
    assert store.load_scores("p", edit.record.key) is None


def test_torn_scores_are_scored_again(store, warnings):
    store.save_scores(
        "k", ScoreFile(protocol="p", fingerprint="f", values={"m": None}, undefined={"m": "why"})
    )
    path = store.root / "scores" / "p" / "k.json"
    path.write_text("{")
    assert store.load_scores("p", "k") is None
    assert str(path) in warnings[0]


def test_a_batch_cut_short_while_committing_is_completed_or_absent(tmp_path, monkeypatch):
    """Stop after each write of a commit in turn: the store then holds all of the batch or nothing of it."""
    edits = [make_edit("a"), make_edit("b"), make_edit("c", failed=True)]
    written = 0
    while True:
        root = tmp_path / str(written)
        allowed = written
        original = store_module.write_atomic

        def stop(path, data, root=root, original=original):
            nonlocal allowed
            if allowed == 0 and root / ".writable" != path:
                raise KeyboardInterrupt
            allowed -= root / ".writable" != path
            original(path, data)

        monkeypatch.setattr(store_module, "write_atomic", stop)
        finished = True
        try:
            with Store(root) as opened:
                opened.commit(edits)
        except KeyboardInterrupt:
            finished = False
        monkeypatch.setattr(store_module, "write_atomic", original)
        (root / "images").mkdir(exist_ok=True)
        (root / "images" / f"{edits[0].record.key}.png.part").write_bytes(b"half")
        with Store(root) as reopened:
            kept = reopened.records()
            assert len(kept) in (0, 3)
            assert all(reopened.is_whole(record) for record in kept.values())
            assert not list(root.rglob("*.part"))
            assert not (root / "journal.json").exists()
        if finished:
            break
        written += 1
    assert written > 6


def test_a_torn_journal_is_dropped_with_a_warning(tmp_path, warnings):
    root = tmp_path / "out"
    root.mkdir()
    (root / "journal.json").write_text('[{"key": ')
    with Store(root, warnings.append) as opened:
        assert opened.records() == {}
    assert "journal.json is torn" in warnings[0]
    assert not (root / "journal.json").exists()


def test_a_full_disk_is_one_line_and_loses_nothing(store, monkeypatch):
    first = make_edit("a")
    store.commit([first])

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "write_atomic", full)
    with pytest.raises(UserError, match="No space left on device") as error:
        store.commit([make_edit("b")])
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert list(store.records()) == [first.record.key]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "file"
    store_module.write_atomic(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store_module.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_permission_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(UserError, match="Cannot write to .* Give --output-dir"),
        Store(tmp_path / "file" / "out"),
    ):
        pass


def test_a_second_writer_is_refused(tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    with FileLock(root / ".lock"), pytest.raises(UserError, match="Another run is writing"), Store(root):
        pass


def test_edits_that_somebody_removes_are_missed(tmp_path):
    edits = [make_edit("a"), make_edit("b")]
    with Store(tmp_path / "out") as store:
        store.commit(edits)
        store.check_still_there(edit.record for edit in edits)
        (tmp_path / "out" / "records" / f"{edits[0].record.key}.json").unlink()
        with pytest.raises(UserError, match="1 edits that this run stored"):
            store.check_still_there(edit.record for edit in edits)


def test_thousands_are_stored_as_one_is(tmp_path, monkeypatch):
    """The same files; and what the journal promises is on the disk before it is."""
    import os

    edits, syncs = [make_edit("a"), make_edit("b")], []
    with Store(tmp_path / "one") as store:
        store.commit(edits)
    monkeypatch.setattr(
        os, "sync", lambda: syncs.append(sorted(p.name for p in (tmp_path / "many").rglob("*.*")))
    )
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with Store(tmp_path / "many") as store, store.many():
        store.commit(edits)
    pictures = {f"{edit.record.key}.png" for edit in edits}
    records = {f"{edit.record.key}.json" for edit in edits}
    assert pictures <= set(syncs[0])
    assert "journal.json" not in syncs[0]
    assert "journal.json" in syncs[1]
    assert {p.name for p in (tmp_path / "many" / "records").iterdir()} == records
    assert "journal.json" not in syncs[-1]
    for name in ("records", "images", "traces"):
        for path in (tmp_path / "one" / name).iterdir():
            assert path.read_bytes() == (tmp_path / "many" / name / path.name).read_bytes()
