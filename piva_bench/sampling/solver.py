"""SDE-DPM-Solver++ of second order (arXiv 2211.01095, in its multistep form), its mean alone."""

from __future__ import annotations

import torch
from torch import Tensor

from piva_bench.diffusion.schedule import Schedule


class SecondOrder:
    """One trajectory's means; its noise is the caller's. The first step, and that to the picture, are of first order.

    With l = log(a / s), h = l_to - l_t and the picture m that a prediction implies, the mean is
    (s_to / s_t) e^-h x_t + a_to (1 - e^-2h) (m + (m - m_before) h / (2 h_before)).

    Args:
        schedule: of the model.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._before: tuple[Tensor, Tensor] | None = None

    def mean(self, noisy: Tensor, eps: Tensor, t: int, to: int | None) -> Tensor:
        """The mean [R, C, h, w] of x_to; the picture itself where ``to`` is None."""
        picture = self._schedule.clean(noisy, eps, t)
        if to is None:
            return picture
        (_, sigma), (alpha_to, sigma_to) = self._schedule.alpha_sigma(t), self._schedule.alpha_sigma(to)
        here, there = self._height(t), self._height(to)
        estimate = picture
        if self._before is not None:
            earlier, height = self._before
            estimate = picture + (picture - earlier) * (there - here) / (2 * (here - height))
        self._before = picture, here
        decay = (here - there).exp()
        return sigma_to / sigma * decay * noisy + alpha_to * (1 - decay**2) * estimate

    def _height(self, t: int) -> Tensor:
        """Log of signal to noise."""
        alpha, sigma = self._schedule.alpha_sigma(t)
        return torch.log(alpha) - torch.log(sigma)
