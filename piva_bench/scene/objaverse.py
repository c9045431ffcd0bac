"""Objaverse objects: subsets as YAML files, fetched by the `objaverse` package, filtered by licence, checked.

The cache is the package's own (``~/.objaverse/hf-objaverse-v1``: ``object-paths.json.gz``, ``metadata/*.json.gz``,
``glbs/*/UID.glb``) or one of the same layout elsewhere; a cache that has everything needs no network.
"""

from __future__ import annotations

import contextlib
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
CHECKSUMS = "piva-bench-checksums.json"
"""SHA-256 of every object when it was first fetched, beside the cache's own folder."""

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
            raise UnknownName("Objaverse subset", str(name), subset_names(), hint="A .yaml file also serves.")
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
    """What a fetch gave: the objects, and why each other one was left out (by uid, in one line)."""

    objects: tuple[FetchedObject, ...]
    left_out: dict[str, str] = field(default_factory=dict)


class ObjaverseFetcher:
    """Fetches objects into a cache.

    Args:
        directory: holds the cache's folder; by default the package's own, ``~/.objaverse``.
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
        self.directory = (directory or Path.home() / ".objaverse").expanduser()
        self.noncommercial, self.attempts, self.wait, self._sleep = noncommercial, attempts, wait, sleep

    def fetch(self, cards: Sequence[ObjectCard]) -> Fetched:
        """Objects in the cache, downloaded where they are not there yet.

        Raises:
            UserError: Objaverse's index cannot be had (no network and no cache).
        """
        found: list[FetchedObject] = []
        left_out: dict[str, str] = {}
        with self._package() as objaverse:
            paths = self._retry("Objaverse's list of objects", objaverse._load_object_paths)
            for card in cards:
                if card.uid not in paths:
                    left_out[card.uid] = "Objaverse has no such object (any more)"
                    continue
                try:
                    licence = self._licence(objaverse, card)
                    if reason := self._refuse(licence):
                        left_out[card.uid] = reason
                        continue
                    path = self._retry(card.uid, partial(self._download, objaverse, card.uid))
                    found.append(FetchedObject(card, path, licence or "", self._check(card, path)))
                except UserError as error:
                    left_out[card.uid] = str(error)
        return Fetched(tuple(found), left_out)

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
            return f"its licence {licence} forbids commercial use; ask for such objects to have it"
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
        file = self.directory / CHECKSUMS
        try:
            known = json.loads(file.read_text()) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise DataError(f"{file} is torn: delete it to take the cache as it is") from error
        for expected, what in (
            (card.sha256, "pinned in the subset"),
            (known.get(card.uid), "of its first fetch"),
        ):
            if expected and expected != digest:
                raise DataError(f"{path} has not the checksum {what}; delete the file to fetch it again")
        if card.uid not in known:
            known[card.uid] = digest
            torn = file.with_name(f"{file.name}.{os.getpid()}.tmp")
            torn.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
            torn.replace(file)
        return digest


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
