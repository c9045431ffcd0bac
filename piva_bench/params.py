"""Parameters of methods: bounded values that say what they do and where their default comes from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Source = Literal["paper", "official code", "seed", "assumed"]
"""Where a default comes from: paper, official code, a summary of the paper, or our choice."""


class MethodParams(BaseModel):
    """Base of a method's parameters: every field has bounds, a description and the source of its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number_means_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1; somebody who writes ``steps=true`` does not mean one step."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("write a number, not true or false")
        return value


def parameter(default: Any, *, source: Source, description: str, **bounds: Any) -> Any:
    """A field of ``MethodParams``: default, its source, what it does, and bounds (``ge``, ``le``, ``gt``)."""
    return Field(default, description=description, json_schema_extra={"source": source}, **bounds)
