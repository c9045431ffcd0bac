"""What a plug-in needs, under one roof: ``from piva_bench.plugin import ...``.

Importing it loads nothing heavy; names of the session are found when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from piva_bench.data.dataset import Dataset, DatasetCard
from piva_bench.data.sample import Sample
from piva_bench.distillation.method import DistillationMethod
from piva_bench.distillation.params import AdapterParams, AdapterSpec, AnnealedParams, DistillationParams
from piva_bench.errors import DataError, ModelError, UserError
from piva_bench.method import (
    EditMethod,
    EditOutcome,
    EditTask,
    MethodCard,
    OnStep,
    Progress,
    SceneOutcome,
    SceneTask,
    Strength,
)
from piva_bench.metrics.protocol import (
    MetricInfo,
    MetricProtocol,
    Pair,
    Pixels,
    Scores,
    Undefined,
    ViewsPair,
    fingerprint,
)
from piva_bench.params import LatentParams, MethodParams, ScheduledLatentParams, parameter
from piva_bench.profiles import Profile
from piva_bench.sampling.method import SamplingMethod
from piva_bench.scene.params import FieldEditParams, FieldParams
from piva_bench.session.query import Query, Words

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.diffusion.schedule import Schedule
    from piva_bench.diffusion.touch import Features, Site, Touch
    from piva_bench.sampling.inversion import Inversion, InversionName, ddim_inversion, invert
    from piva_bench.session.noisy import Noisy
    from piva_bench.session.session import Random, Session
    from piva_bench.session.step import Draw, Step

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
    "Draw",
    "EditMethod",
    "EditOutcome",
    "EditTask",
    "Features",
    "FieldEditParams",
    "FieldParams",
    "Inversion",
    "InversionName",
    "LatentParams",
    "MethodCard",
    "MethodParams",
    "MetricInfo",
    "MetricProtocol",
    "ModelError",
    "Noisy",
    "OnStep",
    "Pair",
    "Pixels",
    "Profile",
    "Progress",
    "Query",
    "Random",
    "Sample",
    "SamplingMethod",
    "SceneOutcome",
    "SceneTask",
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
    "ViewsPair",
    "Words",
    "ddim_inversion",
    "fingerprint",
    "invert",
    "parameter",
]

_HEAVY = {
    "Tensor": "torch",
    "Denoiser": "piva_bench.diffusion.denoiser",
    "Schedule": "piva_bench.diffusion.schedule",
    "Features": "piva_bench.diffusion.touch",
    "Site": "piva_bench.diffusion.touch",
    "Touch": "piva_bench.diffusion.touch",
    "Inversion": "piva_bench.sampling.inversion",
    "InversionName": "piva_bench.sampling.inversion",
    "ddim_inversion": "piva_bench.sampling.inversion",
    "invert": "piva_bench.sampling.inversion",
    "Noisy": "piva_bench.session.noisy",
    "Random": "piva_bench.session.session",
    "Session": "piva_bench.session.session",
    "Draw": "piva_bench.session.step",
    "Step": "piva_bench.session.step",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HEAVY:
        raise AttributeError(f"piva_bench.plugin has no {name}")
    return getattr(import_module(_HEAVY[name]), name)


def __dir__() -> list[str]:
    return __all__
