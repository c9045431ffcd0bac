"""A model seen as a rectified flow: velocities at points of the straight line between picture and noise."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from piva_bench.session.query import Prompt, Query
from piva_bench.session.session import Session


def velocity(
    session: Session, of: Literal["edit", "source"], point: Tensor, t: int, prompt: Prompt, guidance: float
) -> Tensor:
    """V = n - z [R, C, h, w] at a point y = (1 - s) z + s n, s that of the timestep; see ``Schedule.flow_scale``.

    Args:
        session: of the edits.
        of: whose point it is; the source's may be looked up.
        point: y [R, C, h, w].
        t: timestep.
        prompt: under which.
        guidance: classifier-free.
    """
    noisy = session.at(of, session.schedule.flow_scale(t) * point, t)
    return noisy.velocity(session.predict({"velocity": Query(noisy, prompt, guidance)})["velocity"])


def times(session: Session, grid: list[int]) -> list[float]:
    """Where the grid's timesteps lie on the line, and last the picture: s falls to 0."""
    return [*(float(session.schedule.flow_time(t)) for t in grid), 0.0]
