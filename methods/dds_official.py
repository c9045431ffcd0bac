"""DDS as its authors run it: their values stay, whatever recipe a profile has for the methods that share DDS's."""

from __future__ import annotations

from typing import ClassVar

from methods.dds import DDS, DDSParams
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, parameter


class DDSOfficialParams(DDSParams):
    """Of google/prompt-to-prompt, ``DDS_zeroshot.ipynb`` @ 9c472e4, in every profile."""

    steps: int = parameter(200, ge=1, le=100_000, source="official code", description="optimisation steps")
    guidance_scale: float = parameter(
        7.5, ge=0, le=1000, source="official code", description="guidance w of both branches"
    )


class DDSOfficial(DDS):
    """DDS's rule: 200 steps of SGD at guidance 7.5. Its records are DDS's at these values."""

    card = MethodCard(
        name="dds_official",
        title="DDS (official)",
        paper="2304.07090",
        summary="DDS with its authors' steps and guidance in place of the profile's recipe.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="Apache-2.0 (google/prompt-to-prompt)",
    )
    Params: ClassVar[type[DistillationParams]] = DDSOfficialParams

    @classmethod
    def canonical(cls, params: MethodParams) -> tuple[str, MethodParams]:
        """DDS at these values."""
        return DDS.card.name, DDSParams(**params.model_dump())
