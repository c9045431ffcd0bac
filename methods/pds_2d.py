"""PDS with its authors' settings for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from methods.pds import PDS, PDSParams
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, ScheduledLatentParams, parameter
from piva_bench.scene.params import FieldEditParams
from piva_bench.session.query import Prompt, Words


class PDS2DLatents(ScheduledLatentParams):
    """AdamW without decay, warm-up and cosine (the course's ``main.py``; horizon 1.5 times its 500 steps)."""

    warmup_steps: int = parameter(
        100,
        embedded=10,
        ge=0,
        le=100_000,
        source="official code",
        description="steps over which the rate rises from 0; embedded: the same share of its 50 steps",
    )
    cosine_steps: int = parameter(
        750,
        embedded=75,
        ge=0,
        le=1_000_000,
        source="official code",
        description="step at which the rate has fallen to 0; embedded: 1.5 times its 50 steps, too",
    )


class PDS2DParams(PDSParams):
    """KAIST-Visual-AI-Group/Diffusion-Assignment4-Distillation @ 1f2451b, on the grid of PDS's ``pds.py``."""

    steps: int = parameter(
        500, embedded=50, ge=1, le=100_000, source="official code", description="optimisation steps"
    )
    guidance_scale: float = parameter(
        7.5, embedded=5.0, ge=0, le=1000, source="official code", description="guidance w of both branches"
    )
    negative_prompt: str = parameter(
        "low quality",
        embedded="",
        source="official code",
        description="what both branches are guided away from; the embedded model has not learnt such words",
    )


class PDS2D(PDS):
    """PDS's rule. Optimiser, schedule, guidance, steps and negative prompt are from its laboratory's course.

    The course writes neighbouring timesteps, on which the pull to the source is exactly 0 and PDS is a weighted DDS;
    the grid of 500 is that of ``pds.py``.
    """

    card = MethodCard(
        name="pds_2d",
        title="PDS (2D)",
        paper="2311.13831",
        summary="PDS as its laboratory runs it on pictures: modest guidance, Adam with warm-up and cosine.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 15)),
        idea_code_license="MIT (KAIST-Visual-AI-Group/Diffusion-Assignment4-Distillation)",
    )
    Params: ClassVar[type[DistillationParams]] = PDS2DParams
    params: PDS2DParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": PDS2DLatents, "scenes": FieldEditParams}

    @property
    def negative(self) -> Prompt:
        """What both branches are guided away from."""
        return Words(self.params.negative_prompt) if self.params.negative_prompt else "null"
