"""DRFS: delta rectified flow sampling (first called DVRF), between DDS and FlowEdit by one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from methods._walk import Walk, WalkParams
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step

HUMP = (10, 8)
"""Shape (a, b) of the official rates' hump."""


class DRFSParams(WalkParams):
    """gaspardbd/DeltaVelocityRectifiedFlow @ 8d53445, models/DVRF.py and exp.yaml."""

    steps: int = parameter(50, ge=1, le=1000, source="official code", description="timesteps that are walked")
    guidance_scale: float = parameter(
        16.5,
        embedded=5.0,
        ge=0,
        le=1000,
        tune=(5.0, 10.0, 16.5),
        source="official code",
        description="guidance of the target's velocity; embedded: that of its recipe",
    )
    source_guidance_scale: float = parameter(
        6.0,
        embedded=5.0,
        ge=0,
        le=1000,
        source="official code",
        description="of the source's; embedded: likewise",
    )
    shift: float = parameter(
        1.0,
        ge=0,
        le=10,
        source="official code",
        description="eta: 0 is DDS on a flow; constant at 1 FlowEdit",
    )
    shift_growth: Literal["linear", "constant"] = parameter(
        "linear", source="official code", description="eta_k = eta k / T, or eta at every step"
    )
    rates: Literal["hump", "euler"] = parameter(
        "hump",
        source="official code",
        description="length of the steps: a hump and a rising tail over the walk, or Euler's steps of the flow time",
    )
    rate: float = parameter(
        2.2, gt=0, le=100, source="official code", description="factor on the hump's rates"
    )


class DRFS(Walk):
    """z -= r_k { v^w(y_tgt, c_tgt) - v^w(y_src, c_src) + (1 - eta_k) (z - z_src) }.

    y_src = (1 - s) z_src + s n and y_tgt = (1 - s) z + s n + eta_k s (z - z_src) with a fresh n at every step. At
    eta = 0 it is DDS with the weight 1 / (1 - s); with a constant eta = 1 and Euler's lengths it is FlowEdit.
    """

    card = MethodCard(
        name="drfs",
        title="DRFS",
        paper="2509.05342",
        summary="The difference of two velocities with a shift that grows: from DDS on a flow to FlowEdit.",
        kind="distillation",
        strength=Strength(parameter="shift", values=(0, 0.25, 0.5, 0.75, 1)),
        idea_code_license="CC-BY-4.0 (gaspardbd/DeltaVelocityRectifiedFlow)",
    )
    Params: ClassVar[type[DistillationParams]] = DRFSParams
    params: DRFSParams

    def move(self, step: Step) -> Tensor:
        """The step of the walk, from four UNet rows."""
        p = self.params
        eta = p.shift * (self.place(step) / p.grid_steps if p.shift_growth == "linear" else 1)
        target, source = self.pair(step, eta)
        eps = step.predict(
            {
                "target": Query(target, "target", p.guidance_scale),
                "source": Query(source, "source", p.source_guidance_scale),
            }
        )
        velocity = target.velocity(eps["target"]) - source.velocity(eps["source"])
        rest = (1 - eta) * (step.latents - step.source_latents)
        return self.weight(source) * self.rate(step) * (velocity + rest)

    def rate(self, step: Step) -> Tensor | float:
        """r_k, Euler's or the official ``lr_hump_tail_beta``.

        That is ``rate`` ((d / 1.6 - d / 4) h(x) + d / 4 x) at x = k / (T + 27), with d the flow time between the two
        cleanest timesteps over 1.6, and h the hump x^(a - 1) (1 - x)^(b - 1) over its highest value.
        """
        p, grid = self.params, self.grid(step)
        if p.rates == "euler":
            return self.length(step)
        (a, b), x = HUMP, self.place(step) / (p.grid_steps + 27)
        top = (a - 1) / (a + b - 2)
        hump = (x / top) ** (a - 1) * ((1 - x) / (1 - top)) ** (b - 1)
        last = [step.schedule.flow_time(t) for t in grid[-2:]]
        d = (last[0] - last[-1]) / 1.6 if len(grid) > 1 else last[0] / 1.6
        return p.rate * ((d / 1.6 - d / 4) * hump + d / 4 * x)
