"""The soak of faults in its short form: each is injected, and nothing is lost, doubled or left untold."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert "old" not in text
    assert text.endswith("<!-- the end of the table -->\nafter\n")
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) >= 20
    assert all(set(counts) == {"1"} for _, *counts in rows)
