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
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from piva_bench.errors import DataError, UserError
from piva_bench.files import TEMPORARY_SUFFIX, png_bytes, write_atomic
from piva_bench.runs.record import Record, ScoreFile
from piva_bench.runs.views import decode_views, depth_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from piva_bench.scene.cameras import Cameras
    from piva_bench.scene.views import PosedViews

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Edit:
    """A finished edit on its way into the store.

    Attributes:
        record: with ``image_sha`` set by ``finished`` if there is a picture.
        png: the picture's file; None for a failed edit.
        trace: per step scalars by name.
        files: those of ``record.files``, by path below the output directory.
        scores: of the edit, where it has been scored already.
    """

    record: Record
    png: bytes | None = None
    trace: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    scores: ScoreFile | None = None

    def image(self) -> NDArray[np.uint8]:
        """The picture, uint8 [H, W, 3]; of a scene its first view, on white."""
        import numpy as np
        from PIL import Image

        assert self.png is not None, "a failed edit has no picture"
        with Image.open(io.BytesIO(self.png)) as image:
            if depth_path(self.record.key) not in self.record.files:
                return np.asarray(image.convert("RGB"))
            first = image.crop((0, 0, self.record.resolution, self.record.resolution))
            white = Image.new("RGBA", first.size, "white")
            return np.asarray(Image.alpha_composite(white, first).convert("RGB"))

    def views(self, cameras: Cameras) -> PosedViews:
        """The views of an edited scene, with depth, of the cameras they were taken by.

        Raises:
            DataError: it is of a picture, or the sheets do not hold views of these cameras.
        """
        name = depth_path(self.record.key)
        if name not in self.files or self.png is None:
            raise DataError(f"record {self.record.key} is of a picture: it has no views")
        return decode_views(self.png, self.files[name], cameras)


def encode_png(pixels: NDArray[np.uint8]) -> tuple[bytes, str]:
    """A picture [H, W, 3] as a PNG file, and the file's SHA-256."""
    from PIL import Image

    png = png_bytes(Image.fromarray(pixels))
    return png, sha256(png)


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class Store:
    """The results below one output directory.

    Args:
        root: the output directory; created when something is written.
        warn: told, in one line each, about files that are torn or do not belong here.
    """

    def __init__(self, root: Path, warn: Warn = lambda line: None) -> None:
        self.root, self._warn = root, warn
        self._lock = FileLock(root / ".lock")

    def __enter__(self) -> Store:
        """Takes the directory for writing: finishes a left-over journal, removes half-written files.

        Raises:
            UserError: the directory cannot be written to, or another run is writing to it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_atomic(self.root / ".writable", b"")
            (self.root / ".writable").unlink()
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"Another run is writing to {self.root}: wait for it or give --output-dir."
            ) from None
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
        for path in sorted((self.root / "records").glob("*")):
            if path.name.endswith(TEMPORARY_SUFFIX):
                continue
            try:
                record = Record.model_validate_json(path.read_bytes())
            except (ValidationError, OSError):
                self._warn(f"{path} is torn or no record: ignored")
                continue
            if path.stem != record.key or record.key != record.expected_key():
                self._warn(f"{path} does not hold what its name says: ignored")
                continue
            records[record.key] = record
        return records

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
        path = self._score_path(protocol, key)
        try:
            return ScoreFile.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError):
            self._warn(f"{path} is torn: it counts as missing, and `piva-bench score` makes it again")
            return None

    # Writing ----------------------------------------------------------------------------------------------

    def commit(self, edits: Iterable[Edit]) -> None:
        """Stores the edits of a batch, all or none; replaces edits of the same key and drops their scores.

        Raises:
            UserError: the disk is full or the like. What was stored before is untouched.
        """
        edits = list(edits)
        with self._storing():
            for edit in edits:
                for path in (self.root / "scores").glob(f"*/{edit.record.key}.json"):
                    path.unlink()
                if edit.png is not None:
                    write_atomic(self.image_path(edit.record.key), edit.png)
                for name, content in edit.files.items():
                    write_atomic(self.root / name, content)
                if edit.trace:
                    write_atomic(self.root / "traces" / f"{edit.record.key}.json", _trace_json(edit.trace))
            write_atomic(self._journal, _json([edit.record.model_dump() for edit in edits]))
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
            write_atomic(self._score_path(scores.protocol, key), _json(scores.model_dump()))

    def save_json(self, name: str, value: Any) -> None:
        """Stores a file beside the records, such as the manifest.

        Raises:
            UserError: the disk is full or the like.
        """
        with self._storing():
            write_atomic(self.root / name, _json(value))

    # Inside -----------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> Path:
        return self.root / "journal.json"

    def _read_png(self, record: Record) -> bytes:
        return _checked(self.image_path(record.key), record.image_sha)

    def _read_file(self, record: Record, name: str) -> bytes:
        return _checked(self.root / name, record.files[name])

    def _score_path(self, protocol: str, key: str) -> Path:
        return self.root / "scores" / protocol / f"{key}.json"

    def _write_records(self, records: Iterable[Record]) -> None:
        for record in records:
            write_atomic(self.root / "records" / f"{record.key}.json", _json(record.model_dump()))
        self._journal.unlink()

    def _recover(self) -> None:
        with self._storing():
            for path in self.root.rglob(f"*{TEMPORARY_SUFFIX}"):
                path.unlink()
            if self._journal.exists():
                # All pictures were in place before the journal was, so its records may be written.
                try:
                    records = [Record.model_validate(row) for row in json.loads(self._journal.read_bytes())]
                except ValueError:
                    self._warn(f"{self._journal} is torn: its batch will be computed again")
                    records = []
                self._write_records(records)

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


def _checked(path: Path, sha: str | None) -> bytes:
    """A file with the SHA-256 it was stored with; ``DataError`` otherwise."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    if sha256(data) != sha:
        raise DataError(f"{path} is torn or was changed")
    return data


def _trace_json(trace: dict[str, list[float]]) -> bytes:
    """Six digits are plenty for a plot; a diverged edit's values that are not finite become null."""
    rounded = {
        name: [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
        for name, values in trace.items()
    }
    return (json.dumps(rounded, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _json(value: Any) -> bytes:
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    # A path that is not text in this system's encoding holds halves of characters; JSON spells them out.
    return (text + "\n").encode(errors="backslashreplace")
