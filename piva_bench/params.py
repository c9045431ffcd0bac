"""Parameters of methods: bounded values that say what they do and where their default comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Source = Literal["paper", "official code", "seed", "assumed"]
"""Where a default comes from: paper, official code, a summary of the paper, or our choice."""


DDS_LOSS_SCALE = 2000 / 4096
"""Factor on the gradient in the official DDS notebook (google/prompt-to-prompt, ``DDS_zeroshot.ipynb``)."""


class MethodParams(BaseModel):
    """Base of a method's parameters: every field has bounds, a description and the source of its default.

    Attributes:
        recipe: whether these are parameters that many methods share, whose defaults a profile may replace. What a
            method declares itself stays as it says.
        stamp: what a record holds beside the values: the version of the code that reads them, once it has changed, and
            what parameters that are no more stood at, so that the keys of edits without them stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    recipe: ClassVar[bool] = False
    stamp: ClassVar[Mapping[str, Any]] = {}

    def recorded(self) -> dict[str, Any]:
        """The values that a record holds, as plain JSON values; see ``absent`` of ``parameter``."""
        extras = {name: info.json_schema_extra for name, info in type(self).model_fields.items()}
        absent = {
            n: extra["absent"] for n, extra in extras.items() if isinstance(extra, dict) and "absent" in extra
        }
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in absent or absent[name] != value}

    @field_validator("*", mode="before")
    @classmethod
    def _number_means_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1; somebody who writes ``steps=true`` does not mean one step."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("write a number, not true or false")
        return value


def parameter(
    default: Any,
    *,
    source: Source,
    description: str,
    embedded: Any = None,
    paper: Any = None,
    absent: Any = None,
    tune: Sequence[Any] = (),
    **bounds: Any,
) -> Any:
    """A field of ``MethodParams``.

    Args:
        default: in every profile that has none of its own.
        source: where the default comes from.
        description: what it does, in a few words.
        embedded: default in the profile of this name; None if it is the general one.
        paper: likewise.
        absent: value of records that were made before there was such a parameter: it is left out of records, so that
            their keys stay.
        tune: the values that ``piva-bench tune`` tries; none where the default is not to be chosen by it.
        **bounds: of numbers, ``ge``, ``gt``, ``le``, ``lt``.
    """
    profiles = {
        name: value for name, value in (("embedded", embedded), ("paper", paper)) if value is not None
    }
    extra: dict[str, Any] = {"source": source} | ({"profiles": profiles} if profiles else {})
    if absent is not None:
        extra["absent"] = absent
    if tune:
        extra["tune"] = list(tune)
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class LatentParams(MethodParams):
    """How the latents of a picture follow a rule's gradient. Defaults are those of the official DDS notebook."""

    recipe: ClassVar[bool] = True

    learning_rate: float = parameter(
        0.1,
        gt=0,
        le=100,
        tune=(0.05, 0.1, 0.2),
        source="official code",
        description="learning rate of the latents' optimiser",
    )
    loss_scale: float = parameter(
        DDS_LOSS_SCALE,
        gt=0,
        le=10_000,
        source="official code",
        description="factor on the gradient. The official loss is 2000 * sum(z * grad) / (64 * 64); the "
        "quotient is kept as one number, so that the step does not depend on the size of the latents",
    )
    optimizer: Literal["sgd", "adam"] = parameter(
        "sgd",
        source="official code",
        description="optimiser of the latents; adam ignores loss_scale in effect",
    )

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's decays of the first and second moment: PyTorch's."""
        return 0.9, 0.999

    def rate(self, index: int) -> float:
        """The learning rate of step ``index``, from 0."""
        return self.learning_rate


class ScheduledLatentParams(LatentParams):
    """Latents moved by Adam at a rate that rises and falls; a rule whose authors run it so names them in ``kinds``.

    AdamW without weight decay, which most official 2D code calls, is Adam. The schedule counts steps from the first,
    not back from the last, so that a shorter run is the longer one's prefix.
    """

    learning_rate: float = parameter(
        0.1,
        gt=0,
        le=100,
        tune=(0.03, 0.1, 0.3),
        source="official code",
        description="highest rate of the latents' optimiser",
    )
    optimizer: Literal["sgd", "adam"] = parameter(
        "adam", source="official code", description="optimiser of the latents"
    )
    second_moment_decay: float = parameter(
        0.999, ge=0, lt=1, source="official code", description="Adam's beta_2; beta_1 is 0.9"
    )
    warmup_steps: int = parameter(
        0, ge=0, le=100_000, source="official code", description="steps over which the rate rises from 0"
    )
    cosine_steps: int = parameter(
        0,
        ge=0,
        le=1_000_000,
        source="official code",
        description="step at which the rate has fallen to 0 along half a cosine after the warm-up; 0 keeps it up",
    )

    @model_validator(mode="after")
    def _rise_before_fall(self) -> Self:
        if 0 < self.cosine_steps <= self.warmup_steps:
            raise ValueError(
                f"cosine_steps ({self.cosine_steps}) is not above warmup_steps ({self.warmup_steps})"
            )
        return self

    @property
    def betas(self) -> tuple[float, float]:
        """See ``LatentParams.betas``."""
        return 0.9, self.second_moment_decay

    def rate(self, index: int) -> float:
        """The rate of step ``index``: linear warm-up, then a cosine to 0 (transformers' cosine schedule)."""
        if index < self.warmup_steps:
            return self.learning_rate * index / self.warmup_steps
        if not self.cosine_steps:
            return self.learning_rate
        way = (index - self.warmup_steps) / (self.cosine_steps - self.warmup_steps)
        return self.learning_rate * (1 + math.cos(math.pi * min(way, 1.0))) / 2


def profile_defaults(params: type[MethodParams], profile: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that a profile replaces: those of shared recipes, and those a method declares for it.

    Args:
        params: of a method.
        profile: its name.
        recipe: what the profile says of shared recipes, by parameter.
    """
    found = {}
    for name, field in params.model_fields.items():
        extra = field.json_schema_extra
        own = extra.get("profiles", {}) if isinstance(extra, dict) else {}
        owner = next(cls for cls in params.__mro__ if name in vars(cls).get("__annotations__", {}))
        if isinstance(own, dict) and profile in own:
            found[name] = own[profile]
        elif vars(owner).get("recipe", False) and name in recipe:
            found[name] = recipe[name]
    return found


def tunables(params: type[MethodParams]) -> dict[str, tuple[Any, ...]]:
    """The values that each parameter is tuned over, of those that say so; see ``tune`` of ``parameter``."""
    found = {}
    for name, field in params.model_fields.items():
        extra = field.json_schema_extra
        values = extra.get("tune") if isinstance(extra, dict) else None
        if isinstance(values, list):
            found[name] = tuple(values)
    return found


def faults(params: type[MethodParams]) -> list[str]:
    """What is missing in the declarations of parameters, one line each: a source, a description, bounds."""
    found = []
    for name, field in params.model_fields.items():
        extra = field.json_schema_extra
        if not isinstance(extra, dict) or "source" not in extra or not field.description:
            found.append(f"{name} says not what it does or where its default comes from: use parameter(...)")
        if field.annotation in (int, float) and not field.metadata:
            found.append(f"{name} has no bounds: give ge, gt, le or lt")
    return found
