"""Object stores (``s3://``, ``gs://``, ``hf://``, what else fsspec knows): objects are there whole, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from piva_bench.errors import UserError
from piva_bench.files import TEMPORARY_SUFFIX

_OPTIONS = {"s3": {"config_kwargs": {"connect_timeout": 10, "retries": {"max_attempts": 2}}}}
"""Without a network a command says so within a minute, not after ten."""
_PUTS_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "az", "hf", "memory"}
"""Protocols whose objects appear when they are whole; elsewhere a file is renamed into its place."""


def is_address(text: str) -> bool:
    """Whether a text names an object store, not a folder."""
    return re.match(r"[a-z][a-z0-9+]*://", text) is not None


class Address:
    """A place in an object store.

    Args:
        url: with its protocol.

    Raises:
        UserError: fsspec does not know the protocol, or what it needs is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            fs, base = fsspec.url_to_fs(url, **_OPTIONS.get(url.partition(":")[0], {}))
        except (ImportError, ValueError) as error:
            raise UserError(f"{url}: {' '.join(str(error).split())}; s3 is in piva-bench[s3].") from error
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        self.url = url
        self._fs: Any = fs
        self._base, self._puts_whole = base.rstrip("/"), protocol in _PUTS_WHOLE

    def names(self) -> set[str]:
        """Names of the objects below it."""
        found: list[str] = []
        with self._speaking(), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            found = self._fs.find(self._base)
        return {path.removeprefix(f"{self._base}/") for path in found}

    def get(self, name: str) -> bytes:
        """An object; ``FileNotFoundError`` if there is none."""
        with self._speaking():
            return bytes(self._fs.cat_file(f"{self._base}/{name}"))

    def put(self, name: str, data: bytes) -> None:
        """Puts an object, whole or not at all."""
        path = f"{self._base}/{name}"
        with self._speaking():
            if self._puts_whole:
                self._fs.pipe_file(path, data)
                return
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path + TEMPORARY_SUFFIX, data)
            self._fs.mv(path + TEMPORARY_SUFFIX, path)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """What goes wrong on the way, in one line."""
        try:
            yield
        except FileNotFoundError:  # an address where nothing has been put yet
            raise
        except Exception as error:  # each protocol's library raises its own
            line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(
                f"{self.url} cannot be read or written: {line}. Mend this and run it again."
            ) from error
