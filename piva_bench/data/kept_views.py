"""Views that take long to make, kept as arrays below ``PIVA_BENCH_VIEWS`` or ``~/.cache/piva-bench/views``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError
from piva_bench.kept import kept

Arrays = dict[str, NDArray[Any]]


def kept_arrays(key: str, names: Sequence[str], make: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
    """Some of the arrays kept under a key; all of them are made first where they are not there or torn.

    Args:
        key: of everything that decides them.
        names: the ones wanted; only they are read.
        make: gives all of them by name.

    Raises:
        UserError: they cannot be made or stored.
    """
    return kept(
        "views",
        f"{key}.npz",
        lambda path: _read(path, names),
        # Its stub takes any array for its one option.
        lambda file: np.savez_compressed(file, **make()),  # type: ignore[arg-type]
    )


def _read(path: Path, names: Sequence[str]) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is missing or torn") from error
