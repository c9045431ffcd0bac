import pytest

from piva_bench.address import Address
from piva_bench.errors import DataError, UserError
from piva_bench.kept import kept


def read(path):
    if not path.is_file():
        raise DataError("missing")
    return path.read_bytes()


def test_what_is_kept_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_THINGS", str(tmp_path / "made"))
    written = []

    def write(file):
        written.append(1)
        file.write(b"thing")

    assert [kept("things", "one", read, write) for _ in range(2)] == [b"thing"] * 2
    assert len(written) == 1


def whole(path):
    if not path.is_file() or not path.read_bytes().startswith(b"thing"):
        raise DataError("missing or torn")
    return path.read_bytes()


def test_machines_can_keep_things_together_in_an_object_store(tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_THINGS", "memory://somewhere/things")
    made = []

    def kept_on(machine, name="one"):
        monkeypatch.setenv("HOME", str(tmp_path / machine))
        return kept("things", name, whole, lambda file: (made.append(machine), file.write(b"thing"))[1])

    assert [kept_on("first"), kept_on("second"), kept_on("second", "two")] == [b"thing"] * 3
    assert made == ["first", "second"]  # the second fetched the one, and made the other
    store = Address("memory://somewhere/things")
    assert store.names() == {"one", "two"}
    store.put("one", b"torn")
    assert kept_on("third") == b"thing"
    assert (made[-1], store.get("one")) == ("third", b"thing")


def test_a_folder_that_cannot_be_written_to_is_one_line_with_the_cure(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PIVA_BENCH_THINGS", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match=r"Cannot keep .* with PIVA_BENCH_THINGS\.$"):
        kept("things", "one", read, lambda file: file.write(b""))
