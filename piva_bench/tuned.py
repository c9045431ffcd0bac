"""Defaults that ``piva-bench tune`` found: taken from the files it wrote, ``results/tuning/METHOD-DATASET.json``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from piva_bench import paths
from piva_bench.errors import DataError

if TYPE_CHECKING:
    from piva_bench.profiles import Profile


class Tuned(BaseModel):
    """What of a tuning file decides defaults; the rest of it is for people.

    Attributes:
        method: whose.
        kind: of what is edited.
        profile: in which profile.
        model: by whose model it was tuned, as the profile names it.
        model_fingerprint: of that model then.
        whole: whether the whole validation set and the declared search were used; else it decides nothing.
        chosen: values by parameter.
        file: its name below ``results/tuning``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: str
    kind: Literal["pictures", "scenes"]
    profile: str
    model: str
    model_fingerprint: str
    whole: bool
    chosen: dict[str, Any]
    file: str = ""


@lru_cache(maxsize=4)
def tuning_files(folder: Path) -> tuple[Tuned, ...]:
    """The tuning files of a folder, by name.

    Raises:
        DataError: one cannot be read.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            read = Tuned.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(
                f"{path} is no tuning file, or a damaged one: remove it, or tune again ({_first_line(error)})"
            ) from error
        found.append(read.model_copy(update={"file": path.name}))
    return tuple(found)


def tuned_defaults(method: str, profile: Profile, kind: str) -> Mapping[str, tuple[Any, str]]:
    """What tuning found for a method in a profile: values and the file that shows it, by parameter.

    Args:
        method: name of an installed method.
        profile: which; with another model than the one tuned by, nothing is taken over.
        kind: what is edited.
    """
    return {
        name: (value, f"{paths.TUNING}/{one.file}")
        for one in tuning_files(paths.tuning_dir())
        if (one.method, one.kind, one.profile, one.model) == (method, kind, profile.name, profile.model)
        and one.whole
        for name, value in one.chosen.items()
    }


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
