"""One step of a rule: a session at an index, with the step's usual noisy pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from piva_bench.diffusion.touch import Touch
from piva_bench.session.noisy import Noisy
from piva_bench.session.predictor import Predictor
from piva_bench.session.query import Query
from piva_bench.session.rows import Rows
from piva_bench.session.session import Session

DIAGNOSED = 20
"""Steps from one diagnosis to the next: what is asked for then costs less than 3 % of a rule with adapters."""

Learn = Callable[[Mapping[str, Query]], dict[str, Tensor]]
"""Predictions of queries that adapters learn from as they are made, by name; the other queries are left."""


@dataclass(frozen=True)
class Draw:
    """A timestep and noise for each row, and the two noisy latents they make."""

    edit: Noisy
    source: Noisy


class Step(Session):
    """What a rule sees of one step.

    Args:
        rows: of the step.
        predictor: of the batch.
        index: number of the step, from 0.
        among: timesteps to draw from.
        learn: see ``Learn``.

    Attributes:
        index: number of the step, from 0.
        scalars: [R] tensors a rule wants in the trace, by name.
    """

    def __init__(
        self, rows: Rows, predictor: Predictor, index: int, among: range, learn: Learn | None = None
    ) -> None:
        super().__init__(rows, predictor)
        self.index, self._among, self._learn = index, among, learn
        self.scalars: dict[str, Tensor] = {}
        self._draws: dict[str, Draw] = {}

    @property
    def edit(self) -> Noisy:
        """The edit under the step's noise."""
        return self._usual.edit

    @property
    def source(self) -> Noisy:
        """The source under the same noise at the same timestep."""
        return self._usual.source

    @cached_property
    def _usual(self) -> Draw:
        return self.draw("edit")

    def draw(self, purpose: str) -> Draw:
        """An independent timestep and noise; the same one when asked again."""
        if purpose not in self._draws:
            random = self.random(self.index)
            t, noise = random.timesteps(f"{purpose}/t", self._among), random.noise(f"{purpose}/noise")
            pair = self.noisy("edit", t, noise), self.noisy("source", t, noise)
            edit, source = (replace(one, key=(one.of, self.index, purpose)) for one in pair)
            self._draws[purpose] = Draw(edit, source)
        return self._draws[purpose]

    @property
    def diagnosed(self) -> bool:
        """Whether this is one of the steps, every ``DIAGNOSED``-th, at which a rule may ask what it needs only to be
        understood; the scalars of such steps may be missing from the others.
        """
        return (self.index + 1) % DIAGNOSED == 0

    @property
    def draws(self) -> Mapping[str, Draw]:
        """What has been drawn so far, by purpose."""
        return self._draws

    def predict(self, queries: Mapping[str, Query], touch: Touch | None = None) -> dict[str, Tensor]:
        """See ``Session.predict``."""
        learnt = self._learn(queries) if self._learn is not None and touch is None else {}
        rest = {name: query for name, query in queries.items() if name not in learnt}
        found = super().predict(rest, touch) if rest else {}
        return {name: learnt[name] if name in learnt else found[name] for name in queries}
