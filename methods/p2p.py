"""Prompt-to-prompt on DDIM inversion: the target is sampled with the source's attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.touch import Features, Site
    from piva_bench.session.session import Session

MAP_TOKENS = 256
"""Attention is swapped and blended where the network looks at no more places than this (the official 16 x 16)."""


class P2PParams(MethodParams):
    """The settings of PIE-Bench's official table (cure-lab/PnPInversion, models/p2p_editor.py @ 07f97f4)."""

    steps: int = parameter(50, ge=1, le=1000, source="official code", description="DDIM steps, down and up")
    guidance_scale: float = parameter(
        7.5, ge=0, le=1000, source="official code", description="classifier-free guidance of both branches"
    )
    cross_replace: float = parameter(
        0.4,
        ge=0,
        le=1,
        source="official code",
        description="share of steps with the source's cross attention",
    )
    self_replace: float = parameter(
        0.6, ge=0, le=1, source="official code", description="share of steps with the source's self attention"
    )
    blend_threshold: float = parameter(
        0.3,
        ge=0,
        le=1,
        source="official code",
        description="LocalBlend: what attends to the blended words less than this share of the most is the source's; "
        "0 leaves blending out",
    )


class P2P(SamplingMethod):
    """Both branches are sampled from the source's inversion; attention maps of shared words are the source's."""

    card = MethodCard(
        name="p2p",
        title="DDIM + P2P",
        paper="2208.01626",
        summary="Inverts the source by DDIM and samples it again as the target under the source's attention.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(1.5, 3, 5, 7.5, 10)),
        idea_code_license="Apache-2.0 (google/prompt-to-prompt)",
    )
    Params = P2PParams
    params: P2PParams

    def sample(self, session: Session) -> Tensor:
        """Invert, then sample source and target side by side."""
        from piva_bench.sampling.attention import AttentionSwap, LocalBlend
        from piva_bench.sampling.inversion import ddim_inversion

        p, schedule = self.params, session.schedule
        grid = schedule.grid(p.steps)
        source = target = ddim_inversion(session, grid)[0]
        swap, blend = AttentionSwap(session, MAP_TOKENS), LocalBlend(session, MAP_TOKENS)
        for index, (t, to) in enumerate(session.track(list(zip(grid, [*grid[1:], None], strict=True)))):

            def touch(site: Site, rows: Mapping[str, Features], done: float = index / p.steps) -> None:
                blend.look(site, rows)
                swap(site, rows, cross=done < p.cross_replace, own=done < p.self_replace)

            eps = session.predict(
                {
                    "source": Query(session.at("source", source, t), "source", p.guidance_scale),
                    "target": Query(session.at("edit", target, t), "target", p.guidance_scale),
                },
                touch,
            )
            source = schedule.ddim(source, eps["source"], t, to)
            target = schedule.ddim(target, eps["target"], t, to)
            if p.blend_threshold and index >= p.steps // 5:  # official: start_blend 0.2
                target = source + blend.mask(p.blend_threshold) * (target - source)
        return target
