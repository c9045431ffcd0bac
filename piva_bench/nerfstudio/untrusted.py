"""Reading what ns-train has written without running what is in it: both formats can name code to be run."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

_NAMED = ("nerfstudio", "piva_bench", "torch.optim")
"""Packages whose classes and functions a configuration may name."""
_MADE = ("nerfstudio", "piva_bench")
"""Packages whose dataclasses and enumerations it may hold."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint: tensors, and the numpy numbers of the optimisers.

    Raises:
        OSError, pickle.UnpicklingError ...: whatever torch meets; anything but tensors and numbers is an error.
    """
    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    scalar = np.float64(0).__reduce__()[0]
    # Files of numpy 1 and of numpy 2 name the function differently.
    named: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*named, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]):
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def load_configuration(text: str) -> Any:
    """What a configuration describes; it holds dataclasses, enumerations and paths, and calls nothing else.

    Raises:
        yaml.YAMLError: it is no YAML, or names or makes something else.
    """
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.UnsafeLoader):
    def find_python_name(self, name: str, mark: Any) -> Any:
        if not _is_below(name, _NAMED) and name not in _PATHS and name not in ("builtins.tuple", "tuple"):
            raise _refused(f"names {name}", mark)
        return super().find_python_name(name, mark)  # type: ignore[misc]

    def find_python_module(self, name: str, mark: Any) -> Any:
        raise _refused(f"names the module {name}", mark)

    def make_python_instance(
        self, suffix: str, node: Any, args: Any = None, kwds: Any = None, newobj: bool = False
    ) -> Any:
        if suffix in _PATHS:
            return Path(*map(str, args or ()))
        found = self.find_python_name(suffix, node.start_mark) if _is_below(suffix, _MADE) else None
        ours = isinstance(found, type) and (dataclasses.is_dataclass(found) or issubclass(found, enum.Enum))
        if not ours:
            raise _refused(f"makes a {suffix}", node.start_mark)
        return super().make_python_instance(suffix, node, args, kwds, newobj)  # type: ignore[misc]


_PATHS = tuple(
    f"{module}.{kind}"
    for module in ("pathlib", "pathlib._local")
    for kind in (pathlib.PosixPath.__name__, pathlib.WindowsPath.__name__, Path.__name__)
)


def _is_below(name: str, packages: tuple[str, ...]) -> bool:
    return name.startswith(tuple(f"{package}." for package in packages))


def _refused(what: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, f"it {what}, which is not run", mark)
