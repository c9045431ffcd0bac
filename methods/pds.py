"""PDS: posterior distillation sampling, which matches the stochastic latents of source and edit.

With the scale and grid of the official code for scenes; ``pds_2d`` has its authors' settings for pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Prompt, Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.noisy import Noisy
    from piva_bench.session.step import Step


class PDSParams(DistillationParams):
    """The official scale and timesteps (KAIST-Visual-AI-Group/PDS, pds/pds.py @ e4e0da3); DDS's optimiser."""

    guidance_scale: float = parameter(
        100.0,
        ge=0,
        le=1000,
        source="official code",
        description="classifier-free guidance w of both branches",
    )
    t_min: int = parameter(21, ge=0, le=999, source="official code", description="lowest timestep drawn")
    t_max: int = parameter(979, ge=0, le=999, source="official code", description="highest timestep drawn")
    grid_steps: int = parameter(
        500,
        ge=1,
        le=500,
        source="official code",
        description="steps of the grid whose neighbours are compared. On a grid of all 1000 timesteps the pull to the "
        "source is exactly 0 and the method is a weighted DDS",
    )


class PDS(DistillationMethod):
    """grad = z~(z, c_tgt) - z~(z_src, c_src), z~ = (x_before - mu(x_t, eps^w)) / sigma, both noises shared.

    mu and sigma are those of the official code: of a single timestep's beta, although x_before is a grid step below.
    Written out: grad = psi(t) (z - z_src) + chi(t) (eps^w_tgt - eps^w_src) with psi > 0 for that reason alone.
    """

    card = MethodCard(
        name="pds",
        title="PDS",
        paper="2311.13831",
        summary="Matches the stochastic latents of source and edit: DDS with a pull to the source, by timestep.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(5, 10, 25, 50, 100)),
        idea_code_license="none stated (KAIST-Visual-AI-Group/PDS)",
    )
    Params: ClassVar[type[DistillationParams]] = PDSParams
    params: PDSParams

    def timesteps(self, index: int) -> range:
        """Those of the grid: one in two of a thousand."""
        return range(self.params.t_min, self.params.t_max + 1, 1000 // self.params.grid_steps)

    @property
    def negative(self) -> Prompt:
        """What both branches are guided away from."""
        return "null"

    def gradient(self, step: Step) -> Tensor:
        """The difference of the stochastic latents."""
        guidance, negative = self.params.guidance_scale, self.negative
        eps = step.predict(
            {
                "target": Query(step.edit, "target", guidance, negative),
                "source": Query(step.source, "source", guidance, negative),
            }
        )
        before = step.schedule.before(step.edit.t, self.params.grid_steps)
        noise = step.random(step.index).noise("before/noise")
        edit, source = step.noisy("edit", before, noise), step.noisy("source", before, noise)
        target = self.stochastic_latent(step, step.edit, edit, eps["target"])
        return target - self.stochastic_latent(step, step.source, source, eps["source"])

    @staticmethod
    def stochastic_latent(step: Step, noisy: Noisy, before: Noisy, eps: Tensor) -> Tensor:
        """z~ [R, C, h, w] of noisy latents and those a grid step below (``pds.py: compute_posterior_mean``)."""
        alpha_one, _ = step.schedule.alpha_sigma((noisy.t - 1).clamp_min(0))
        ratio = (noisy.alpha / alpha_one) ** 2  # alpha_t of the single step, 1 - beta_t
        beta, variance, variance_before = 1 - ratio, noisy.sigma**2, before.sigma**2
        mean = (
            before.alpha * beta * noisy.clean(eps) + ratio.sqrt() * variance_before * noisy.latents
        ) / variance
        deviation = (variance_before / variance * beta).sqrt()
        return (before.latents - mean) / deviation
