"""SDI: score distillation by reparametrised DDIM, started from the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from methods._climb import climb
from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import AnnealedParams, DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import MethodParams, ScheduledLatentParams, parameter
from piva_bench.scene.params import FieldEditParams
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class SDILatents(ScheduledLatentParams):
    """Adam at 0.1, as in the 2D notebook; in the embedded profile DDS's gradient descent.

    On its few, small latents every step of Adam is a step of noise: at 0.03 already the background is lost.
    """

    optimizer: Literal["sgd", "adam"] = parameter(
        "adam", embedded="sgd", source="official code", description="optimiser of the latents"
    )


class SDIParams(AnnealedParams):
    """threestudio @ 28d9d80, ``configs/sdi.yaml`` and its 2D notebook.

    Its scales add s (text - null) to the text's prediction; ours are the usual w = s + 1.
    """

    steps: int = parameter(
        1000, embedded=50, ge=1, le=100_000, source="official code", description="optimisation steps"
    )
    guidance_scale: float = parameter(
        8.5,
        embedded=5.0,
        ge=0,
        le=1000,
        source="official code",
        description="guidance w of the prediction (official s 7.5)",
    )
    t_min: int = parameter(250, ge=0, le=999, source="official code", description="lowest timestep")
    t_max: int = parameter(980, ge=0, le=999, source="official code", description="highest timestep")
    inversion_steps: int = parameter(
        10,
        ge=1,
        le=1000,
        source="official code",
        description="hops of an inversion of the whole schedule; one up to t takes its share of them",
    )
    inversion_guidance_scale: float = parameter(
        -6.5,
        embedded=-3.0,
        ge=-1000,
        le=1000,
        source="official code",
        description="guidance w of the inversion (official s -7.5); embedded: as far below 1 as its guidance allows",
    )
    inversion_eta: float = parameter(
        0.3,
        ge=0,
        le=1,
        source="official code",
        description="noise added by a hop, in deviations of its posterior",
    )


class SDI(DistillationMethod):
    """grad = z - clean(x_t, eps^w(x_t, t, c_tgt)), x_t = a_t z + s_t kappa, with kappa found by inverting z to t.

    The inversion goes up a fixed grid and then to t + delta, delta random within a hop; kappa is the noise in what it
    ends at, used at t. The rule knows the source as the edit's start alone. Left out: Perp-Neg.
    """

    card = MethodCard(
        name="sdi",
        title="SDI",
        paper="2405.15891",
        summary="SDS with the noise that inverting the picture finds; the picture follows its own DDIM path.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(1.5, 3, 5, 8.5, 12)),
        idea_code_license="Apache-2.0 (threestudio)",
    )
    Params: ClassVar[type[DistillationParams]] = SDIParams
    params: SDIParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {
        "pictures": SDILatents,
        "scenes": FieldEditParams,
    }
    prefix = False

    def gradient(self, step: Step) -> Tensor:
        """From the picture to what the model makes of it."""
        import torch

        p, random, last = self.params, step.random(step.index), len(step.schedule) - 1
        stride, among = len(step.schedule) // p.inversion_steps, self.timesteps(step.index)
        t = random.timesteps("edit/t", among)
        end = (t + (random.uniform("delta") * stride).long()).clamp_max(last)
        # The grid below the noisiest timestep that this step can have; a row stays once it has come to its end.
        times = [torch.where(t > on_grid, on_grid, end) for on_grid in range(1, among[-1], stride)]
        start = step.at("edit", step.latents, 0)
        found = climb(step, start, [*times, end], "target", p.inversion_guidance_scale, eta=p.inversion_eta)
        kappa = (found.latents - found.alpha * step.latents) / found.sigma
        x = step.noisy("edit", t, kappa)
        eps = step.predict({"target": Query(x, "target", p.guidance_scale)})["target"]
        return self.weight(x) * (step.latents - x.clean(eps))
