"""CDS: contrastive denoising score, DDS and a contrastive loss on the network's own self-attention features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from methods.dds import DDS, DDSParams
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import DDS_LOSS_SCALE, parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.touch import Features, Site
    from piva_bench.session.step import Step


class CDSParams(DDSParams):
    """DDS's recipe and the loss's settings (HyelinNAM/ContrastiveDenoisingScore @ e3082ae)."""

    contrastive_weight: float = parameter(
        3.0,
        ge=0,
        le=1000,
        tune=(1.0, 3.0, 10.0),
        source="official code",
        description="w_cut; beside DDS's gradient times 2000 / 4096",
    )
    patches: int = parameter(
        256, ge=2, le=4096, source="official code", description="random places compared in each layer"
    )
    temperature: float = parameter(0.07, gt=0, le=10, source="official code", description="tau of the loss")


class CDS(DDS):
    """grad = DDS + (w_cut / scale) a_t d/dx_t l_con.

    l_con sums over the outputs of the up blocks' self-attentions, and over patches of 1 and 2 tokens, the PatchNCE
    loss (arXiv 2007.15651) as the official code has it (utils/loss.py, PatchNCELoss): by each place of the source
    branch the target branch's place is to be told from its others. The paper's equation, as CUT's, asks it the other
    way round. The official loss is not scaled as DDS's is: ``scale`` is DDS's factor, 2000 / 4096.
    """

    card = MethodCard(
        name="cds",
        version="2",
        title="CDS",
        paper="2311.18608",
        summary="DDS and a contrastive loss on self-attention features that keeps the source's structure.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="none stated (HyelinNAM/ContrastiveDenoisingScore)",
    )
    Params: ClassVar[type[DistillationParams]] = CDSParams
    params: CDSParams
    differentiates = True

    def gradient(self, step: Step) -> Tensor:
        """DDS and the gradient of the contrastive loss, from one pass of each branch."""
        import torch

        p = self.params
        kept: dict[str, dict[str, Tensor]] = {"source": {}, "target": {}}

        def keep(site: Site, rows: Mapping[str, Features]) -> None:
            if (site.kind, site.part, site.side) == ("self", "up", "out"):
                for name in kept.keys() & rows.keys():
                    kept[name][site.layer] = rows[name].out

        x = step.edit.leaf()
        eps = step.predict(
            {
                "target": Query(x, "target", p.guidance_scale),
                "source": Query(step.source, "source", p.guidance_scale),
            },
            keep,
        )
        loss = step.latents.new_zeros(len(step.latents))
        for layer, features in kept["target"].items():
            for patch in (1, 2):
                loss = loss + self._patch_nce(
                    step, f"{layer}/{patch}", kept["source"][layer], features, patch
                )
        (slope,) = torch.autograd.grad(loss.sum(), x.latents)
        step.scalars["contrastive_loss"] = loss.detach()
        return self.delta(step, eps) + p.contrastive_weight / DDS_LOSS_SCALE * x.alpha * slope

    def _patch_nce(self, step: Step, purpose: str, query: Tensor, key: Tensor, patch: int) -> Tensor:
        """The loss [R] of features [R, N, C], at random places of their grid: of each query among all keys."""
        import torch
        from torch.nn.functional import avg_pool2d, cross_entropy, normalize

        count, tokens, channels = query.shape
        height, width = step.latents.shape[-2:]
        shrunk = (height * width // tokens) ** 0.5

        def places(features: Tensor) -> Tensor:
            grid = features.transpose(1, 2).reshape(count, channels, round(height / shrunk), -1)
            pooled = avg_pool2d(grid.float(), patch) if min(grid.shape[2:]) >= patch else grid.float()
            return normalize(pooled.flatten(2).transpose(1, 2), dim=-1)

        query, key = places(query), places(key)
        order = step.random(step.index).uniform(purpose, (query.shape[1],)).argsort(dim=1)
        chosen = order[:, : self.params.patches, None].expand(-1, -1, channels)
        query, key = query.gather(1, chosen), key.gather(1, chosen)
        logits = query @ key.transpose(1, 2) / self.params.temperature
        own = torch.arange(logits.shape[1], device=logits.device).expand(count, -1)
        return cross_entropy(logits.transpose(1, 2), own, reduction="none").mean(dim=1)
