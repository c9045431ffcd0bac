"""Noisy latents that know what they were made of."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

_fresh = itertools.count()


@dataclass(frozen=True, eq=False)
class Noisy:
    """x_t = alpha z + sigma eps for each of R rows (a sample, or a view of one).

    Attributes:
        of: whose picture it is; what may be shared between edits, and whose depth conditions a ControlNet.
        latents: x_t [R, C, h, w].
        picture: z [R, C, h, w].
        noise: eps [R, C, h, w].
        t: [R] integers.
        alpha: a_t [R, 1, 1, 1].
        sigma: s_t [R, 1, 1, 1].
        key: equal for equal draws; equal rows are computed once.
    """

    of: Literal["edit", "source"]
    latents: Tensor
    picture: Tensor
    noise: Tensor
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    key: Hashable

    def clean(self, eps: Tensor) -> Tensor:
        """The picture [R, C, h, w] that a prediction implies: (x_t - s_t eps) / a_t."""
        return (self.latents - self.sigma * eps) / self.alpha

    def velocity(self, eps: Tensor) -> Tensor:
        """The velocity of the model's flow view, eps - clean(eps); see ``Schedule.flow_scale``."""
        return eps - self.clean(eps)

    def replaced(self, latents: Tensor) -> Noisy:
        """Other noisy latents of the same picture and timestep; their noise is what makes them of it."""
        latents = latents.detach()
        noise = (latents - self.alpha * self.picture) / self.sigma
        return replace(self, latents=latents, noise=noise, key=fresh_key())

    def leaf(self) -> Noisy:
        """A copy whose ``latents`` gradients reach: predictions on it are computed with a graph.

        Raises:
            RuntimeError: the method did not say that it differentiates.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "a rule that takes gradients through the network says so: differentiates = True in its class"
            )
        return replace(self, latents=self.latents.detach().clone().requires_grad_(), key=fresh_key())


def fresh_key() -> Hashable:
    """A key that no other noisy latents have."""
    return "fresh", next(_fresh)
