"""The store: one record, one picture and one score file per edit, each whole or not there.

Layout below the output directory::

    records/<key>.json            the record; the edit exists exactly if this file does
    images/<key>.png              its picture; of a scene the sheet of its views, with alpha
    depth/<key>.png               a scene's depth in these views
    fields/<key>.safetensors      a scene's radiance field, where asked for
    traces/<key>.json             per step scalars, for convergence plots
    scores/<protocol>/<key>.json  its scores
    journal.json                  a batch being committed; gone a moment later
    manifest.json                 how the records came about

A batch is committed as one: all pictures are written, then the journal with all records, then the records,
then the journal is removed. Whoever opens the store next finishes a journal that was left behind. So after a
kill at any moment the edits still missing are whole batches, and computing them again gives the same numbers.

The directory may come from a stranger, and may be damaged in any way: no link in it is followed (see
`piva_bench.runs.inside`), names are checked before they become paths, and every file carries or has a hash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import TypeAdapter

from piva_bench.errors import DataError, UserError
from piva_bench.files import TEMPORARY_SUFFIX, write_atomic
from piva_bench.runs.edit import Edit, trace_json
from piva_bench.runs.inside import ASIDE, Warn, folder_inside, ignore, make_way, read_inside, remove_file
from piva_bench.runs.lock import take
from piva_bench.runs.record import KEY, Record, ScoreFile
from piva_bench.runs.record_files import checked, journalled, parse_record, parse_scores
from piva_bench.runs.sealed import sealed, unsealed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from piva_bench.scene.cameras import Cameras
    from piva_bench.scene.views import PosedViews

_FOLDERS = ("records", "images", "depth", "fields", "traces", "scores")
_LEFT_OVER = re.compile(
    rf"({KEY}\.(json|png|safetensors)|manifest\.json|journal\.json|\.writable)"
    rf"(\.[0-9a-f]{{8}})?{re.escape(TEMPORARY_SUFFIX)}"
)
"""Names of half-written files of the store's own; a folder may hold others that are somebody's."""
_PROTOCOL = re.compile(r"[A-Za-z0-9][\w.-]*")
_TRACE = TypeAdapter(dict[str, list[float | None]])


_JOURNAL = "journal.json"


class Store:
    """The results below one output directory.

    Args:
        root: the output directory; created when something is written.
        warn: told, in one line each, about files that are torn or do not belong here.
    """

    def __init__(self, root: Path, warn: Warn = ignore) -> None:
        self.root, self._warn = root, warn
        self._sync = True
        self._lock = FileLock(root / ".lock")

    def __enter__(self) -> Store:
        """Takes the directory for writing: finishes a left-over journal, removes half-written files.

        Raises:
            UserError: the directory cannot be written to, or another run is writing to it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_atomic(make_way(self.root, ".writable", self._warn), b"")
            (self.root / ".writable").unlink()
            take(self._lock, self.root, self._warn)
        except OSError as error:
            raise UserError(
                f"Cannot write to {self.root}: {error.strerror or error}. "
                "Give --output-dir a folder you can write to."
            ) from error
        try:
            self._recover()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    # Reading ----------------------------------------------------------------------------------------------

    def records(self) -> dict[str, Record]:
        """All whole records by key; torn and foreign files are warned of and left out."""
        records = {}
        for name in self._names("records"):
            try:
                record, own = parse_record(read_inside(self.root, f"records/{name}"))
            except OSError as error:
                self._warn(f"{self.root / 'records' / name}: {error.strerror or error}: ignored")
                continue
            except ValueError:
                self._warn(f"{self.root / 'records' / name} is torn or no record: ignored")
                continue
            if name != f"{record.key}.json" or not own:
                self._warn(f"{self.root / 'records' / name} does not hold what its name says: ignored")
                continue
            records[record.key] = record
        return records

    def record(self, key: str) -> Record | None:
        """The record of an edit; None if there is none, or none that can be read."""
        try:
            record, own = parse_record(read_inside(self.root, f"records/{key}.json"))
        except (OSError, ValueError):
            return None
        return record if record.key == key and own else None

    def is_whole(self, record: Record) -> bool:
        """Whether a record's picture is there as it was written; warns if not. True for failed edits."""
        if record.status == "failed":
            return True
        try:
            self._read_png(record)
            for name in record.files:
                self._read_file(record, name)
        except DataError as error:
            self._warn(f"{error}: it counts as missing, and `piva-bench run` makes it again")
            return False
        return True

    def image_path(self, key: str) -> Path:
        """Where the picture of an edit lies."""
        return self.root / "images" / f"{key}.png"

    def score_name(self, protocol: str, key: str) -> str:
        """Where the scores of an edit lie, below the store."""
        folder = protocol
        if protocol.rpartition(":")[0].endswith(".py"):
            folder = "file-" + re.sub(r"[^\w.-]+", "_", protocol)
        if not _PROTOCOL.fullmatch(folder):
            raise DataError(f"'{protocol}' is no name of a protocol: give one with --protocol")
        return f"scores/{folder}/{key}.json"

    def load(self, record: Record) -> Edit:
        """An edit as it was stored, without its trace.

        Raises:
            DataError: a file is missing, torn or not the one that was stored.
        """
        files = {name: self._read_file(record, name) for name in record.files}
        return Edit(record, self._read_png(record) if record.status == "ok" else None, files=files)

    def load_image(self, record: Record) -> NDArray[np.uint8]:
        """The picture of an edit, uint8 [H, W, 3]; of a scene its first view, on white.

        Raises:
            DataError: it is missing, torn or not the one that was stored.
        """
        return Edit(record, self._read_png(record)).image()

    def load_views(self, record: Record, cameras: Cameras) -> PosedViews:
        """The views of an edited scene, with depth.

        Args:
            record: of the edit.
            cameras: those of the sample's turntable.

        Raises:
            DataError: a file is missing, torn or not the one that was stored.
        """
        return self.load(record).views(cameras)

    def load_scores(self, protocol: str, key: str) -> ScoreFile | None:
        """The stored scores of an edit; None if there are none, or none that can be read."""
        found = self.read_scores(protocol, key)
        return found[1] if found else None

    def read_scores(self, protocol: str, key: str) -> tuple[bytes, ScoreFile] | None:
        """The file of an edit's scores and what it holds; None if there is none, or none that can be read."""
        name = self.score_name(protocol, key)
        try:
            data = read_inside(self.root, name)
            scores = parse_scores(data)
            if scores.protocol != protocol:
                raise ValueError("of another protocol")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(
                f"{self.root / name}: {error.strerror or error}: left out, `piva-bench score` makes it again"
            )
            return None
        except ValueError:
            self._warn(f"{self.root / name} is torn: left out, `piva-bench score` makes it again")
            return None
        return data, scores

    def protocols(self) -> list[str]:
        """Names of the protocols that something is scored with."""
        names = folder_inside(self.root, "scores")
        return [
            name for name in names if _PROTOCOL.fullmatch(name) and (self.root / "scores" / name).is_dir()
        ]

    def load_trace(self, key: str) -> dict[str, list[float | None]]:
        """The trace of an edit; empty if there is none, or none that can be read, which is warned of."""
        return self.read_trace(key)[1]

    def read_trace(self, key: str) -> tuple[bytes, dict[str, list[float | None]]]:
        """The trace's file and what it holds; both empty if there is none, or none that can be read."""
        name = f"traces/{key}.json"
        try:
            data = read_inside(self.root, name)
            return data, _TRACE.validate_python(unsealed(data))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._warn(f"{self.root / name}: {error.strerror or error}: left out")
        except ValueError:
            self._warn(f"{self.root / name} is torn: left out")
        return b"", {}

    def read_picture(self, record_key: str, image_sha: str | None) -> bytes:
        """The stored picture's file.

        Raises:
            DataError: it is missing, torn or not the one that was stored.
        """
        return checked(self.root, f"images/{record_key}.png", image_sha)

    # Writing ----------------------------------------------------------------------------------------------

    @contextmanager
    def many(self) -> Iterator[None]:
        """Within the block a commit waits for the disk a few times, not once for each file: for hundreds of edits."""
        self._sync = False
        try:
            yield
        finally:
            self._sync = True
            os.sync()

    def commit(self, edits: Iterable[Edit]) -> None:
        """Stores the edits of a batch, all or none; replaces edits of the same key and drops their scores.

        Raises:
            UserError: the disk is full or the like. What was stored before is untouched.
        """
        edits = list(edits)
        with self._storing():
            protocols = self.protocols() if edits else []
            for edit in edits:
                key = edit.record.key
                for protocol in protocols:
                    remove_file(make_way(self.root, self.score_name(protocol, key), self._warn), self._warn)
                if edit.png is not None:
                    self._write(f"images/{key}.png", edit.png)
                for name, content in edit.files.items():
                    self._write(name, content)
                if edit.trace:
                    self._write(f"traces/{key}.json", trace_json(edit.trace))
            self._settle()
            self._write(
                _JOURNAL, sealed({"records": [edit.record.model_dump() for edit in edits]}, lines=False)
            )
            self._settle()
            self._write_records(edit.record for edit in edits)
            for edit in edits:
                if edit.scores is not None:
                    self.save_scores(edit.record.key, edit.scores)

    def save_scores(self, key: str, scores: ScoreFile) -> None:
        """Stores the scores of an edit.

        Raises:
            UserError: the disk is full or the like.
        """
        with self._storing():
            self._write(self.score_name(scores.protocol, key), sealed(scores.model_dump()))

    def save_json(self, name: str, value: dict[str, Any]) -> None:
        """Stores a file beside the records, such as the manifest.

        Raises:
            UserError: the disk is full or the like.
        """
        with self._storing():
            self._write(name, sealed(value))

    def check_still_there(self, records: Iterable[Record]) -> None:
        """Raises if somebody has removed records that were stored a while ago.

        Raises:
            UserError: how many are gone.
        """
        names = set(self._names("records"))
        gone = sum(f"{record.key}.json" not in names for record in records)
        if gone:
            raise UserError(
                f"{gone} edits that this run stored in {self.root} are gone: something removes files there. Mend that "
                "and run the same command again."
            )

    # Inside -----------------------------------------------------------------------------------------------

    def _names(self, folder: str) -> list[str]:
        """Names in a folder of the store; half-written files and what was moved aside left out."""
        if (self.root / folder).is_symlink():
            self._warn(f"{self.root / folder} is a link, which is not followed: ignored")
        names = folder_inside(self.root, folder)
        return [name for name in names if not name.endswith(TEMPORARY_SUFFIX) and ASIDE not in name]

    def _write(self, name: str, data: bytes) -> None:
        path = make_way(self.root, name, self._warn)
        if self._sync:
            write_atomic(path, data)
        else:
            write_atomic(path, data, sync=False)

    def _settle(self) -> None:
        """What comes next may rely on what was written so far, after a power failure, too."""
        if not self._sync:
            os.sync()

    def _read_png(self, record: Record) -> bytes:
        return self.read_picture(record.key, record.image_sha)

    def _read_file(self, record: Record, name: str) -> bytes:
        return checked(self.root, name, record.files[name])

    def _write_records(self, records: Iterable[Record]) -> None:
        for record in records:
            self._write(f"records/{record.key}.json", sealed(record.model_dump()))
        self._settle()
        remove_file(self.root / _JOURNAL, self._warn)

    def _recover(self) -> None:
        with self._storing():
            scores = [f"scores/{name}" for name in self.protocols()]
            for folder in ("", *_FOLDERS, *scores):
                for name in folder_inside(self.root, folder):
                    if _LEFT_OVER.fullmatch(name):
                        remove_file(self.root / folder / name, self._warn)
            try:
                # All pictures were in place before the journal was, so its records may be written.
                self._write_records(journalled(read_inside(self.root, _JOURNAL)))
            except FileNotFoundError:
                pass
            except (ValueError, OSError):
                self._warn(f"{self.root / _JOURNAL} is torn: its batch will be computed again")
                remove_file(self.root / _JOURNAL, self._warn)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Turns an OSError inside into one line that says what to do."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"Cannot store results in {self.root}: {error.strerror or error}. "
                "What was stored before is safe: mend this and run the same command again."
            ) from error
