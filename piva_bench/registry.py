"""Lazy plug-in registries over entry points: methods, datasets and metric protocols.

A plug-in is one line in a distribution's metadata (``name = "package.module:attribute"``) and is imported
only when it is used. Our own plug-ins go through the same door. A method may also be a class in a plain
file, ``path/to/file.py:Class``, which is how one tries an idea before packaging it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from piva_bench.errors import UnknownName, UserError
from piva_bench.paths import absolute


def _describe(point: EntryPoint) -> str:
    return f"{point.value} (from {point.dist.name if point.dist else 'an unnamed distribution'})"


def find_plugins(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group by name; more than one under a name are rivals."""
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        known = points.setdefault(point.name, [])
        # One distribution can be found twice (an editable install seen from its own checkout).
        if point.value not in {other.value for other in known}:
            known.append(point)
    return points


@dataclass
class Registry:
    """The plug-ins of one entry-point group.

    Attributes:
        kind: what a plug-in is, in the singular; for messages.
        group: the entry-point group.
        required: attributes every plug-in must have.
        accepts_files: whether ``path/to/file.py:Class`` is a name, too.
    """

    kind: str
    group: str
    required: tuple[str, ...] = ()
    accepts_files: bool = False

    @cached_property
    def _points(self) -> dict[str, list[EntryPoint]]:
        return find_plugins(self.group)

    def names(self) -> list[str]:
        """All registered names, sorted. Imports nothing."""
        return sorted(self._points)

    def origin(self, name: str) -> str:
        """Where a plug-in comes from, for people to read."""
        return " and ".join(map(_describe, self._points[name])) if name in self._points else name

    def load(self, name: str) -> Any:
        """Imports and returns the plug-in.

        Raises:
            UnknownName: nothing of this name, with what was perhaps meant.
            UserError: two distributions claim the name, the import fails, or a required attribute is missing.
        """
        load = _load_from_file if self._is_file(name) else self._load_entry_point
        plugin = load(name)
        missing = [attribute for attribute in self.required if not hasattr(plugin, attribute)]
        if missing:
            raise UserError(f"{self.origin(name)} is no {self.kind}: it has no {', '.join(missing)}.")
        return plugin

    def source_hash(self, name: str) -> str | None:
        """A hash of the file of a ``path/to/file.py:Class`` plug-in; None for an installed one.

        An installed plug-in states its version; a file is being worked on, so its text is its version.
        """
        if not self._is_file(name):
            return None
        return hashlib.blake2b(Path(name.rpartition(":")[0]).read_bytes(), digest_size=8).hexdigest()

    def _is_file(self, name: str) -> bool:
        return self.accepts_files and name.rpartition(":")[0].endswith(".py")

    def _load_entry_point(self, name: str) -> Any:
        points = self._points.get(name)
        if not points:
            hint = f"A {self.kind} in a file is named path/to/file.py:Class." if self.accepts_files else ""
            raise UnknownName(self.kind, name, self._points, hint)
        if len(points) > 1:
            raise UserError(f"Two plug-ins claim the {self.kind} '{name}': {self.origin(name)}.")
        try:
            return points[0].load()
        except Exception as error:  # somebody else's code: anything can happen, and `list` must still list
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(
                f"The {self.kind} '{name}', {self.origin(name)}, cannot be loaded: {cause}"
            ) from error


def _load_from_file(name: str) -> Any:
    path_text, _, attribute = name.rpartition(":")
    path = absolute(Path(path_text).expanduser())
    if not path.is_file():
        raise UserError(f"There is no file '{path_text}' to load {attribute} from.")
    # The module gets a name of its own, so that two files called method.py do not replace each other.
    digest = hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()
    module_name = f"piva_bench_file_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # pydantic and dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
        ]
        place = f"line {lines[-1]}, " if lines else ""
        cause = " ".join(str(error).split())
        raise UserError(
            f"'{path_text}' cannot be imported: {place}{type(error).__name__}: {cause}"
        ) from error
    if not hasattr(module, attribute):
        raise UserError(f"'{path_text}' defines no {attribute}.")
    return getattr(module, attribute)


_METHOD_MEMBERS = ("card", "Params", "edit", "canonical")
METHODS = Registry("method", "piva_bench.methods", _METHOD_MEMBERS, accepts_files=True)
DATASETS = Registry("dataset", "piva_bench.datasets")
PROTOCOLS = Registry("protocol", "piva_bench.metrics", ("name", "fingerprint", "descriptors", "score"))
