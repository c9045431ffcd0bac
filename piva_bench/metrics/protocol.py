"""What a metric, a score and a protocol are.

A protocol is a named set of metrics with fixed models and preprocessing. It scores one edit at a time, from
8-bit pictures and prompts alone, so that an aggregate can never depend on how the work was cut.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import trimesh
    from torch import nn

    from piva_bench.scene.region import EditRegion
    from piva_bench.scene.views import PosedViews

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Undefined:
    """The value of a metric that has none for this edit."""

    reason: str


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is, for tables and people.

    Attributes:
        name: key in score files.
        title: column head.
        unit: of the stored value; empty where it has none.
        direction: whether higher or lower is better, or neither.
        scale: factor between the stored value and the one a table shows, as the field's tables have it.
        group: "text", "identity", "colour", "oracle" (needs the counterfactual) or "views" (of several).
        description: definition, with the preprocessing.
        headline: whether compact tables show it.
    """

    name: str
    title: str
    unit: str
    direction: Literal["higher", "lower", "none"]
    scale: float
    group: Literal["text", "identity", "colour", "oracle", "views"]
    description: str
    headline: bool = False


@dataclass(frozen=True)
class Pair:
    """One edit to be scored: all pictures uint8 [H, W, 3] of one size.

    Attributes:
        source: the picture that was edited.
        edited: the result.
        reference: the exact counterfactual, if the dataset has one.
        mask: bool [H, W], True in the region to edit, if the dataset has one.
        source_prompt: what the source shows.
        target_prompt: what the result shall show.
        edited_is_jpeg: whether the result comes out of a JPEG file, and so bears its traces already.

    Raises:
        ValueError: shapes or types that do not fit together.
    """

    source: Pixels
    edited: Pixels
    reference: Pixels | None
    mask: Mask | None
    source_prompt: str
    target_prompt: str
    edited_is_jpeg: bool = False

    def __post_init__(self) -> None:
        for name in ("source", "edited", "reference"):
            picture = getattr(self, name)
            if picture is None:
                continue
            if picture.dtype != np.uint8 or picture.shape != (*self.source.shape[:2], 3):
                raise ValueError(f"{name} is {picture.dtype} {picture.shape}, source {self.source.shape}")
        if self.mask is not None and (
            self.mask.dtype != np.bool_ or self.mask.shape != self.source.shape[:2]
        ):
            raise ValueError(f"mask is {self.mask.dtype} {self.mask.shape}, source {self.source.shape}")


@dataclass(frozen=True)
class ViewsPair:
    """One 3D edit to be scored, seen from the same V cameras as its source.

    Attributes:
        source: the object that was edited.
        edited: the result.
        reference: the exact counterfactual, if the dataset has one.
        backgrounds: uint8 [V, H, W, 3], the place that the source stands in and prompts may name.
        backdrops: uint8 [B, V, H, W, 3], places that no edit has seen.
        prompts: source and target prompt as they describe "front", "side" and "back".
        target_prompt: the target prompt that names no side; None where that of the front is it.
        region: the part of space that the edit was to keep to, if the dataset marks one.
        surface: of the edit, in the world's axes, if one is stored.
    """

    source: PosedViews
    edited: PosedViews
    reference: PosedViews | None
    backgrounds: Pixels
    backdrops: Pixels
    prompts: Mapping[str, tuple[str, str]]
    target_prompt: str | None = None
    region: EditRegion | None = None
    surface: trimesh.Trimesh | None = None

    @property
    def plain_target(self) -> str:
        """What the edit shall show, without a word of the side."""
        return self.prompts["front"][1] if self.target_prompt is None else self.target_prompt


@dataclass(frozen=True)
class Scores:
    """The metrics of one edit: every metric of the protocol has a value, or None and a reason."""

    values: dict[str, float | None] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)

    @classmethod
    def collect(cls, results: Mapping[str, float | Undefined]) -> Scores:
        """Sort results into values and reasons. A result that is not finite is undefined, too."""
        scores = cls()
        for name, result in results.items():
            if not isinstance(result, Undefined) and not math.isfinite(result):
                result = Undefined(f"the computation gave {result}")
            if isinstance(result, Undefined):
                scores.values[name], scores.undefined[name] = None, result.reason
            else:
                scores.values[name] = float(result)
        return scores


@runtime_checkable
class MetricProtocol(Protocol):
    """What stands behind an entry point of the group ``piva_bench.metrics``; a class called without
    arguments.

    Constructing it loads its models and raises ``ModelError`` where one is missing. One that scores 3D edits says so
    with a class attribute ``kind`` of "scenes", and gets `ViewsPair` instead of `Pair`.
    """

    name: ClassVar[str]
    descriptors: ClassVar[Mapping[str, MetricInfo]]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that changes a score: weights, preprocessing, definitions."""

    def score(self, pair: Any) -> Scores:
        """All metrics of one edit, from a `Pair` or, with ``kind`` "scenes", a `ViewsPair`."""


def fingerprint(*parts: str | nn.Module) -> str:
    """16 hexadecimal digits over texts and over the weights of modules, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, str):
            digest.update(f"text {part}\n".encode())
            continue
        for name, value in sorted(part.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions(*packages: str) -> list[str]:
    """Each with its installed version, for fingerprints of protocols whose numbers these libraries decide."""
    return [f"{package} {version(package)}" for package in packages]
