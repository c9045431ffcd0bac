"""The record: one row of the results, and the scores that belong to it."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from piva_bench.key import content_key

ENGINE = "1"
"""Raise it when a change to the engine (session, noise, schedules, adapters) changes pictures; part of every key."""

NOT_KNOWN = "not known"
"""The device, model and precision of edits that were made elsewhere; such records have no costs."""
MaskCondition = Literal["none", "own", "end", "steps"]
"""What an edit was told of where it belongs: nothing; the method reads the mask itself; the source was put back outside
the mask in the finished picture; or in the latents after every step."""
KEY = "[0-9a-f]{32}"
"""What a key looks like. Keys become names of files, so nothing else is one."""


class Setup(BaseModel):
    """What all records of one output directory share, so that a table never mixes unlike things.

    Attributes:
        model: the folder or alias the weights came from; for people. The fingerprint is what counts.
        engine: version of the engine that made the edits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str
    dataset: str
    dataset_revision: str
    model: str
    model_fingerprint: str
    resolution: int
    dtype: str
    engine: str = "1"

    def identity(self) -> dict[str, Any]:
        """The part of the content key that these fields make up. The first engine goes without saying."""
        values = {name: getattr(self, name) for name in _IDENTITY}
        return values if self.engine == "1" else {**values, "engine": self.engine}


_IDENTITY = tuple(name for name in Setup.model_fields if name not in ("model", "engine"))


class Record(Setup):
    """One edit: sample x method x parameters x seed, with what it cost and what became of it.

    Attributes:
        method: canonical name; a method that equals another one at these parameters is stored as that one.
        method_source: hash of the method's file where it was given as a file, else None.
        params: all parameters, defaults included.
        notes: what of the sample's files is not shown as they have it.
        image_sha: SHA-256 of the PNG file (of a scene: the sheet of its views); None for a failed edit.
        mask: the mask condition where it is not that of the method's card (``--mask-blend``, edits made elsewhere).
        from_jpeg: whether the picture was taken in from a JPEG file, as the official PIE-Bench scripts save edits.
        files: SHA-256 of the files beside it (of a scene: depth, field), by path below the output directory.
        unet_evaluations: UNet rows computed for this edit, adapter training included.
        training_evaluations: those of them that were adapter training (forward and backward).
        seconds: the batch's wall time divided by its number of edits.
        peak_memory_mb: highest memory of the process since it started, or on a GPU that of the batch.
        batch_size: number of edits that were computed together.
        created: when, ISO 8601, UTC.
    """

    schema_version: Literal[1] = 1
    key: str = Field(pattern=f"^{KEY}$")
    status: Literal["ok", "failed"]
    reason: str | None = None
    sample_id: str
    edit_type: str
    tags: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    method: str
    method_version: str
    method_source: str | None = None
    params: dict[str, Any]
    seed: int
    mask: MaskCondition | None = None
    device: str
    image_sha: str | None = None
    from_jpeg: bool = False
    files: dict[str, str] = Field(default_factory=dict)
    unet_evaluations: int = 0
    training_evaluations: int = 0
    seconds: float = 0.0
    peak_memory_mb: float | None = None
    batch_size: int
    created: str

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.status == "ok") != (self.image_sha is not None) or (self.status == "ok") != (
            self.reason is None
        ):
            raise ValueError("an edit has either a picture or a reason why not")
        if not all(re.fullmatch(rf"[a-z_]+/{self.key}\.[a-z0-9]+", name) for name in self.files):
            raise ValueError("files beside an edit lie in a folder each and carry its key")
        return self

    def expected_key(self) -> str:
        """The key this record's content calls for; another one means the file was changed or misplaced."""
        return unit_key(
            self,
            method=self.method,
            method_version=self.method_version,
            method_source=self.method_source,
            params=self.params,
            sample_id=self.sample_id,
            seed=self.seed,
            mask=self.mask,
        )


class ScoreFile(BaseModel):
    """The scores of one edit under one protocol.

    Attributes:
        fingerprint: of the protocol: its models and preprocessing.
        values: metric name to value; None where the metric is undefined for this sample.
        undefined: metric name to the reason, for each None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    protocol: str
    fingerprint: str
    values: dict[str, float | None]
    undefined: dict[str, str] = Field(default_factory=dict)


def unit_key(
    setup: Setup,
    *,
    method: str,
    method_version: str,
    method_source: str | None,
    params: dict[str, Any],
    sample_id: str,
    seed: int,
    mask: MaskCondition | None = None,
) -> str:
    """The content key of one edit. Device and batch size are not in it: they matter within tolerance only.

    A mask condition is part of it where there is one.
    """
    return content_key(
        setup.identity()
        | {
            "method": method,
            "method_version": method_version,
            "method_source": method_source,
            "params": params,
            "sample_id": sample_id,
            "seed": seed,
        }
        | ({"mask": mask} if mask else {})
    )
