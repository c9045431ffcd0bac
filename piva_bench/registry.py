"""Lazy plug-in registries over entry points: methods, datasets and metric protocols.

A plug-in is one line in a distribution's metadata (``name = "package.module:attribute"``) and is imported
only when it is used. A line that names a package and no attribute (``anything = "package"``) makes a plug-in of each of
its modules that does not begin with an underscore, under the module's name. Our own plug-ins go through the same door.
A plug-in may also be a class or function in a plain file, ``path/to/file.py:Name``, which is how one tries an idea
before packaging it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from piva_bench.errors import UnknownName, UserError
from piva_bench.paths import absolute


def _describe(point: EntryPoint) -> str:
    return f"{point.value} (from {point.dist.name if point.dist else 'an unnamed distribution'})"


def find_plugins(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group by name; more than one under a name are rivals."""
    points: dict[str, list[EntryPoint]] = {}
    for point in _with_packages(entry_points(group=group)):
        known = points.setdefault(point.name, [])
        # One distribution can be found twice (an editable install seen from its own checkout).
        if point.value not in {other.value for other in known}:
            known.append(point)
    return points


def _with_packages(points: Iterable[EntryPoint]) -> Iterator[EntryPoint]:
    """The entry points, those that name a package replaced by one for each of its modules."""
    for point in points:
        if point.attr:
            yield point
            continue
        # Found without being imported, so that a listing stays instant.
        package = find_spec(point.module)
        for folder in (package.submodule_search_locations or []) if package else []:
            for module in sorted(Path(folder).glob("*.py")):
                if not module.stem.startswith("_"):
                    found = EntryPoint(module.stem, f"{point.module}.{module.stem}", point.group)
                    vars(found)["dist"] = point.dist
                    yield found


@dataclass
class Registry:
    """The plug-ins of one entry-point group.

    Attributes:
        kind: what a plug-in is, in the singular; for messages.
        group: the entry-point group.
        required: attributes every plug-in must have.
        choose: which attribute of a module is the plug-in, where an entry point names a package.
    """

    kind: str
    group: str
    required: tuple[str, ...] = ()
    choose: Callable[[ModuleType], list[Any]] = lambda module: []

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
        load = _load_from_file if self.is_file(name) else self._load_entry_point
        plugin = load(name)
        missing = [attribute for attribute in self.required if not hasattr(plugin, attribute)]
        if missing:
            raise UserError(f"{self.origin(name)} is no {self.kind}: it has no {', '.join(missing)}.")
        return plugin

    def load_installed(self, name: str) -> Any:
        """As `load`, for names that are data, such as those in a results folder: a file of code is not one.

        Raises:
            UserError: see `load`; also for a name of a file.
        """
        if self.is_file(name):
            raise UserError(
                f"The {self.kind} '{name}' is a file, and the code that a results folder names is not run: install it "
                "as a plug-in."
            )
        return self.load(name)

    def source_hash(self, name: str) -> str | None:
        """A hash of the file of a ``path/to/file.py:Class`` plug-in; None for an installed one.

        An installed plug-in states its version; a file is being worked on, so its text is its version, and so is that
        of the files beside it that it imports.
        """
        if not self.is_file(name):
            return None
        path = absolute(Path(name.rpartition(":")[0]).expanduser())
        texts = [path.read_bytes(), *(other.read_bytes() for other in sorted(_siblings(path)))]
        return hashlib.blake2b(b"".join(texts), digest_size=8).hexdigest()

    @staticmethod
    def is_file(name: str) -> bool:
        """Whether a name is that of a file's class or function, whose code is run when it is loaded."""
        return name.rpartition(":")[0].endswith(".py")

    def _load_entry_point(self, name: str) -> Any:
        points = self._points.get(name)
        if not points:
            raise UnknownName(
                self.kind, name, self._points, f"A {self.kind} in a file is path/to/file.py:Name."
            )
        if len(points) > 1:
            raise UserError(f"Two plug-ins claim the {self.kind} '{name}': {self.origin(name)}.")
        try:
            plugin = points[0].load()
        except Exception as error:  # somebody else's code: anything can happen, and `list` must still list
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(
                f"The {self.kind} '{name}', {self.origin(name)}, cannot be loaded: {cause}"
            ) from error
        if points[0].attr:
            return plugin
        chosen = self.choose(plugin)
        if len(chosen) != 1:
            raise UserError(f"{self.origin(name)} holds {len(chosen)} of this kind ({self.kind}), not one.")
        return chosen[0]


def _siblings(path: Path) -> set[Path]:
    """Files below a file's folder that it imports, or that those import; found in their text, without running them."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        module = waiting.pop()
        for node in ast.walk(ast.parse(module.read_bytes())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                names = [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
            else:
                continue
            for name in names:
                place = path.parent.joinpath(*name.split("."))
                for file in (place.with_suffix(".py"), place / "__init__.py"):
                    if name and file.is_file() and file not in found and file != path:
                        found.add(file)
                        waiting.append(file)
    return found


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
        # What lies beside the file can be imported by it, as if it were run as a script.
        sys.path.insert(0, str(path.parent))
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(path.parent))
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


def _methods_in(module: ModuleType) -> list[Any]:
    """Classes of a module that have a card of their own."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and "card" in vars(value)
    ]


_METHOD_MEMBERS = ("card", "Params", "edit", "canonical")
METHODS = Registry("method", "piva_bench.methods", _METHOD_MEMBERS, _methods_in)
DATASETS = Registry("dataset", "piva_bench.datasets")
PROTOCOLS = Registry("protocol", "piva_bench.metrics", ("name", "fingerprint", "descriptors", "score"))
