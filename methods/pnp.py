"""Plug-and-Play: the target is sampled with the source's features and self attention in the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query, Words

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.touch import Features, Site
    from piva_bench.session.session import Session

FIRST_LAYER = 4 / 12
"""Stable Diffusion's decoder has 12 layers; features are those of layer 4, attention those of the layers 4 to 11."""


class PnPParams(MethodParams):
    """The settings of PIE-Bench's official table (cure-lab/PnPInversion, run_editing_pnp.py @ 07f97f4)."""

    steps: int = parameter(50, ge=1, le=1000, source="official code", description="DDIM steps, down and up")
    inversion: Literal["ddim", "direct"] = parameter(
        "ddim", source="official code", description="what keeps the source's branch on its way back"
    )
    guidance_scale: float = parameter(
        7.5, ge=0, le=1000, source="official code", description="classifier-free guidance of the target"
    )
    feature_share: float = parameter(
        0.8,
        ge=0,
        le=1,
        tune=(0.6, 0.8, 1.0),
        source="official code",
        description="share of steps with the source's features",
    )
    attention_share: float = parameter(
        0.5,
        ge=0,
        le=1,
        tune=(0.3, 0.5, 0.7),
        source="official code",
        description="share of steps with the source's self attention",
    )
    negative_prompt: str = parameter(
        "ugly, blurry, black, low res, unrealistic",
        source="official code",
        embedded="",
        description="what guidance leads away from; the embedded model knows none of these words",
    )


class PnP(SamplingMethod):
    """DDIM's inversion and sampling of the source under "", whose features f_4 and q, k of the layers 4 to 11 are
    injected into both halves of the guided target: out <- out_src, softmax(q_src k_src^T) v.
    """

    card = MethodCard(
        name="pnp",
        title="Plug-and-Play",
        paper="2211.12572",
        summary="Samples the target with the source's decoder features and self-attention maps.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(1.5, 3, 5, 7.5, 10)),
        idea_code_license="MIT (MichalGeyer/pnp-diffusers)",
    )
    Params = PnPParams
    params: PnPParams

    def sample(self, session: Session) -> Tensor:
        """Invert, then sample source and target side by side."""
        from piva_bench.sampling.inversion import invert

        p, schedule = self.params, session.schedule
        grid = schedule.grid(p.steps)
        blocks = [name for name in session.layers("residual") if name.startswith("up_blocks")]
        features, *_ = layers = blocks[round(FIRST_LAYER * len(blocks)) :]
        places = {_place(name) for name in layers}
        maps = {name for name in session.layers("self") if name.startswith("up_") and _place(name) in places}
        inversion = invert(session, grid, p.inversion, 1.0, "null")
        source = target = inversion.way[0]
        for index, (t, to) in enumerate(session.track(schedule.moves(grid))):

            def touch(site: Site, rows: Mapping[str, Features], done: float = index / p.steps) -> None:
                for half in rows.keys() & {"target", "target/null"}:
                    if site.layer == features and done < p.feature_share:
                        rows[half].out = rows["source"].out
                    if site.layer in maps and site.side == "in" and done < p.attention_share:
                        rows[half].probabilities = rows["source"].probabilities

            eps = session.predict(
                {
                    "source": Query(session.at("source", source, t), "null"),
                    "target": Query(
                        session.at("edit", target, t), "target", p.guidance_scale, Words(p.negative_prompt)
                    ),
                },
                touch,
            )
            source = inversion.source(index, schedule.ddim(source, eps["source"], t, to))
            target = schedule.ddim(target, eps["target"], t, to)
        return target


def _place(layer: str) -> tuple[str, str]:
    """Block and place in it: attention 1 of block 2 belongs to residual block 1 of block 2."""
    _, block, _, place, *_ = layer.split(".")
    return block, place
