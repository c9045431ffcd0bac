"""One writer a run's directory."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from piva_bench.errors import UserError
from piva_bench.runs.inside import Warn, ignore, make_way


def refuse_second_writer(root: Path) -> None:
    """Raises at once, before anything is loaded, if a run is writing to the directory.

    Raises:
        UserError: one is.
    """
    path = root / ".lock"
    if not path.is_file() or path.is_symlink():
        return
    lock = FileLock(path)
    try:
        take(lock, root)
    except OSError:  # no permission: opening the store says so
        return
    lock.release()


def take(lock: FileLock, root: Path, warn: Warn = ignore) -> None:
    """Takes the lock of a directory; a link in its place would have its target emptied."""
    path = make_way(root, ".lock", warn)
    if path.is_symlink():
        path.unlink()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"Another run is writing to {root}: wait for it or give --output-dir.") from None
