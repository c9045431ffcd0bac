"""Workers in other processes, and the pool that keeps them busy: whoever is free gets the next group of batches.

Where the workers are, on this machine or on a cluster, is their crew's business. Here is what happens to batches: one
whose worker died is tried once more and then given up, one that takes too long is given up at once, and the worker is
replaced.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from piva_bench.errors import UserError
from piva_bench.runs.manifest import packages
from piva_bench.runs.plan import Batch, Unit
from piva_bench.runs.serve import Message, request_of
from piva_bench.runs.watcher import Watcher

if TYPE_CHECKING:
    from piva_bench.runs.edit import Edit
    from piva_bench.runs.request import Prepared

DEATHS = 2
"""A batch that so many worker processes died of is given up."""
STILLBORN = 4
"""So many worker processes that die one after the other before they are ready are the fault of what they load."""


@dataclass(frozen=True)
class Finished:
    """A batch's edits, under the number it was announced by."""

    number: int
    edits: list[Edit]


class Gone(Exception):
    """A worker process has ended; the message says how."""


class Member(Protocol):
    """A worker in another process."""

    number: int

    def send(self, message: Message) -> None:
        """Sends a message; a worker that has died is found when its answer is received."""

    def receive(self) -> Message:
        """The next message.

        Raises:
            Gone: there will be none.
        """

    def kill(self) -> None:
        """Ends it at once."""


class Crew(Protocol):
    """Where worker processes are to be had."""

    def size(self) -> int:
        """How many there is room for now."""

    def start(self, number: int) -> Member:
        """A new one, under a number below ``size()`` that no other has. It says when it is ready."""

    def wait(self, members: Sequence[Member], seconds: float | None) -> list[Member]:
        """Those that have a message, or are gone; none if there was none for so many seconds, or fewer."""

    def close(self) -> None:
        """Lets go of where they were; its members are gone by then."""


@dataclass
class _Place:
    """A member, and what it is busy with.

    Attributes:
        ready: whether it has loaded everything.
        group: batches under their numbers; the first is under way.
        since: when that was sent, by the monotonic clock.
    """

    member: Member
    ready: bool = False
    group: deque[tuple[int, Batch]] = field(default_factory=deque)
    since: float = 0.0


class CrewPool:
    """A pool of the workers of a crew.

    Args:
        prepared: the plan.
        crew: where workers are to be had.
    """

    def __init__(self, prepared: Prepared, crew: Crew) -> None:
        self._prepared, self._crew = prepared, crew
        self._limit = prepared.request.timeout
        self._places: list[_Place] = []
        self._deaths: dict[int, int] = {}
        self._stillborn = 0
        self.workers = crew.size()
        self._hire(self.workers)

    def batch_size(self, units: Sequence[Unit], interrupted: int | None) -> int:
        """See ``Pool``."""
        if self._prepared.request.batch_size != "auto" or interrupted:
            return self._prepared.batch_size(units, lambda: None, interrupted)
        asked: _Place | None = None
        while True:
            if asked is None and (asked := next((place for place in self._places if place.ready), None)):
                asked.member.send(("size", [unit.key for unit in units], self.workers))
                asked.since = time.monotonic()
            for place in self._heard([asked] if asked else []):
                try:
                    kind, *rest = place.member.receive()
                except Gone as how:
                    self._bury(place, how)
                    if place is asked:
                        raise _no_size("A worker process died") from None
                    self._hire(self.workers)
                    continue
                if kind == "size":
                    return int(rest[0])
                self._take(place, kind, rest)
            if asked and self._is_late(asked):
                raise _no_size(f"It took longer than --timeout {self._limit:g} s")

    def map(self, groups: Sequence[Sequence[Batch]], shares: bool, watcher: Watcher) -> Iterator[Finished]:
        """See ``Pool``."""
        numbers = iter(range(1, 1 + sum(map(len, groups))))
        waiting = deque(deque((next(numbers), batch) for batch in group) for group in groups)
        while waiting or any(place.group for place in self._places):
            self._hire(len(waiting))
            for place in self._places:
                if place.ready and not place.group and waiting:
                    place.group = waiting.popleft()
                    self._send(place, watcher, fresh=shares)
            for place in self._heard([place for place in self._places if place.group]):
                yield from self._listen(place, waiting, watcher)
            for place in [place for place in self._places if place.group and self._is_late(place)]:
                self._dismiss(place)
                yield self._give_up(place, f"it took longer than --timeout {self._limit:g} s", watcher)
                if place.group:
                    waiting.append(place.group)

    def close(self) -> None:
        """See ``Pool``."""
        for place in list(self._places):
            self._dismiss(place)
        self._crew.close()

    def _listen(
        self, place: _Place, waiting: deque[deque[tuple[int, Batch]]], watcher: Watcher
    ) -> Iterator[Finished]:
        """Takes a place's next message."""
        try:
            kind, *rest = place.member.receive()
        except Gone as how:
            self._bury(place, how)
            yield from self._put_back(place, str(how), waiting, watcher)
            return
        if kind == "step":
            watcher.step(place.group[0][0], *rest)
        elif kind == "warn":
            watcher.warn(rest[0])
        elif kind == "done":
            number, _ = place.group.popleft()
            yield Finished(number, rest[0])
            if place.group:
                self._send(place, watcher)
        else:
            self._take(place, kind, rest)

    def _hire(self, wanted: int) -> None:
        """New members for those that are gone, and where there is more room than before, if so many are wanted."""
        free = sum(not place.group for place in self._places)
        taken = {place.member.number for place in self._places}
        for number in range(self._crew.size()):
            if number not in taken and free < wanted:
                self._places.append(_Place(self._crew.start(number)))
                free += 1

    def _heard(self, busy: Sequence[_Place]) -> list[_Place]:
        """The places that have a message; none if a busy one is late first."""
        seconds = None
        if self._limit is not None and busy:
            seconds = max(min(place.since for place in busy) + self._limit - time.monotonic(), 0.0)
        heard = self._crew.wait([place.member for place in self._places], seconds)
        return [place for place in self._places if place.member in heard]

    def _is_late(self, place: _Place) -> bool:
        return self._limit is not None and time.monotonic() - place.since >= self._limit

    def _take(self, place: _Place, kind: str, rest: Sequence[Any]) -> None:
        """What is not about a batch."""
        if kind == "ready":
            _check_versions(rest[0])
            place.ready, self._stillborn = True, 0
        elif kind == "user":
            raise UserError(rest[0])
        else:
            raise RuntimeError(f"a worker process failed: {rest[0] if rest else kind}")

    def _send(self, place: _Place, watcher: Watcher, fresh: bool = False) -> None:
        number, batch = place.group[0]
        watcher.batch_started(number, batch)
        place.since = time.monotonic()
        place.member.send(request_of(batch, fresh))

    def _dismiss(self, place: _Place) -> None:
        self._places.remove(place)
        place.member.kill()

    def _bury(self, place: _Place, how: Gone) -> None:
        self._dismiss(place)
        self._stillborn += not place.ready
        if self._stillborn >= STILLBORN:
            raise UserError(
                f"Worker processes die before they are ready ({how}): there may be too little memory for so many, "
                "give --workers 1."
            )

    def _put_back(
        self, place: _Place, how: str, waiting: deque[deque[tuple[int, Batch]]], watcher: Watcher
    ) -> Iterator[Finished]:
        """A dead member's batch is tried once more elsewhere, then given up."""
        if not place.group:
            return
        number, batch = place.group[0]
        self._deaths[number] = self._deaths.get(number, 0) + 1
        if self._deaths[number] >= DEATHS:
            yield self._give_up(place, f"the worker process died of it twice ({how})", watcher)
        else:
            watcher.warn(f"a worker process died ({how}): its batch of {batch.variant.name} is tried again")
        if place.group:
            waiting.append(place.group)

    def _give_up(self, place: _Place, reason: str, watcher: Watcher) -> Finished:
        from piva_bench.runs.worker import failed_edits

        number, batch = place.group.popleft()
        watcher.warn(f"a batch of {batch.variant.name} is given up: {reason}")
        return Finished(number, failed_edits(self._prepared, batch.all_units, reason))


def _check_versions(there: Mapping[str, str]) -> None:
    """A worker elsewhere may have other libraries, and would make other numbers."""
    here = packages()
    other = [f"{name} {there.get(name)}, here {here[name]}" for name in here if there.get(name) != here[name]]
    if other:
        raise UserError(
            f"A worker has other versions ({'; '.join(other)}): install the same ones everywhere."
        )


def _no_size(what: str) -> UserError:
    return UserError(f"{what} while trying how many edits fit into memory: give --batch-size 1.")
