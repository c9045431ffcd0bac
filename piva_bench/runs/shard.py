"""A share of a run: every N-th sample, for machines that work side by side without talking to each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from piva_bench.errors import UserError
from piva_bench.runs.inside import folder_inside

T = TypeVar("T")
SHARES = "shards"
"""Folder of the shares' folders, below a run's."""


@dataclass(frozen=True)
class Shard:
    """The ``index``-th of ``count`` shares, counted from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """Of the folder of its results, see `share_folders`."""
        return f"{self.index}-of-{self.count}"

    def of(self, samples: Sequence[T]) -> list[T]:
        """The samples that are this share's; a share may be empty."""
        return list(samples[self.index :: self.count])


def share_folders(root: Path) -> list[Path]:
    """Folders of the shares of a run, each with a writer of its own; those without results are left out.

    No link is followed.
    """
    names = [name for name in folder_inside(root, SHARES) if re.fullmatch(r"\d{1,9}-of-\d{1,9}", name)]
    return [root / SHARES / name for name in names if folder_inside(root, f"{SHARES}/{name}/records")]


def parse_shard(text: str) -> Shard:
    """A share from ``i/N``.

    Raises:
        UserError: it is something else, or there is no such share.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UserError(f"--shard {text}: write i/N with i from 0 to N-1, for example 0/4.")
    return Shard(int(match[1]), int(match[2]))


def shard_of(environment: Mapping[str, str]) -> tuple[Shard, str] | None:
    """The share that a scheduler gives this process, and the variables that say so; None for all of the run.

    Slurm's arrays come first, then Slurm's tasks, then what torchrun and its like set.
    """

    def number(name: str) -> int | None:
        text = environment.get(name, "")
        return int(text) if text.isdecimal() else None

    task, count = number("SLURM_ARRAY_TASK_ID"), number("SLURM_ARRAY_TASK_COUNT")
    if task is not None and count is not None and count > 1:
        first, step = number("SLURM_ARRAY_TASK_MIN") or 0, number("SLURM_ARRAY_TASK_STEP") or 1
        place, rest = divmod(task - first, step)
        if rest or not 0 <= place < count:
            raise UserError(
                f"Task {task} of {count} from {first} is no place in an array without gaps: give --shard i/N."
            )
        return Shard(place, count), "SLURM_ARRAY_TASK_ID and _COUNT"
    for index_name, count_name in (("SLURM_PROCID", "SLURM_NTASKS"), ("RANK", "WORLD_SIZE")):
        index, count = number(index_name), number(count_name)
        if index is not None and count is not None and index < count and count > 1:
            return Shard(index, count), f"{index_name} and {count_name}"
    return None
