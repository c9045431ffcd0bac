"""The noise schedule of a denoiser, and the moves along it that samplers are made of.

Noisy latents are x_t = alpha_t z + sigma_t eps at integer timesteps 0 .. T - 1. A diffusion model is variance
preserving (alpha = sqrt(abar), sigma = sqrt(1 - abar)), a rectified flow is the straight line (alpha = 1 - s,
sigma = s, s = t / T); everything here holds for both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Schedule:
    """alpha_t and sigma_t for every timestep.

    Args:
        alpha: [T].
        sigma: [T].
        shift: of a rectified flow's sampling grid, s' = shift s / (1 + (shift - 1) s); 1 is an even grid.

    """

    def __init__(self, alpha: Tensor, sigma: Tensor, shift: float = 1.0) -> None:
        self.alpha, self.sigma, self.shift = alpha, sigma, shift

    @classmethod
    def variance_preserving(cls, alphas_cumprod: Tensor) -> Schedule:
        """The schedule of a diffusion model, from abar_t [T]; in float64."""
        abar = alphas_cumprod.double()
        return cls(abar.sqrt(), (1 - abar).sqrt())

    @classmethod
    def rectified_flow(cls, length: int = 1000, shift: float = 1.0) -> Schedule:
        """The straight line between picture (t = 0) and noise (t = length, never reached); in float64."""
        s = torch.arange(length, dtype=torch.float64) / length
        return cls(1 - s, s, shift)

    def to(self, device: torch.device, dtype: torch.dtype) -> Schedule:
        """The same on a device, in a precision."""
        return Schedule(self.alpha.to(device, dtype), self.sigma.to(device, dtype), self.shift)

    def __len__(self) -> int:
        """T."""
        return len(self.alpha)

    def alpha_sigma(self, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """a_t and s_t, each [N, 1, 1, 1], of timesteps [N] or of one number (N = 1)."""
        t = torch.as_tensor(t, device=self.alpha.device).view(-1)
        return self.alpha[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """x_t = a_t z + s_t eps."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * latents + sigma * noise

    def grid(self, steps: int, skip: float = 0.0) -> list[int]:
        """Timesteps of a sampler with so many steps, from the noisiest down.

        Every (T / steps)-th timestep counted from 1, as the samplers of Stable Diffusion place them (diffusers:
        ``timestep_spacing="leading", steps_offset=1``); for a flow with a shift the shifted ones.

        Args:
            steps: of the whole grid.
            skip: share of them, from the noisiest, that is left out; one stays at least.

        Raises:
            ValueError: more steps than timesteps, or none.
        """
        if not 1 <= steps <= len(self):
            raise ValueError(f"a grid of {steps} steps on a schedule of {len(self)} timesteps")
        stride = len(self) // steps
        even = [min(index * stride + 1, len(self) - 1) for index in reversed(range(steps))]
        even = even[min(round(skip * steps), steps - 1) :]
        if self.shift == 1:
            return even
        shares = [t / len(self) for t in even]
        return [round(len(self) * self.shift * s / (1 + (self.shift - 1) * s)) for s in shares]

    @staticmethod
    def moves(grid: Sequence[int]) -> list[tuple[int, int | None]]:
        """Each timestep of a grid with the one that a sampler goes to from there; None is the picture."""
        return list(zip(grid, [*grid[1:], None], strict=True))

    def before(self, t: Tensor, steps: int) -> Tensor:
        """The timesteps [N] one step of a grid below these, never below 0."""
        return (t - len(self) // steps).clamp_min(0)

    def clean(self, noisy: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """The picture that a noise prediction implies, (x_t - s_t eps) / a_t."""
        alpha, sigma = self.alpha_sigma(t)
        return (noisy - sigma * eps) / alpha

    def ddim(self, noisy: Tensor, eps: Tensor, t: Tensor | int | None, to: Tensor | int | None) -> Tensor:
        """DDIM's deterministic move from timestep ``t`` to ``to`` (arXiv 2010.02502, eq. 12 with eta = 0).

        ``to`` may lie below (sampling) or above (inversion); None is the clean picture, on either side.
        """
        picture = noisy if t is None else self.clean(noisy, eps, t)
        if to is None:
            return picture
        alpha, sigma = self.alpha_sigma(to)
        return alpha * picture + sigma * eps

    def posterior(
        self, noisy: Tensor, eps: Tensor, t: Tensor | int, to: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """Mean [N, C, h, w] and deviation [N, 1, 1, 1] of q(x_to | x_t, z) for ``to`` < ``t``.

        Of a diffusion with the predicted picture for z (DDPM, arXiv 2006.11239, eq. 7); with r = a_t / a_to and
        s = s_t^2 - r^2 s_to^2 the mean is (r s_to^2 x_t + a_to s z) / s_t^2 and the variance s s_to^2 / s_t^2.
        """
        (alpha, sigma), (alpha_to, sigma_to) = self.alpha_sigma(t), self.alpha_sigma(to)
        ratio = alpha / alpha_to
        added = sigma**2 - (ratio * sigma_to) ** 2
        picture = (noisy - sigma * eps) / alpha
        mean = (ratio * sigma_to**2 * noisy + alpha_to * added * picture) / sigma**2
        return mean, (added.clamp_min(0) / sigma**2).sqrt() * sigma_to

    def flow_time(self, t: Tensor | int) -> Tensor:
        """S = sigma / (alpha + sigma) [N, 1, 1, 1]: where a timestep lies on the straight line, see ``flow_scale``."""
        alpha, sigma = self.alpha_sigma(t)
        return sigma / (alpha + sigma)

    def flow_scale(self, t: Tensor | int) -> Tensor:
        """Alpha + sigma [N, 1, 1, 1]: noisy latents divided by it are those of a rectified flow.

        y = x_t / (alpha + sigma) = (1 - s) z + s eps at s = ``flow_time``, where the velocity dy/ds is eps - z: so
        every noise predictor is a rectified flow after a change of variables.
        """
        alpha, sigma = self.alpha_sigma(t)
        return alpha + sigma
