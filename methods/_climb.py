"""DDIM inversion of the edit as it is, for the rules that want its own noise in the place of a random one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from piva_bench.session.query import Prompt, Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.noisy import Noisy
    from piva_bench.session.step import Step


def climb(
    step: Step,
    noisy: Noisy,
    times: Iterable[Tensor],
    prompt: Prompt,
    guidance: float | None = None,
    eta: float = 0,
) -> Noisy:
    """Up from noisy latents by DDIM's move (arXiv 2010.02502, section 4.3), each from the prediction where it is.

    Args:
        step: of the edit.
        noisy: where to start.
        times: [R] of each hop; a row that is there already stays, so rows may arrive early.
        prompt: under which predictions are made.
        guidance: of the predictions.
        eta: share of the posterior's deviation of a hop that is added as noise.
    """
    for number, to in enumerate(times):
        eps = step.predict({"climb": Query(noisy, prompt, guidance)})["climb"]
        latents = step.schedule.ddim(noisy.latents, eps, noisy.t, to)
        if eta:
            _, deviation = step.schedule.posterior(latents, eps, to, noisy.t)
            latents = latents + eta * deviation * step.random(step.index).noise(f"climb/{number}")
        noisy = step.at("edit", latents, to)
    return noisy
