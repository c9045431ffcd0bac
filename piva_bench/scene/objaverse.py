"""Objaverse objects: subsets as YAML files, fetched by the `objaverse` package, filtered by licence, checked.

The cache is the package's own (``~/.objaverse/hf-objaverse-v1``: ``object-paths.json.gz``, ``metadata/*.json.gz``,
``glbs/*/UID.glb``) or one of the same layout below ``PIVA_BENCH_OBJAVERSE``; a cache that has everything needs no
network.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from piva_bench.errors import DataError, UnknownName, UserError
from piva_bench.paths import data_root

CACHE = "hf-objaverse-v1"
NOTES = "piva-bench-objects.json"
"""Licence, and SHA-256 when it was first fetched, of every object asked for; beside the cache's own folder."""
CACHE_VARIABLE = "PIVA_BENCH_OBJAVERSE"
DEFAULT_SUBSET = "first-author"
OTHERWISE = "A .yaml file also serves, and so does the folder or .zip of views that are rendered already."

LICENCES = {
    "by": "CC-BY-4.0",
    "by-sa": "CC-BY-SA-4.0",
    "by-nd": "CC-BY-ND-4.0",
    "by-nc": "CC-BY-NC-4.0",
    "by-nc-sa": "CC-BY-NC-SA-4.0",
    "by-nc-nd": "CC-BY-NC-ND-4.0",
    "cc0": "CC0-1.0",
}
"""Objaverse's own names of licences, in SPDX's."""


def cache_directory() -> Path:
    """What holds the cache's folder: ``PIVA_BENCH_OBJAVERSE``, else the package's own ``~/.objaverse``."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".objaverse"


class ObjectCard(BaseModel):
    """One object of a subset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uid: str = Field(pattern=r"^[0-9a-f]{32}$")
    name: str | None = None
    creator: str | None = None
    licence: str | None = Field(None, description="SPDX; None where only Objaverse's annotations know it")
    source_prompt: str | None = None
    target_prompts: tuple[str, ...] = ()
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of the GLB, where it is pinned")


class Subset(BaseModel):
    """A list of Objaverse objects with the edits to make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str
    objects: tuple[ObjectCard, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Subset:
        uids = [card.uid for card in self.objects]
        twice = sorted({uid for uid in uids if uids.count(uid) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is listed twice")
        return self

    def promptable(self) -> list[ObjectCard]:
        """The objects that have a source prompt and at least one target prompt."""
        return [card for card in self.objects if card.source_prompt and card.target_prompts]


def subset_names() -> list[str]:
    """The subsets that ship with the program."""
    return sorted(path.stem for path in (data_root() / "objaverse").glob("*.yaml"))


def read_subset(name: str | Path) -> Subset:
    """A subset by name, or from a YAML file.

    Raises:
        UnknownName: no subset of this name.
        DataError: the file is missing or not a subset; in one line.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in subset_names():
            raise UnknownName("Objaverse subset", str(name), subset_names(), hint=OTHERWISE)
        path = data_root() / "objaverse" / f"{name}.yaml"
    try:
        return Subset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


@dataclass(frozen=True)
class FetchedObject:
    """An object that lies in the cache, checked."""

    card: ObjectCard
    path: Path
    licence: str
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """What a fetch gave, or what the cache holds.

    Attributes:
        objects: that can be used.
        left_out: why each other one was left out, by uid, in one line.
        faults: of files in the cache that are torn or not those of their first fetch, by uid, in one line.
    """

    objects: tuple[FetchedObject, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


NOT_CACHED = "it is not in the cache"
Watch = Callable[[ObjectCard, str | None], None]
"""Told of each object when it is there, or why it is left out."""


class ObjaverseFetcher:
    """Fetches objects into a cache.

    Args:
        directory: holds the cache's folder; by default `cache_directory`.
        noncommercial: whether objects whose licence forbids commercial use are wanted.
        attempts: how often a download is tried.
        wait: seconds before the second attempt, doubled for each further one.
        sleep: waits; tests replace it.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        noncommercial: bool = False,
        attempts: int = 3,
        wait: float = 2.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.directory = (directory or cache_directory()).expanduser()
        self.noncommercial, self.attempts, self.wait, self._sleep = noncommercial, attempts, wait, sleep

    def fetch(self, cards: Sequence[ObjectCard], watch: Watch | None = None) -> Fetched:
        """Objects in the cache, downloaded where they are not there yet.

        Args:
            cards: of the objects.
            watch: told of each one when it is done; standard output goes nowhere meanwhile.

        Raises:
            UserError: Objaverse's index cannot be had (no network and no cache).
        """
        found: list[FetchedObject] = []
        left_out: dict[str, str] = {}
        with self._package() as objaverse:
            paths = self._retry("Objaverse's list of objects", objaverse._load_object_paths)
            for card in cards:
                got = self._fetch(objaverse, card, paths)
                if isinstance(got, str):
                    left_out[card.uid] = got
                else:
                    found.append(got)
                if watch is not None:
                    watch(card, got if isinstance(got, str) else None)
        return Fetched(tuple(found), left_out)

    def cached(self, cards: Sequence[ObjectCard]) -> Fetched:
        """Objects that lie in the cache, without any network.

        What was put there by other means than `fetch` is used if its licence, as the cache's annotations or the
        card state it, allows commercial use: nobody has been asked about it.
        """
        found: list[FetchedObject] = []
        left_out: dict[str, str] = {}
        faults: dict[str, str] = {}
        for card in cards:
            try:
                got = self._look_up(card)
            except DataError as error:
                faults[card.uid] = str(error)
                continue
            if isinstance(got, str):
                left_out[card.uid] = got
            else:
                found.append(got)
        return Fetched(tuple(found), left_out, faults)

    def _fetch(self, objaverse: Any, card: ObjectCard, paths: Any) -> FetchedObject | str:
        """The object, or why it is left out."""
        if card.uid not in paths:
            return "Objaverse has no such object (any more)"
        try:
            licence = self._licence(objaverse, card)
            if reason := self._refuse(licence):
                self._note(card, {"licence": licence or ""})
                return reason
            path = self._retry(card.uid, partial(self._download, objaverse, card.uid))
            digest = self._check(card, path)
            self._note(card, {"licence": licence or "", "sha256": digest})
            return FetchedObject(card, path, licence or "", digest)
        except UserError as error:
            return str(error)

    def _look_up(self, card: ObjectCard) -> FetchedObject | str:
        noted = self._notes().get(card.uid, {})
        path = next(iter((self.directory / CACHE / "glbs").glob(f"*/{card.uid}.glb")), None)
        if path is None:
            stated = noted.get("licence", card.licence)
            return NOT_CACHED if stated is None else self._refuse(stated or None) or NOT_CACHED
        licence = noted.get("licence") or self._annotated(path) or card.licence
        if "sha256" not in noted and (reason := self._refuse(licence)):
            return reason
        if fault := glb_fault(path):
            raise DataError(f"{path} {fault}: delete it and fetch it again")
        return FetchedObject(card, path, licence or "", self._check(card, path))

    def _annotated(self, path: Path) -> str | None:
        """The licence that the cache's copy of the annotations states, if it holds them."""
        try:
            with gzip.open(self.directory / CACHE / "metadata" / f"{path.parent.name}.json.gz") as file:
                stated = json.load(file).get(path.stem, {}).get("license")
        except (OSError, EOFError, ValueError, AttributeError):
            return None
        return LICENCES.get(str(stated).lower(), str(stated)) if stated else None

    @contextlib.contextmanager
    def _package(self) -> Iterator[Any]:
        """The `objaverse` package, working in our directory and silent."""
        import objaverse

        before = objaverse.BASE_PATH, objaverse._VERSIONED_PATH
        objaverse.BASE_PATH = str(self.directory)
        objaverse._VERSIONED_PATH = str(self.directory / CACHE)
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield objaverse
        finally:
            objaverse.BASE_PATH, objaverse._VERSIONED_PATH = before

    def _retry(self, what: str, action: Callable[[], Any]) -> Any:
        for attempt in range(self.attempts):
            try:
                return action()
            except Exception as error:  # urllib's, socket's, gzip's, json's, and our own for a torn file
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                if attempt + 1 == self.attempts:
                    raise UserError(
                        f"cannot fetch {what} after {self.attempts} attempts: {reason} (cache: {self.directory})"
                    ) from error
                self._sleep(self.wait * 2**attempt)
        raise AssertionError("at least one attempt is made")

    def _licence(self, objaverse: Any, card: ObjectCard) -> str | None:
        """What Objaverse's annotations say; the card's word where they say nothing."""
        notes = self._retry(f"the annotations of {card.uid}", lambda: objaverse.load_annotations([card.uid]))
        stated = notes.get(card.uid, {}).get("license") if isinstance(notes, dict) else None
        return LICENCES.get(str(stated).lower(), str(stated)) if stated else card.licence

    def _refuse(self, licence: str | None) -> str | None:
        if licence is None:
            return "its licence is not stated"
        if "nc" in licence.lower().split("-") and not self.noncommercial:
            return f"its licence {licence} forbids commercial use (--include-nc fetches it)"
        return None

    def _download(self, objaverse: Any, uid: str) -> Path:
        found = objaverse.load_objects([uid])
        path = Path(found[uid])
        if fault := glb_fault(path):
            # A cache can be filled again; a torn file in it would be taken for whole for ever.
            path.unlink(missing_ok=True)
            raise DataError(f"{path} {fault}")
        return path

    def _check(self, card: ObjectCard, path: Path) -> str:
        """The file's checksum, equal to the pinned one and to that of its first fetch."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        noted = self._notes().get(card.uid, {}).get("sha256")
        for expected, what in ((card.sha256, "pinned in the subset"), (noted, "of its first fetch")):
            if expected and expected != digest:
                raise DataError(f"{path} has not the checksum {what}; delete the file to fetch it again")
        return digest

    def _notes(self) -> dict[str, dict[str, str]]:
        file = self.directory / NOTES
        try:
            return json.loads(file.read_text()) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise DataError(f"{file} is torn: delete it to take the cache as it is") from error

    def _note(self, card: ObjectCard, note: dict[str, str]) -> None:
        known = self._notes()
        if "sha256" in known.get(card.uid, {}):
            return
        known[card.uid] = note
        file = self.directory / NOTES
        torn = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        try:
            torn.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
            torn.replace(file)
        except OSError as error:
            raise DataError(f"cannot write {file}: {error.strerror or error}") from error


def glb_fault(path: Path) -> str | None:
    """What is wrong with a file that should be a whole GLB (glTF 2.0, section 4.4.2), or None."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if len(head) < 12 or head[:4] != b"glTF":
        return "is no GLB"
    version, length = struct.unpack("<II", head[4:])
    if version != 2:
        return f"is a GLB of version {version}, not 2"
    return None if length == size else f"is torn: {size} of {length} bytes"
