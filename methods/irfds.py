"""iRFDS: the noise that a flow carries to the source is learnt, and carried to the target instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.session import Session

DRAWS = 2
"""Timesteps whose gradients make one step (official: accumulation over two)."""


class IRFDSParams(MethodParams):
    """The settings for Stable Diffusion 3 (yangxiaofeng/rectified_flow_prior, 2dplayground_iRFDS_sd3.py @ 235e39f)."""

    steps: int = parameter(
        1400, ge=1, le=100_000, source="official code", embedded=200, description="steps of Adam on the noise"
    )
    learning_rate: float = parameter(
        2e-3, gt=0, le=100, source="official code", embedded=1e-2, description="Adam's"
    )
    source_guidance_scale: float = parameter(
        1, ge=0, le=1000, source="official code", description="guidance of the source's velocity"
    )
    sampling_steps: int = parameter(
        15,
        ge=1,
        le=1000,
        source="official code",
        description="of the way to the target; timesteps drawn are its",
    )
    guidance_scale: float = parameter(
        2, ge=0, le=1000, source="official code", description="guidance of the target's velocity"
    )


class IRFDS(SamplingMethod):
    """min over n of mean (n - (z_src + v(x_s, c_src)))^2 + mean(n)^2 + (var(n) - 1)^2 with x_s = (1 - s) z_src + s n.

    It starts from n = z_src and takes v as constant; Euler's steps from n under the target prompt follow. Mean and
    variance are over a picture's latents. The first of Euler's steps, from s = 1, takes its velocity at the noisiest
    timestep of the grid.
    """

    card = MethodCard(
        name="irfds",
        title="iRFDS",
        paper="2406.03293",
        summary="Learns the noise that a flow carries to the source, then samples the target from it.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(1, 2, 3.5, 5, 7.5)),
        idea_code_license="none stated (yangxiaofeng/rectified_flow_prior)",
    )
    Params = IRFDSParams
    params: IRFDSParams
    differentiates = True

    def sample(self, session: Session) -> Tensor:
        """Learn, then sample."""
        import torch

        from piva_bench.sampling.flow import times, velocity

        p, source = self.params, session.source_latents
        grid = session.schedule.grid(p.sampling_steps)
        noise = source.clone().requires_grad_()
        optimizer = torch.optim.Adam([noise], lr=p.learning_rate)
        for index in session.track(range(p.steps)):
            gradient = torch.zeros_like(source)
            for draw in range(DRAWS):
                places = session.random(index).timesteps(f"t/{draw}", range(len(grid)))
                noisy = session.mixed("edit", source, torch.tensor(grid).to(places)[places], noise.detach())
                eps = session.predict({"source": Query(noisy, "source", p.source_guidance_scale)})["source"]
                wanted = source + noisy.velocity(eps)
                with torch.enable_grad():
                    flat = noise.flatten(1)
                    loss = (noise - wanted).square().flatten(1).mean(dim=1)
                    loss = loss + flat.mean(dim=1) ** 2 + (flat.var(dim=1) - 1) ** 2
                    gradient = gradient + torch.autograd.grad(loss.sum(), noise)[0] / DRAWS
            noise.grad = gradient
            optimizer.step()
        point, falling = noise.detach(), [1.0, *times(session, grid)[1:]]
        for index, t in enumerate(grid):
            v = velocity(session, "edit", point, t, "target", p.guidance_scale)
            point = point + (falling[index + 1] - falling[index]) * v
        return point
