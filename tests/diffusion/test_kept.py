import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from piva_bench.diffusion.kept import KeptRows, digest, row_digests

WIDTH = 4
ROW = WIDTH * 4  # bytes


def row(value):
    return torch.full((1, WIDTH), float(value))


def found(kept, name):
    rows = kept.get([name], row(0))
    return None if rows is None else float(rows[0, 0])


def test_rows_come_back_in_shape():
    kept = KeptRows()
    values = torch.randn(3, 2, 2)
    kept.put([b"a", b"b", b"c"], values)
    assert torch.equal(kept.get([b"c", b"a"], values), values[[2, 0]])
    assert kept.get([b"a", b"z"], values) is None
    assert (kept.hits, kept.misses) == (2, 2)


def test_what_was_kept_is_a_copy():
    kept, values = KeptRows(), row(1)
    kept.put([b"a"], values)
    values.zero_()
    kept.get([b"a"], values).zero_()
    assert found(kept, b"a") == 1


def test_the_oldest_rows_move_to_disk_and_are_overwritten_there(tmp_path):
    kept = KeptRows(memory_bytes=3 * ROW, disk_bytes=4 * ROW, folder=tmp_path)
    for i in range(10):
        kept.put([b"%d" % i], row(i))
    assert [found(kept, b"%d" % i) for i in range(10)] == [None] * 3 + [3.0, 4, 5, 6, 7, 8, 9]
    assert list(tmp_path.iterdir()) == []  # the file has no name: nothing is left behind after a kill


def test_without_disk_the_oldest_rows_are_forgotten():
    kept = KeptRows(memory_bytes=2 * ROW, disk_bytes=0)
    for i in range(4):
        kept.put([b"%d" % i], row(i))
    assert [found(kept, b"%d" % i) for i in range(4)] == [None, None, 2, 3]


def test_a_full_disk_loses_rows_and_nothing_else(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    kept = KeptRows(memory_bytes=ROW, folder=tmp_path)
    for i in range(3):
        kept.put([b"%d" % i], row(i))
    assert [found(kept, b"%d" % i) for i in range(3)] == [None, None, 2]


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), max_size=40), memory=st.integers(0, 8), disk=st.integers(0, 12))
def test_a_row_is_what_was_put_or_not_there(sizes, memory, disk):
    kept = KeptRows(memory_bytes=memory * 4, disk_bytes=disk * 4)
    for i, size in enumerate(sizes):
        kept.put([b"%d" % i], torch.full((1, size), float(i)))
        for j in range(i + 1):
            rows = kept.get([b"%d" % j], torch.empty(0, sizes[j]))
            assert rows is None or rows.tolist() == [[float(j)] * sizes[j]]
    if sizes and sizes[-1] <= memory:
        assert kept.get([b"%d" % (len(sizes) - 1)], torch.empty(0, sizes[-1])) is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_digests_tell_rows_apart(dtype):
    values = torch.arange(12).reshape(3, 4).to(dtype)
    digests = row_digests(values)
    assert len(set(digests)) == 3
    assert digests == row_digests(values.clone())
    assert digest(values[0]) == digests[0]


def test_digests_know_where_a_part_ends():
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest(torch.zeros(2)) != digest(np.zeros(1, dtype=np.float32).tobytes())
