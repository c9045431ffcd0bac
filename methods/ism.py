"""ISM: interval score matching (LucidDreamer), started from the source."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from methods._climb import climb
from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import DistillationParams
from piva_bench.method import MethodCard, Strength
from piva_bench.params import parameter
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.session.step import Step


class ISMParams(DistillationParams):
    """EnVision-Research/LucidDreamer @ 2ecf093 (guidance/sd_utils.py, arguments, train.py); DDS's optimiser."""

    t_min: int = parameter(20, ge=0, le=999, source="official code", description="lowest timestep drawn")
    t_max: int = parameter(
        500, ge=0, le=999, source="official code", description="highest timestep drawn after the warm-up"
    )
    t_max_start: int = parameter(
        980, ge=0, le=999, source="official code", description="highest timestep drawn at the first step"
    )
    interval: int = parameter(
        80, ge=1, le=999, source="official code", description="delta_t = t - s after the warm-up"
    )
    interval_start: int = parameter(
        100, ge=1, le=999, source="official code", description="delta_t at the first step"
    )
    warmup_steps: int = parameter(
        1500,
        embedded=15,
        ge=0,
        le=100_000,
        source="official code",
        description="steps over which t_max_start and interval_start go to their later values",
    )
    stride: int = parameter(
        200, ge=1, le=999, source="official code", description="timesteps of a hop on the way to s"
    )


class ISM(DistillationMethod):
    """grad = w(t) (eps^w(x_t, t, c_tgt) - eps(x_s, s, null)), w(t) = s_t / a_t, s = t - delta_t.

    x_s comes by DDIM's inversion of the edit under the null prompt, in hops of ``stride``, and x_t from it by one
    more: the two predictions lie on one path, where SDS compares a prediction with noise of its own. The rule knows
    the source as the edit's start alone. Left out: the flip augmentation and the noise's channel offset.
    """

    card = MethodCard(
        name="ism",
        title="ISM",
        paper="2311.11284",
        summary="SDS along the picture's own inversion: two scores an interval apart, no random residual.",
        kind="distillation",
        strength=Strength(parameter="guidance_scale", values=(2, 3, 5, 7.5, 10)),
        idea_code_license="MIT (EnVision-Research/LucidDreamer)",
    )
    Params: ClassVar[type[DistillationParams]] = ISMParams
    params: ISMParams

    def warmth(self, index: int) -> float:
        """Share of the warm-up that is left."""
        return max(0.0, 1 - index / self.params.warmup_steps) if self.params.warmup_steps else 0.0

    def timesteps(self, index: int) -> range:
        """A range whose upper end falls during the warm-up, or rises where t_max_start is lower."""
        p = self.params
        last = p.t_max + int((p.t_max_start - p.t_max) * self.warmth(index))
        return range(min(p.t_min, last), last + 1)

    def gradient(self, step: Step) -> Tensor:
        """The difference of the path's two predictions."""
        p, random = self.params, step.random(step.index)
        among = self.timesteps(step.index)
        interval = p.interval + math.ceil((p.interval_start - p.interval) * self.warmth(step.index))
        t = random.timesteps("edit/t", among)
        s = (t - interval).clamp_min(0)
        # As many hops as the noisiest row can need, so that an edit's cost does not depend on its batch.
        hops = math.ceil(max(among[-1] - interval, 0) / p.stride)
        times = [s.clamp_max(p.stride * (hop + 1)) for hop in range(hops)]
        x_s = climb(step, step.noisy("edit", 0, random.noise("edit/noise")), times, "null")
        eps_s = step.predict({"null": Query(x_s, "null")})["null"]
        x_t = step.at("edit", step.schedule.ddim(x_s.latents, eps_s, s, t), t)
        eps_t = step.predict({"target": Query(x_t, "target", p.guidance_scale)})["target"]
        return self.weight(x_t) * x_t.sigma / x_t.alpha * (eps_t - eps_s)
