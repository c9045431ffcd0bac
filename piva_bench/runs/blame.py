"""Whose line broke: an error as one line that names the method's own file."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import piva_bench

TRACEBACK = "PIVA_BENCH_TRACEBACK"
"""Set (by ``--traceback``) where whole tracebacks are wanted on standard error."""
_HOUSE = str(Path(piva_bench.__file__).parent)


def describe(error: BaseException) -> str:
    """Type and message of an error in one line, with the last place in a method's file where there is one."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error, file=sys.stderr)
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        inside = frame.filename.startswith(_HOUSE) or "site-packages" in frame.filename
        if not inside and not frame.filename.startswith("<") and Path(frame.filename).suffix == ".py":
            return f"{text} ({Path(frame.filename).name}, line {frame.lineno})"
    return text
