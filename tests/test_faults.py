"""The soak of faults in its short form: each is injected, and nothing is lost, doubled or left untold."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.test_damage import make_store

pytest.importorskip("resource")
ROOT = Path(__file__).parents[1]
CHOSEN = (
    "driver, in `run`", "driver, in `sweep`", "driver, in `merge`", "of a worker, in `run`", "SIGTERM", "two runs",
    "ENOSPC", "RLIMIT", "folder removed", "damaged", "memory", "NaN", "exits", "kills", "global state", "clock",
    "other library versions",
)  # fmt: skip
"""What tests/runs and tests/cli do not inject in the same way is not left to the long form."""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_the_soak_finds_nothing(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- the table -->\nold\n<!-- the end of the table -->\nafter\n")
    line = [
        sys.executable,
        "-m",
        "benchmarks.faults",
        "--times",
        "1",
        "--only",
        ",".join(CHOSEN),
        "--write",
        page,
    ]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr[-2000:]
    text = page.read_text()
    assert "\nold\n" not in text
    assert text.endswith("<!-- the end of the table -->\nafter\n")
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) >= 20
    assert all(set(counts) == {"1"} for _, *counts in rows)


def test_the_soak_would_find_something(tmp_path):
    """Of every kind of wrong in turn, and of nothing else."""
    from benchmarks.faults.trial import compare, finished, state

    make_store(tmp_path / "good")
    reference = state(tmp_path / "good")
    assert len(reference) == 6
    assert compare(tmp_path / "good", reference, finished(tmp_path / "good")) == []
    (record, other), (picture, _) = (
        sorted((tmp_path / "good" / name).iterdir()) for name in ("records", "images")
    )
    for name, wrong, expected in (
        ("missing", lambda root: (root / "records" / record.name).unlink(), "lost: 1 files, such"),
        ("torn", lambda root: (root / "records" / record.name).write_bytes(b"{"), "lost: 1 files are not"),
        ("other", lambda root: (root / "images" / picture.name).write_bytes(b"x"), "lost: 1 files are not"),
        (
            "more",
            lambda root: (root / "records" / "x.json").write_bytes(other.read_bytes()),
            "doubled: 1 files",
        ),
        ("half", lambda root: (root / "records" / "x.json.part").write_bytes(b""), "doubled: 1 files"),
        ("journal", lambda root: (root / "journal.json").write_bytes(b"{}"), "lost: half-written"),
    ):
        shutil.copytree(tmp_path / "good", tmp_path / name)
        wrong(tmp_path / name)
        assert compare(tmp_path / name, reference)[0].startswith(expected)
    content = json.loads(record.read_text())
    before = finished(tmp_path / "good")
    record.write_text(json.dumps({**content, "created": "2031-01-01T00:00:00+00:00"}))
    assert compare(tmp_path / "good", reference, before)[0].startswith(
        "doubled: 1 finished edits were made again"
    )
