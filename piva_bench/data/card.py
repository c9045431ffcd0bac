"""Reading a dataset's card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import ValidationError

from piva_bench.data.dataset import DatasetCard
from piva_bench.errors import DataError


def read_card(
    path: Path, default: Path, read: Callable[[Path], bytes] = lambda path: path.read_bytes()
) -> DatasetCard:
    """The card at `path`, else the one at `default`.

    Args:
        path: where the dataset's own card would lie.
        default: the card of the published dataset, which ships without one.
        read: gives a file's bytes; raises FileNotFoundError.

    Raises:
        DataError: it is no card.
    """
    try:
        data = read(path)
    except FileNotFoundError:
        path = default
        data = path.read_bytes()
    try:
        return DatasetCard.model_validate(yaml.safe_load(data))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        field = ".".join(map(str, first["loc"])) or "the card"
        raise DataError(f"{path}: {field}: {first['msg']}") from error
