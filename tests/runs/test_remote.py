"""Runs in an object store, against a real S3 server on loopback."""

import io
import json
import threading
import zipfile

import pytest

from piva_bench.errors import UserError
from piva_bench.runs.edit import Edit, encode_png
from piva_bench.runs.merge import merge
from piva_bench.runs.remote import Address, pull, push
from piva_bench.runs.store import Store
from tests.runs.test_damage import make_store, tree

pytest.importorskip("s3fs")


def test_there_and_back_to_the_byte(bucket, tmp_path):
    edits = make_store(tmp_path / "one")
    assert push(tmp_path / "one", Address(bucket), pytest.fail) == 2
    assert push(tmp_path / "one", Address(bucket), pytest.fail) == 0
    folders, manifests = pull(Address(bucket), tmp_path / "fetched", pytest.fail)
    assert (len(folders), len(manifests)) == (1, 1)
    merged = merge(folders, tmp_path / "back", ["merge"], pytest.fail, manifests)
    assert (merged.edits, merged.taken, merged.damaged) == (2, 2, 0)
    for name in ("records", "images", "depth", "traces", "scores"):
        assert tree(tmp_path / "back" / name) == tree(tmp_path / "one" / name)
    assert Store(tmp_path / "back").records().keys() == {edit.record.key for edit in edits}


def test_the_command_line_takes_addresses(bucket, cli, tmp_path):
    make_store(tmp_path / "one")
    code, _, err = cli("merge", "one", "-o", bucket)
    assert (code, f"2 edits of one put into {bucket}" in err) == (0, True)
    code, _, err = cli("merge", bucket, "-o", "back")
    assert (code, "2 edits in back: 2 taken from 1 runs, 0 damaged" in err) == (0, True)
    code, _, err = cli("merge", f"{bucket}-nothing", "-o", "none")
    assert code == 2
    assert "holds no results" in err
    code, _, err = cli("merge", "one", "-o", "nonesuch://bucket/run")
    assert code == 2
    assert "error: nonesuch://bucket/run: " in err


def test_cut_short_at_any_object_there_are_whole_edits_only(bucket, tmp_path, monkeypatch):
    make_store(tmp_path / "one")
    original = Address.put
    for stop in range(3):  # a manifest and two edits
        put_so_far = []

        def put(self, name, data, stop=stop, so_far=put_so_far):
            if len(so_far) >= stop:
                raise UserError("the network is gone")
            so_far.append(name)
            original(self, name, data)

        monkeypatch.setattr(Address, "put", put)
        address = Address(f"{bucket}/{stop}")
        with pytest.raises(UserError, match="network is gone"):
            push(tmp_path / "one", address, pytest.fail)
        monkeypatch.setattr(Address, "put", original)
        if stop > 1:
            folders, more = pull(address, tmp_path / f"half-{stop}", pytest.fail)
            found = merge(folders, tmp_path / f"merged-{stop}", ["merge"], pytest.fail, more)
            assert (found.edits, found.damaged) == (1, 0)
        assert push(tmp_path / "one", address, pytest.fail) == 2 - max(stop - 1, 0)
        (folder,), _ = pull(address, tmp_path / f"whole-{stop}", pytest.fail)
        for name in ("records", "images", "depth", "traces", "scores"):
            assert tree(folder / name) == tree(tmp_path / "one" / name)


def test_many_writers_of_one_address(bucket, tmp_path):
    """Each brings edits of its own and some that the others bring, too; the newest of these counts."""
    edits = make_store(tmp_path / "0")
    for index in range(1, 5):
        make_store(tmp_path / str(index))
        with Store(tmp_path / str(index)) as store:
            first = edits[0]
            created = f"2030-01-0{index}T00:00:00+00:00"
            png, sha = encode_png(Edit(first.record, first.png).image() ^ index)
            record = first.record.model_copy(update={"created": created, "image_sha": sha})
            store.commit([Edit(record, png, first.trace, first.files)])
    wrong = []

    def put(index):
        try:
            push(tmp_path / str(index), Address(bucket), wrong.append)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=put, args=(index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    folders, manifests = pull(Address(bucket), tmp_path / "fetched", wrong.append)
    assert len(folders) == 5
    merged = merge(folders, tmp_path / "back", ["merge"], wrong.append, manifests)
    assert (merged.edits, merged.damaged, wrong) == (2, 0, [])
    assert Store(tmp_path / "back").records()[edits[0].record.key].created == "2030-01-04T00:00:00+00:00"


def test_foreign_names_lead_nowhere_and_other_setups_are_refused(bucket, tmp_path):
    make_store(tmp_path / "one")
    address = Address(bucket)
    push(tmp_path / "one", address, pytest.fail)
    for name in ("edits/../../../evil.json", "evil.sh", "edits/x.zip", "edits/" + "0" * 32 + ".exe"):
        address._fs.pipe_file(f"{address._base}/{name}", b"evil")
    # Archives of the right name: torn, with members that lead outside, of another edit, or compressed.
    key = "0123456789abcdef0123456789abcdef"
    members = [
        None, ("../../../evil.json", 0), (f"/tmp/{key}.json", 0), (f"records/{'1' * 32}.json", 0),
        (f"traces/{key}.json", zipfile.ZIP_DEFLATED),
    ]  # fmt: skip
    for index, member in enumerate(members):
        buffer = io.BytesIO(b"evil")
        if member is not None:
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr(zipfile.ZipInfo(member[0]), b"evil" * 100, compress_type=member[1])
        address._fs.pipe_file(f"{address._base}/edits/{key}-{index:064x}.zip", buffer.getvalue())
    warnings = []
    before = tree(tmp_path)
    folders, _ = pull(address, tmp_path / "fetched", warnings.append)
    assert len(warnings) == len(members)
    assert all(line.endswith(("belongs to no edit: left out", "is torn: left out")) for line in warnings)
    assert sum(len(Store(folder).records()) for folder in folders) == 2
    assert {name: tree(tmp_path)[name] for name in before} == before
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or key in path.name]
    path = tmp_path / "one" / "manifest.json"
    content = json.loads(path.read_text())
    del content["content_hash"]
    content["setup"]["dtype"] = "bfloat16"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="holds results of another set-up"):
        push(tmp_path / "one", address, lambda line: None)
