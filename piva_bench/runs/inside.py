"""Files below a run's folder, which may come from a stranger: no link is followed, nothing leads outside.

Whatever lies where a file of ours belongs is made way for: a link is removed (not what it points to), a folder is
moved aside. Files of other people are left alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath

from piva_bench.files import write_atomic

Warn = Callable[[str], None]


def ignore(line: str) -> None:
    """Warns nobody."""


ASIDE = ".aside"
"""Suffix of what lay in the way."""
LARGEST = 1 << 31
"""Bytes of the largest file that is read."""


def read_inside(root: Path, name: str, largest: int = LARGEST) -> bytes:
    """A file below a folder.

    Args:
        root: the folder; may itself be reached through links.
        name: path below it, with slashes.
        largest: most bytes there may be.

    Raises:
        OSError: it is missing, no regular file, too large, or it or a folder on the way is a link.
    """
    # Plain strings: a report reads hundreds of thousands of files.
    path = os.fspath(root)
    *folders, last = _parts(name)
    for part in folders:
        path = f"{path}/{part}"
        if os.path.islink(path):  # noqa: PTH114 (see above)
            raise OSError(errno.ELOOP, f"{path} is a link, which is not followed")
    path = f"{path}/{last}"
    try:
        # A pipe would otherwise be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed") from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EISDIR, "it is no file")
        if found.st_size > largest:
            raise OSError(errno.EFBIG, f"it has {found.st_size} bytes")
        data = os.read(descriptor, found.st_size + 1)
        if len(data) == found.st_size:
            return data
        parts = [data]  # it is long, or grows
        while more := os.read(descriptor, 1 << 24):
            parts.append(more)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def folder_inside(root: Path, name: str) -> list[str]:
    """The names in a folder below ``root``, sorted; none where there is no such folder or a link leads to it.

    The empty name is the root itself.
    """
    path = root
    for part in _parts(name) if name else ():
        path = path / part
        if path.is_symlink():
            return []
    try:
        return sorted(entry.name for entry in os.scandir(path))
    except OSError:
        return []


def make_way(root: Path, name: str, warn: Warn = ignore) -> Path:
    """Makes the folders down to a file below ``root`` real ones, and its place free of a folder; the file's path.

    Raises:
        OSError: no permission, disk full ...
    """
    *folders, _ = _parts(name)
    place = os.fspath(root)
    for part in folders:
        place = f"{place}/{part}"
        mode = _mode(place)
        if stat.S_ISDIR(mode):
            continue
        path = Path(place)
        if stat.S_ISLNK(mode):
            warn(f"{path} is a link, which is not followed: a folder replaces it")
            path.unlink()
        elif mode:
            set_aside(path, warn)
        path.mkdir(parents=True, exist_ok=True)
    path = root / name
    if stat.S_ISDIR(_mode(path)):
        set_aside(path, warn)
    return path


def _mode(path: str | Path) -> int:
    """What lies there itself, not what it links to; 0 if nothing does."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def set_aside(path: Path, warn: Warn = ignore) -> None:
    """Moves what lies in the place of a file or folder of ours to a name beside it that is free."""
    number = 1
    while os.path.lexists(other := path.with_name(f"{path.name}{ASIDE}{number}")):
        number += 1
    path.rename(other)
    warn(f"{path} was in the way: it is {other.name} now")


def is_folder(path: Path) -> bool:
    """Whether a folder lies there, and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def remove_file(path: Path, warn: Warn = ignore) -> None:
    """Removes a file or link, if there is one; a folder in its place is moved aside."""
    if is_folder(path):
        set_aside(path, warn)
    else:
        path.unlink(missing_ok=True)


def write_own(path: Path, data: bytes) -> None:
    """Writes a file of ours in a folder of ours, wholly or not at all; a folder in its place is moved aside.

    Raises:
        OSError: see `write_atomic`.
    """
    if is_folder(path):
        set_aside(path)
    write_atomic(path, data)


@lru_cache(maxsize=1 << 10)
def _plain(folder: str) -> tuple[str, ...]:
    """The parts of a folder's path below a run."""
    return PurePosixPath(folder).parts


def _parts(name: str) -> tuple[str, ...]:
    folder, slash, last = name.rpartition("/")
    parts = (*_plain(folder), last) if slash and last not in ("", ".") else PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise OSError(errno.EINVAL, f"{name!r} is no path below a run")
    return parts
