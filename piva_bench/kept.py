"""What takes long to make and is kept on disk: made once, under a lock, there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from filelock import FileLock

from piva_bench.address import Address, is_address
from piva_bench.errors import DataError, UserError
from piva_bench.files import atomic_file, write_atomic

T = TypeVar("T")
Write = Callable[[BinaryIO], object]


def kept_root(name: str) -> Path:
    """Where things of one kind lie: the folder ``PIVA_BENCH_<NAME>``, else ``~/.cache/piva-bench/<name>``.

    Where the variable is an object store's address, the latter; what is not there yet is fetched from the store, and
    what is made is put there.
    """
    chosen = os.environ.get(_variable(name))
    if chosen and not is_address(chosen):
        return Path(chosen).expanduser()
    return Path.home() / ".cache" / "piva-bench" / name


def kept(name: str, file_name: str, read: Callable[[Path], T], write: Write) -> T:
    """What a file holds. It is written first if it is not there or torn, and read back then.

    Args:
        name: of the kind of things; see ``kept_root``.
        file_name: holds a key of everything that decides the content.
        read: gives what it holds; raises DataError where it is missing or torn.
        write: writes it. Another process that wants the same waits meanwhile.

    Raises:
        UserError: it cannot be stored (disk full, no permission ...).
    """
    return kept_together(name, [file_name], read, lambda missing: [write])[0]


def kept_together(
    name: str,
    file_names: Sequence[str],
    read: Callable[[Path], T],
    make: Callable[[list[int]], Sequence[Write]],
) -> list[T]:
    """What several files hold; those that are not there or torn are made together. See ``kept``.

    Args:
        name: of the kind of things.
        file_names: all different.
        read: gives what a file holds.
        make: gives what writes the files of these numbers. Not called if there are none.
    """
    paths = [kept_root(name) / file_name for file_name in file_names]
    path, chosen = kept_root(name), os.environ.get(_variable(name), "")
    shared = Address(chosen) if is_address(chosen) else None
    try:
        with ExitStack() as locks:
            # In one order for everybody, so that nobody waits in a circle.
            for path in sorted(paths):
                path.parent.mkdir(parents=True, exist_ok=True)
                locks.enter_context(FileLock(path.with_suffix(".lock")))
            found: dict[int, T] = {}
            for number, path in enumerate(paths):
                if shared is not None and not path.exists():
                    with suppress(FileNotFoundError):
                        write_atomic(path, shared.get(file_names[number]))
                try:
                    found[number] = read(path)
                except DataError:
                    continue
            if missing := [number for number in range(len(paths)) if number not in found]:
                for number, write in zip(missing, make(missing), strict=True):
                    path = paths[number]
                    with atomic_file(path) as file:
                        write(file)
                    found[number] = read(path)
                    if shared is not None:
                        shared.put(file_names[number], path.read_bytes())
    except OSError as error:
        raise UserError(
            f"Cannot keep {path}: {error.strerror or error}. Name a folder that can be written to with "
            f"{_variable(name)}."
        ) from error
    return [found[number] for number in range(len(paths))]


def _variable(name: str) -> str:
    return f"PIVA_BENCH_{name.upper()}"
