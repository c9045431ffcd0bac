"""Files that exist wholly or not at all, and what is written into them."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

TEMPORARY_SUFFIX = ".part"


def png_bytes(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


@contextmanager
def atomic_file(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write beside the target; it is then flushed to the disk and renamed over it. Creates the folder.

    Args:
        path: the target.
        sync: whether to wait for the disk; without, the target is whole after a crash of the program but perhaps not
            of the machine.

    Raises:
        OSError: disk full, no permission ...; the target is then what it was before, as it is if the block raises.
    """
    temporary = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    try:
        try:
            opened = temporary.open("xb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = temporary.open("xb")
        except FileExistsError:
            if temporary.is_dir() and not temporary.is_symlink():  # somebody's folder of that very name
                temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
            temporary.unlink(missing_ok=True)  # a link is not to be written through
            opened = temporary.open("xb")
        with opened as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes, sync: bool = True) -> None:
    """Writes a file through ``atomic_file``.

    Raises:
        OSError: see there.
    """
    with atomic_file(path, sync) as file:
        file.write(data)


def safe_join(base: Path, name: str) -> Path:
    """`base` / `name`, refusing a name that could leave `base` (absolute, a drive, "..") or is no path.

    Characters that cannot be printed (a line break, a NUL) are refused, too: messages show paths.

    Raises:
        ValueError: in a few words.
    """
    parts = PurePosixPath(name).parts
    odd = "\\" in name or ":" in name or not name.isprintable()
    if not parts or odd or name.startswith("/") or ".." in parts:
        raise ValueError("is not a plain relative path")
    return base.joinpath(*parts)
