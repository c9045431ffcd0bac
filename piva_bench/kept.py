"""What takes long to make and is kept on disk: made once, under a lock, there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from filelock import FileLock

from piva_bench.errors import DataError, UserError
from piva_bench.files import atomic_file

T = TypeVar("T")


def kept_root(name: str) -> Path:
    """Where things of one kind are kept: the variable ``PIVA_BENCH_<NAME>``, else ``~/.cache/piva-bench/<name>``."""
    chosen = os.environ.get(_variable(name))
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "piva-bench" / name


def kept(name: str, file_name: str, read: Callable[[Path], T], write: Callable[[BinaryIO], object]) -> T:
    """What a file holds. It is written first if it is not there or torn, and read back then.

    Args:
        name: of the kind of things; see ``kept_root``.
        file_name: holds a key of everything that decides the content.
        read: gives what it holds; raises DataError where it is missing or torn.
        write: writes it. Another process that wants the same waits meanwhile.

    Raises:
        UserError: it cannot be stored (disk full, no permission ...).
    """
    path = kept_root(name) / file_name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            try:
                return read(path)
            except DataError:
                with atomic_file(path) as file:
                    write(file)
    except OSError as error:
        raise UserError(
            f"Cannot keep {path}: {error.strerror or error}. Name a folder that can be written to with "
            f"{_variable(name)}."
        ) from error
    return read(path)


def _variable(name: str) -> str:
    return f"PIVA_BENCH_{name.upper()}"
