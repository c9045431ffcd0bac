"""From a picture to the noise that samples it again."""

from __future__ import annotations

from torch import Tensor

from piva_bench.session.query import Prompt, Query
from piva_bench.session.session import Session


def ddim_inversion(
    session: Session, grid: list[int], prompt: Prompt = "source", guidance: float | None = None
) -> list[Tensor]:
    """DDIM run backwards from the source (arXiv 2010.02502, section 4.3; PnPInversion models/p2p/inversion.py).

    Each step takes the prediction at the latents it leaves for that at the timestep it goes to.

    Args:
        session: of the edits.
        grid: timesteps from the noisiest down, as ``Schedule.grid`` gives them.
        prompt: under which the source is inverted.
        guidance: of the predictions; None as in most methods, because guided inversions drift.

    Returns:
        The latents [R, C, h, w] at each timestep of the grid, in the grid's order.
    """
    latents, t = session.source_latents, None
    way: list[Tensor] = []
    for to in reversed(grid):
        noisy = session.at("source", latents, to)
        eps = session.predict({"source": Query(noisy, prompt, guidance)})["source"]
        latents, t = session.schedule.ddim(latents, eps, t, to), to
        way.append(latents)
    return way[::-1]
