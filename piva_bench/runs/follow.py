"""Runs in an object store, made and read in a folder of this machine that follows it.

What is there is fetched before a run begins; every batch is put there as soon as it is stored in the folder. An
object's name holds a hash of its content (see `piva_bench.runs.remote`), so many may write to one address, and a
machine that takes over from another one makes only what is missing. What cannot be put is kept in the folder and
tried again.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from piva_bench.address import Address
from piva_bench.errors import UserError
from piva_bench.kept import kept_root
from piva_bench.runs.inside import Warn
from piva_bench.runs.merge import merge
from piva_bench.runs.record import Record, Setup
from piva_bench.runs.remote import bundle, key_of, pull, push, put_edits, refuse_another_setup, run_names
from piva_bench.runs.store import Store

WAITS = (1.0, 4.0)
"""Seconds between attempts to put something."""


def following_folder(url: str) -> Path:
    """The folder of this machine that follows an address: below ``PIVA_BENCH_REMOTE``, else ``~/.cache/piva-bench``."""
    name = re.sub(r"[^\w.-]+", "-", url.rstrip("/").rpartition("/")[2]).strip("-.") or "run"
    return kept_root("remote") / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


class Follower:
    """A folder that follows an address.

    Args:
        url: the address.
        folder: the folder; a share of a run has one of its own.
        warn: told of what is damaged, and that the address cannot be reached.

    Raises:
        UserError: see `Address`.
    """

    def __init__(self, url: str, folder: Path, warn: Warn) -> None:
        self._address, self._folder, self.warn = Address(url), folder, warn
        self._late = False

    def fetch(self, keys: Container[str] | None = None, setup: Setup | None = None) -> int:
        """Fetches edits that the folder has not; how many.

        Args:
            keys: of the edits that are wanted; by default all.
            setup: of the run that is about to be made.

        Raises:
            UserError: the address cannot be read, or holds another set-up.
        """
        names = run_names(self._address)
        refuse_another_setup(setup, self._address, names, self.warn)
        store = Store(self._folder)
        there = {key for name in names if (key := key_of(name))}
        protocols = store.protocols()
        here = {
            bundle(self._folder, record, protocols)[0]
            for key, record in store.records().items()
            if key in there and store.is_whole(record)
        }
        missing = {name for name in names - here if (key := key_of(name)) and (keys is None or key in keys)}
        if not missing:
            return 0
        manifests = {name for name in names if key_of(name) is None}
        with tempfile.TemporaryDirectory(prefix="piva-bench-") as temporary:
            pulled = pull(self._address, Path(temporary), self.warn, missing | manifests)
            folders = [folder for folder in pulled[0] if Store(folder).records()]
            if not folders:
                return 0
            return merge(folders, self._folder, ["fetched", self._address.url], self.warn, pulled[1]).taken

    def put(self, records: Sequence[Record]) -> None:
        """Puts edits of the folder to the address; if that fails, says so once and leaves it to `finish`."""
        try:
            self._patiently(lambda: put_edits(Store(self._folder), records, self._address))
        except UserError as error:
            if not self._late:
                self.warn(f"{error} Until then edits are kept in {self._folder}.")
            self._late = True

    def finish(self, patient: bool = True) -> None:
        """Puts what is not there yet, and the manifest.

        Raises:
            UserError: it cannot be put; names the folder that has it, and how to go on.
        """
        self._late = not patient
        try:
            self._patiently(lambda: push(self._folder, self._address, self.warn))
        except UserError as error:
            raise UserError(
                f"{error} Nothing is lost: all edits are in {self._folder}; the same command puts them there, or "
                f"`piva-bench merge {self._folder} -o {self._address.url}`."
            ) from error

    def _patiently(self, action: Callable[[], object]) -> None:
        for wait in () if self._late else WAITS:
            try:
                action()
            except UserError:
                time.sleep(wait)
            else:
                return
        action()


@contextmanager
def following(follower: Follower | None) -> Iterator[Follower | None]:
    """Within the block edits are made in a folder that may follow an address; after it they are there."""
    try:
        yield follower
    except KeyboardInterrupt:
        if follower is not None:
            try:
                follower.finish(patient=False)
            except UserError as error:
                follower.warn(str(error))
        raise
    if follower is not None:
        follower.finish()
