"""Runs in an object store (``s3://``, ``gs://``, ``hf://`` and what else fsspec knows), as merge reads and writes them.

Below the address::

    edits/<key>-<hash>.zip        an edit: record, picture, trace, scores and what else belongs to it
    manifests/<hash>.json         the manifest of a folder that edits came from

An object appears whole or not at all, and its name holds a hash of its content. So an edit is committed by one request,
as many may write to one address as like, and to put something twice changes nothing. Of several objects of one edit
whoever reads takes the one that counts.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from piva_bench.address import Address
from piva_bench.errors import DataError, UserError
from piva_bench.files import write_atomic
from piva_bench.runs.edit import sha256
from piva_bench.runs.inside import Warn, folder_inside, read_inside
from piva_bench.runs.manifest import FILE as MANIFEST
from piva_bench.runs.manifest import Manifest
from piva_bench.runs.record import KEY, Record, Setup
from piva_bench.runs.store import Store

AT_ONCE = 16
"""Objects that are moved at the same time."""
_EDIT = re.compile(rf"edits/({KEY})-[0-9a-f]{{64}}\.zip")
_MEMBER = r"(records|images|depth|fields|traces|scores/[A-Za-z0-9][\w.-]*)/%s\.(json|png|safetensors)"
"""What an edit's object may hold; %s is its key."""
_MANIFESTS = re.compile(r"manifests/[0-9a-f]{64}\.json")


def run_names(address: Address) -> set[str]:
    """Names of the objects of a run; foreign ones are left out."""
    return {name for name in address.names() if _EDIT.fullmatch(name) or _MANIFESTS.fullmatch(name)}


def push(root: Path, to: Address, warn: Warn) -> int:
    """Puts a run's whole edits, with traces and scores, into an object store; what is there is not put again.

    Args:
        root: the run.
        to: where; may hold edits of others.
        warn: told of what is damaged and so stays behind.

    Returns:
        How many edits were put.
    """
    store = Store(root, warn)
    there = run_names(to)
    refuse_another_setup(Manifest(root, warn).setup, to, there, warn)
    if MANIFEST in folder_inside(root, ""):
        manifest = read_inside(root, MANIFEST)
        to.put(f"manifests/{sha256(manifest)}.json", manifest)
    return put_edits(
        store, [record for record in store.records().values() if store.is_whole(record)], to, there
    )


def put_edits(store: Store, records: Sequence[Record], to: Address, there: Container[str] = ()) -> int:
    """Puts edits of a store into an object store; how many were not there."""
    protocols = store.protocols()

    def put(record: Record) -> bool:
        name, data = bundle(store.root, record, protocols)
        if name not in there:
            to.put(name, data)
        return name not in there

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(put, records))


def bundle(root: Path, record: Record, protocols: Iterable[str]) -> tuple[str, bytes]:
    """All files of an edit as one object, with its name: the same whenever they are the same."""
    names = [f"records/{record.key}.json", *record.files, f"traces/{record.key}.json"]
    names += [f"images/{record.key}.png"] * (record.status == "ok")
    names += [f"scores/{protocol}/{record.key}.json" for protocol in protocols]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(names):
            with suppress(FileNotFoundError):  # not every edit has a trace, or scores of every protocol
                archive.writestr(zipfile.ZipInfo(name), read_inside(root, name))
    data = buffer.getvalue()
    return f"edits/{record.key}-{sha256(data)}.zip", data


def key_of(name: str) -> str | None:
    """The key of the edit in an object of that name; None for other objects."""
    match = _EDIT.fullmatch(name)
    return match[1] if match else None


def _unpack(data: bytes, key: str, into: Path) -> None:
    """Writes the files of an edit; ``DataError`` if the object holds anything else."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            # Nothing is compressed, so nothing is larger than the object.
            strange = [
                one
                for one in members
                if one.compress_type
                or not re.fullmatch(_MEMBER % key, one.filename)
                or one.file_size > len(data)
            ]
            if strange:
                raise DataError("it holds what belongs to no edit")
            for one in members:
                write_atomic(into / one.filename, archive.read(one), sync=False)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise DataError("it is torn") from error


def refuse_another_setup(setup: Setup | None, to: Address, there: Iterable[str], warn: Warn) -> None:
    """One address holds one set-up, as one folder does; ``UserError`` if it holds another one."""
    other = next((name for name in sorted(there) if _MANIFESTS.fullmatch(name)), None)
    if setup is None or other is None:
        return
    with tempfile.TemporaryDirectory(prefix="piva-bench-") as folder:
        write_atomic(Path(folder) / MANIFEST, to.get(other), sync=False)
        stated = Manifest(Path(folder), warn)
    try:
        stated.join(setup)
    except UserError as error:
        raise UserError(f"{to.url}: {error}") from error


def pull(
    of: Address, into: Path, warn: Warn, chosen: set[str] | None = None
) -> tuple[list[Path], list[Path]]:
    """Fetches a run from an object store into an empty folder.

    Args:
        of: the run.
        into: the folder.
        warn: told of objects that are none of ours.
        chosen: names of the objects to fetch; by default all.

    Returns:
        Folders of edits: where there are several objects of one edit, each is in a folder of its own. And a folder for
        each manifest.

    Raises:
        DataError: there is no run.
    """
    names = run_names(of) if chosen is None else chosen
    edits: dict[str, list[str]] = {}
    for name in sorted(names):
        if key := key_of(name):
            edits.setdefault(key, []).append(name)
    if not edits:
        raise DataError(f"{of.url} holds no results: give an address that a run was merged into.")
    objects = [(key, name, str(index)) for key, found in edits.items() for index, name in enumerate(found)]

    def fetch(place: tuple[str, str, str]) -> None:
        key, name, index = place
        try:
            _unpack(of.get(name), key, into / "edits" / index)
        except DataError as error:
            warn(f"{of.url}/{name}: {error}: left out")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, objects))
    manifests = []
    for name in sorted(name for name in names if _MANIFESTS.fullmatch(name)):
        folder = into / name.removesuffix(".json")
        write_atomic(folder / MANIFEST, of.get(name), sync=False)
        manifests.append(folder)
    return sorted((into / "edits").iterdir()), manifests
