"""Reading a dataset's files from a folder or straight out of a zip archive.

Both look the same to the loaders: a path below the dataset's location. Inside an archive that path is
``archive.zip/member``, which no file system opens but every message can show.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from piva_bench.errors import DataError

# No picture or mapping file of a benchmark is near this size; an archive member that claims more is a bomb.
_LARGEST_MEMBER = 256 * 2**20
_MOST_MEMBERS = 1_000_000


@dataclass(frozen=True)
class FolderFiles:
    """Files of a folder on disk."""

    location: Path

    def find(self, filename: str) -> list[Path]:
        """Paths of the files of that name down to two folders deep, the least deeply nested first."""
        patterns = (filename, f"*/{filename}", f"*/*/{filename}")
        found = [path for pattern in patterns for path in sorted(self.location.glob(pattern))]
        return [path for path in found if path.is_file()]

    @contextmanager
    def reader(self) -> Iterator[Callable[[Path], bytes]]:
        """A context in which many files are read by path; each read raises FileNotFoundError or DataError."""
        yield _read_file


def _read_file(path: Path) -> bytes:
    path = existing(path)
    refuse_pipes(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def refuse_pipes(path: Path) -> None:
    """Refuses what somebody would have to write into while it is read: reading it would wait, perhaps for ever.

    Raises:
        DataError: it is a named pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever opens it is told
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path} is no plain file but a pipe or device: save what comes out of it to a file")


def existing(path: Path) -> Path:
    """The path, or the one there is whose name people read as the same (see `composed`)."""
    if str(path).isascii() or os.path.lexists(path):
        return path
    folder = existing(path.parent)
    same = composed(path.name)
    try:
        return next((other for other in folder.iterdir() if composed(other.name) == same), path)
    except OSError:
        return path


@dataclass(frozen=True)
class ZipFiles:
    """Members of a zip archive; the archive is opened anew for each reader, so the object can be shared."""

    location: Path

    def find(self, filename: str) -> list[Path]:
        """Paths of the members of that name, the least deeply nested first."""
        with self._open() as archive:
            # macOS adds a shadow tree of resource forks to the archives it makes.
            names = [
                PurePosixPath(name.replace("\\", "/"))
                for name in archive.namelist()
                if not name.startswith("__MACOSX/")
            ]
        found = [name for name in names if name.name == filename]
        return [self.location / name for name in sorted(found, key=lambda name: (len(name.parts), name))]

    @contextmanager
    def reader(self) -> Iterator[Callable[[Path], bytes]]:
        """A context in which members are read by path; each read raises FileNotFoundError or DataError."""
        with self._open() as archive:
            yield lambda path: self._read_member(archive, path)

    def _read_member(self, archive: zipfile.ZipFile, path: Path) -> bytes:
        name = path.relative_to(self.location).as_posix()
        try:
            info = archive.getinfo(name)
        except KeyError as error:
            # Some systems write backslashes, or accents as characters of their own.
            same = composed(name)
            others = (i for i in archive.infolist() if composed(i.filename.replace("\\", "/")) == same)
            if (other := next(others, None)) is None:
                raise FileNotFoundError(name) from error
            info = other
        if info.file_size > _LARGEST_MEMBER:
            raise DataError(f"{path} claims {info.file_size} bytes, more than any file of a dataset has")
        try:
            return archive.read(info)
        # RuntimeError: encrypted; NotImplementedError: packed in a way this Python has no code for.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise DataError(f"{path} cannot be unpacked ({error}): get the archive again") from error

    def _open(self) -> zipfile.ZipFile:
        try:
            archive = zipfile.ZipFile(self.location)
        except (zipfile.BadZipFile, OSError) as error:
            if isinstance(error, zipfile.BadZipFile) and tarfile.is_tarfile(self.location):
                raise DataError(
                    f"{self.location} is a tar archive: unpack it and name the folder, or make it a zip"
                ) from error
            raise DataError(f"{self.location} is no readable zip archive ({error}): get it again") from error
        if len(archive.infolist()) > _MOST_MEMBERS:
            archive.close()
            raise DataError(f"{self.location} has more than {_MOST_MEMBERS} members, which no dataset needs")
        return archive


class Files(Protocol):
    """Where a dataset's bytes come from."""

    @property
    def location(self) -> Path:
        """The folder, archive or table."""

    def reader(self) -> AbstractContextManager[Callable[[Path], bytes]]:
        """A context in which many files are read by path; each read raises FileNotFoundError or DataError."""


def open_files(location: Path) -> FolderFiles | ZipFiles:
    """The files of a folder or a zip archive.

    Raises:
        DataError: nothing is there, or it is neither.
    """
    if location.is_dir():
        return FolderFiles(location)
    if location.is_file():
        files = ZipFiles(location)
        with files.reader():
            return files
    raise DataError(f"{location} does not exist: give the dataset's folder or .zip with --data-root")


def fingerprint(
    files: Files,
    paths: Iterable[Path],
    base: Path,
    texts: Iterable[str] = (),
    mark: Callable[[bytes], str] = lambda content: "",
) -> str:
    """16 hexadecimal digits (BLAKE2b) over texts, names below ``base`` and contents; a missing file counts as such.

    The same for a folder and its archive. ``mark`` says what else, beside its content, decides what a file shows.
    """
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        digest.update(f"{text}\0".encode())
    with files.reader() as read:
        for path in paths:
            try:
                data = read(path)
                content = hashlib.blake2b(data, digest_size=32).hexdigest() + mark(data)
            except (FileNotFoundError, DataError):
                content = "missing"  # whoever loads it is told
            digest.update(f"{path.relative_to(base).as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def composed(name: str) -> str:
    """The name as people read it: accents that some systems write as characters of their own are joined to letters."""
    return unicodedata.normalize("NFC", name)
