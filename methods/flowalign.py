"""FlowAlign: FlowEdit's walk with a pull that ends at the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from methods._walk import Walk, WalkParams
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class FlowAlignParams(WalkParams):
    """The paper's scale and weight; steps of FlowAlign/FlowAlign @ 29c6fe1, whose own scale is 13.5."""

    steps: int = parameter(
        33, ge=1, le=1000, source="official code", description="timesteps that are walked: all"
    )
    grid_steps: int = parameter(
        33, ge=1, le=1000, source="official code", description="T, timesteps of the grid, as of a sampler"
    )
    guidance_scale: float = parameter(
        7.5,
        embedded=5.0,
        ge=0,
        le=1000,
        source="paper",
        description="guidance from the source prompt's to the target prompt's velocity on the edit",
    )
    terminal_weight: float = parameter(
        0.01,
        ge=0,
        le=10,
        tune=(0.0, 0.01, 0.1),
        source="paper",
        description="zeta: weight of the pull to the source's picture",
    )


class FlowAlign(Walk):
    """z -= (s_k - s_k+1) (v_p - v_q) + zeta [(p - s v_p) - (q - s v_q)].

    q = (1 - s) z_src + s n with a fresh n at every step, p = q + z - z_src; v_q = v(q, c_src) without guidance and
    v_p = v(p, c_src) + w (v(p, c_tgt) - v(p, c_src)). The second term pulls the picture that the edit's velocity ends
    at to that of the source's. Written as a rule, a step of the walk moves a scene as well.
    """

    card = MethodCard(
        name="flowalign",
        title="FlowAlign",
        paper="2505.23145",
        summary="The difference of two velocities, and a pull of the edit's end to the source's.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 13.5)),
        idea_code_license="none stated (FlowAlign/FlowAlign)",
    )
    Params: ClassVar[type[DistillationParams]] = FlowAlignParams
    params: FlowAlignParams

    def move(self, step: Step) -> Tensor:
        """The step of the walk, from three UNet rows."""
        edit, source = self.pair(step, 1.0)
        eps = step.predict(
            {
                "edit": Query(edit, "target", self.params.guidance_scale, negative="source"),
                "source": Query(source, "source"),
            }
        )
        velocity = edit.velocity(eps["edit"]) - source.velocity(eps["source"])
        terminal = edit.clean(eps["edit"]) - source.clean(eps["source"])
        return self.weight(source) * (self.length(step) * velocity + self.params.terminal_weight * terminal)
