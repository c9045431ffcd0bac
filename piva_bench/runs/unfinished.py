"""The state of an edit that takes long, on disk: after a kill it goes on where it was."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from piva_bench.distillation.state import State
from piva_bench.errors import UserError
from piva_bench.files import write_atomic
from piva_bench.runs.inside import folder_inside, make_way, read_inside, remove_file

FORMAT = "piva-bench unfinished edit 1"
UNFINISHED = "unfinished"
"""Folder of a run that holds the states of its edits while it is on its way."""
EVERY = 60.0
"""Seconds between two states on disk: what a kill costs at most."""


class Unfinished:
    """The state's file; a ``Keeper``.

    Args:
        root: folder that it lies in; may come from a stranger.
        name: path below it.
        identity: of all that decides the edit; a file of another one is passed over.

    Attributes:
        earlier: seconds of work that the state read last stands for.
    """

    def __init__(self, root: Path, name: str, identity: str) -> None:
        self._root, self._name, self._identity = root, name, identity
        self.earlier = 0.0
        self._begun = self._written = time.monotonic()

    def read(self) -> State | None:
        """The state; None where there is none that is whole and of this edit."""
        self.earlier, self._begun = 0.0, time.monotonic()
        self._written = self._begun
        try:
            data = read_inside(self._root, self._name)
            tensors = load(data)
            # 8 bytes of length, then the header.
            words = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            if (words["format"], words["identity"]) != (FORMAT, self._identity):
                return None
            state = State(int(words["steps"]), tensors, json.loads(words["words"]))
            self.earlier = float(words["seconds"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        return state

    @property
    def due(self) -> bool:
        """Whether it is time to write one."""
        return time.monotonic() - self._written >= EVERY

    def write(self, state: State) -> None:
        """Puts a state in the place of the last one.

        Raises:
            UserError: the folder cannot be written to.
        """
        seconds = self.earlier + time.monotonic() - self._begun
        words = {
            "format": FORMAT,
            "identity": self._identity,
            "steps": str(state.steps),
            "seconds": repr(seconds),
            "words": json.dumps(state.words),
        }
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.tensors.items()}
        try:
            write_atomic(make_way(self._root, self._name), save(tensors, metadata=words))
        except OSError as error:
            raise UserError(
                f"Cannot keep the state of an edit in {self._root}: {error.strerror or error}."
            ) from error
        self._written = time.monotonic()

    def remove(self) -> None:
        """Takes the file away: the edit is finished."""
        remove_file(self._root / self._name)


def remove_states(root: Path) -> None:
    """Takes away the states below a run's folder: all its edits are stored."""
    for name in folder_inside(root, UNFINISHED):
        remove_file(root / UNFINISHED / name)
    with suppress(OSError):
        (root / UNFINISHED).rmdir()
