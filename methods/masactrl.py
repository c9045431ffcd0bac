"""MasaCtrl: the target looks at the source, with the keys and values of its self attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.touch import Features, Site
    from piva_bench.session.session import Session


class MasaCtrlParams(MethodParams):
    """The settings of PIE-Bench's official table (cure-lab/PnPInversion, run_editing_masactrl.py @ 07f97f4)."""

    steps: int = parameter(50, ge=1, le=1000, source="official code", description="DDIM steps, down and up")
    inversion: Literal["ddim", "direct"] = parameter(
        "ddim", source="official code", description="what keeps the source's branch on its way back"
    )
    guidance_scale: float = parameter(
        7.5, ge=0, le=1000, source="official code", description="classifier-free guidance of the target"
    )
    first_step: float = parameter(
        0.08,
        ge=0,
        le=1,
        tune=(0.04, 0.08, 0.2),
        source="official code",
        description="share of steps before the target looks at the source (official: 4 of 50)",
    )
    first_layer: float = parameter(
        0.625,
        ge=0,
        le=1,
        source="official code",
        description="share of self-attention layers before those that look at the source (official: 10 of 16)",
    )


class MasaCtrl(SamplingMethod):
    """Mutual self attention: softmax(q k_src^T) v_src for the target, in later steps and layers of both guided halves.

    The source is inverted and sampled under "", so its branch is not guided.
    """

    card = MethodCard(
        name="masactrl",
        title="MasaCtrl",
        paper="2304.08465",
        summary="Samples the target from the source's inversion, with the source's keys and values.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(1.5, 3, 5, 7.5, 10)),
        idea_code_license="Apache-2.0 (TencentARC/MasaCtrl)",
    )
    Params = MasaCtrlParams
    params: MasaCtrlParams

    def sample(self, session: Session) -> Tensor:
        """Invert, then sample source and target side by side."""
        from piva_bench.sampling.inversion import invert

        p, schedule = self.params, session.schedule
        grid = schedule.grid(p.steps)
        layers = session.layers("self")
        mutual = set(layers[round(p.first_layer * len(layers)) :])
        inversion = invert(session, grid, p.inversion, 1.0, "null")
        source = target = inversion.way[0]
        for index, (t, to) in enumerate(session.track(schedule.moves(grid))):

            def touch(
                site: Site, rows: Mapping[str, Features], late: bool = index >= p.first_step * p.steps
            ) -> None:
                if late and site.side == "in" and site.layer in mutual:
                    for name in rows.keys() & {"target", "target/null"}:
                        rows[name].k, rows[name].v = rows["source"].k, rows["source"].v

            eps = session.predict(
                {
                    "source": Query(session.at("source", source, t), "null"),
                    "target": Query(session.at("edit", target, t), "target", p.guidance_scale),
                },
                touch,
            )
            source = inversion.source(index, schedule.ddim(source, eps["source"], t, to))
            target = schedule.ddim(target, eps["target"], t, to)
        return target
