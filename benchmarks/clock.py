"""Two ways of doing one thing, timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


class Clock:
    """Processor and wall seconds of a call; on a GPU both are wall seconds with the device drained."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def __call__(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Seconds: (processor, wall)."""
        if self.cuda:
            torch.cuda.synchronize()
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        if self.cuda:
            torch.cuda.synchronize()
        wall = time.perf_counter() - wall
        return (wall if self.cuda else time.process_time() - cpu), wall

    @property
    def unit(self) -> str:
        """What the first of a call's two numbers is, for the head of a table."""
        return torch.cuda.get_device_name() if self.cuda else "processor seconds"


@dataclass(frozen=True)
class Comparison:
    """A slow and a fast way, timed turn and turn about.

    Attributes:
        slow: median seconds of an edit.
        fast: likewise.
        ratios: of the seconds, of each turn.
        walls: ratios of wall seconds.
    """

    slow: float
    fast: float
    ratios: list[float]
    walls: list[float]

    @property
    def ratio(self) -> str:
        """The median with its range."""
        return f"{statistics.median(self.ratios):5.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})"

    @property
    def wall(self) -> str:
        """The median ratio by wall time."""
        return f"{statistics.median(self.walls):5.2f}"


def compare(
    clock: Clock,
    slow: Callable[[], Any],
    fast: Callable[[], Any],
    repeats: int,
    edits: tuple[int, int],
) -> Comparison:
    """Times both so many times in turn, so that what else the machine does hits both; ``edits`` are those of each."""
    times = [(clock(slow), clock(fast)) for _ in range(repeats)]
    (one, other), scale = edits, edits[1] / edits[0]
    return Comparison(
        statistics.median(a[0] for a, _ in times) / one,
        statistics.median(b[0] for _, b in times) / other,
        [scale * a[0] / b[0] for a, b in times],
        [scale * a[1] / b[1] for a, b in times],
    )
