"""The state of an edit on its way: with it an edit that was killed goes on to the same last bit.

All random numbers of an edit are functions of the step's number, so the state is small: what is moved, its optimiser,
the adapters and theirs, and the accounts so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Where an edit is after some steps.

    Attributes:
        steps: how many are done.
        tensors: by name.
        words: the rest, as JSON has it.
    """

    steps: int
    tensors: Mapping[str, Tensor]
    words: Mapping[str, Any]


class Keeper(Protocol):
    """Keeps the state of one edit, or of a batch, while it is unfinished."""

    @property
    def due(self) -> bool:
        """Whether it is time to keep another one."""

    def read(self) -> State | None:
        """The state kept last, with tensors on the CPU; None where there is none."""

    def write(self, state: State) -> None:
        """Keeps a state in the place of the last one."""


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """An optimiser's state by name; what it has is tensors (Adam, AdamW)."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}/{number}/{name}": value for number, own in state.items() for name, value in own.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what ``optimizer_tensors`` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{prefix}/"):
            number, key = name.removeprefix(f"{prefix}/").split("/")
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
