"""What a plug-in needs, under one roof: ``from piva_bench.plugin import ...``.

Importing it loads nothing heavy; names of the session are found when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from piva_bench.data.dataset import Dataset, DatasetCard
from piva_bench.data.sample import Sample
from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import AdapterParams, AdapterSpec, AnnealedParams, DistillationParams
from piva_bench.errors import DataError, UserError
from piva_bench.method import EditMethod, EditOutcome, EditTask, MethodCard, Progress, Strength
from piva_bench.metrics.protocol import MetricInfo, MetricProtocol, Pair, Scores, Undefined
from piva_bench.params import LatentParams, MethodParams, ScheduledLatentParams, parameter
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query, Words

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.diffusion.schedule import Schedule
    from piva_bench.diffusion.touch import Features, Site, Touch
    from piva_bench.sampling.inversion import ddim_inversion
    from piva_bench.session.noisy import Noisy
    from piva_bench.session.session import Session
    from piva_bench.session.step import Step

__all__ = [
    "AdapterParams",
    "AdapterSpec",
    "AnnealedParams",
    "DataError",
    "Dataset",
    "DatasetCard",
    "Denoiser",
    "DistillationMethod",
    "DistillationParams",
    "EditMethod",
    "EditOutcome",
    "EditTask",
    "Features",
    "LatentParams",
    "MethodCard",
    "MethodParams",
    "MetricInfo",
    "MetricProtocol",
    "Noisy",
    "Pair",
    "Progress",
    "Query",
    "Sample",
    "SamplingMethod",
    "Schedule",
    "ScheduledLatentParams",
    "Scores",
    "Session",
    "Site",
    "Step",
    "Strength",
    "Tensor",
    "Touch",
    "Undefined",
    "UserError",
    "Words",
    "ddim_inversion",
    "parameter",
]

_HEAVY = {
    "Tensor": "torch",
    "Denoiser": "piva_bench.diffusion.denoiser",
    "Schedule": "piva_bench.diffusion.schedule",
    "Features": "piva_bench.diffusion.touch",
    "Site": "piva_bench.diffusion.touch",
    "Touch": "piva_bench.diffusion.touch",
    "ddim_inversion": "piva_bench.sampling.inversion",
    "Noisy": "piva_bench.session.noisy",
    "Session": "piva_bench.session.session",
    "Step": "piva_bench.session.step",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HEAVY:
        raise AttributeError(f"piva_bench.plugin has no {name}")
    return getattr(import_module(_HEAVY[name]), name)
