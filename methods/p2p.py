"""Prompt-to-prompt: source and target are sampled from an inversion side by side, the target with the source's maps."""

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

SELF_TOKENS, MAP_TOKENS = 1024, 256
"""Self attention is swapped, and LocalBlend looks, where there are no more places than this: 32 x 32 and 16 x 16."""


class P2PParams(MethodParams):
    """The settings of PIE-Bench's official table (cure-lab/PnPInversion, run_editing_p2p.py @ 07f97f4)."""

    steps: int = parameter(50, ge=1, le=1000, source="official code", description="DDIM steps, down and up")
    inversion: Literal["ddim", "negative_prompt", "null_text", "direct"] = parameter(
        "ddim", source="official code", description="what keeps the source's branch on its way back"
    )
    guidance_scale: float = parameter(
        7.5, ge=0, le=1000, source="official code", description="classifier-free guidance of both branches"
    )
    control: Literal["refine", "replace"] = parameter(
        "refine",
        source="official code",
        description="words that share attention: those in both prompts, or also a word swapped for another",
    )
    cross_replace: float = parameter(
        0.4,
        ge=0,
        le=1,
        tune=(0.2, 0.4, 0.8),
        source="official code",
        description="share of steps with the source's cross attention",
    )
    self_replace: float = parameter(
        0.6,
        ge=0,
        le=1,
        tune=(0.2, 0.4, 0.6),
        source="official code",
        description="share of steps with the source's self attention",
    )
    reweight: float = parameter(
        2,
        ge=0,
        le=100,
        source="official code",
        description="factor on attention to the target's blended words while cross attention is the source's",
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
        title="P2P",
        paper="2208.01626",
        summary="Inverts the source and samples it again as the target under the source's attention.",
        kind="sampling",
        strength=Strength(parameter="guidance_scale", values=(1.5, 3, 5, 7.5, 10)),
        idea_code_license="Apache-2.0 (google/prompt-to-prompt)",
        version="2",
    )
    Params = P2PParams
    params: P2PParams
    differentiates = True  # null-text inversion learns embeddings

    def sample(self, session: Session) -> Tensor:
        """Invert, then sample source and target side by side."""
        from piva_bench.sampling.attention import AttentionSwap, LocalBlend
        from piva_bench.sampling.inversion import invert

        p, schedule, w = self.params, session.schedule, self.params.guidance_scale
        grid = schedule.grid(p.steps)
        inversion = invert(session, grid, p.inversion, w)
        source = target = inversion.way[0]
        swap = AttentionSwap(session, SELF_TOKENS, swapped=p.control == "replace", reweight=p.reweight)
        blend = LocalBlend(session, MAP_TOKENS)
        for index, (t, to) in enumerate(session.track(schedule.moves(grid))):

            def touch(site: Site, rows: Mapping[str, Features], done: float = index / p.steps) -> None:
                blend.look(site, rows)
                swap(site, rows, cross=done < p.cross_replace, own=done < p.self_replace)

            null = inversion.negatives[index]
            eps = session.predict(
                {
                    "source": Query(session.at("source", source, t), "source", w, null),
                    "target": Query(session.at("edit", target, t), "target", w, null),
                },
                touch,
            )
            source = inversion.source(index, schedule.ddim(source, eps["source"], t, to))
            target = schedule.ddim(target, eps["target"], t, to)
            if p.blend_threshold and index >= p.steps // 5:  # official: start_blend 0.2
                target = source + blend.mask(p.blend_threshold) * (target - source)
        return target
