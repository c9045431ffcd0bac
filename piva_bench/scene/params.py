"""What only scenes need to know: how their field is fitted, and how it follows a rule's gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from piva_bench.params import MethodParams, parameter

FIELD = "3"
"""Raise it when a change to how fields are edited changes their pictures; part of every such edit's key. Records
without it are of the first version, where the room to grow was visible as thin fog; the second knew no backgrounds but
the scene's."""

COARSE = 64
"""Voxels along the box up to which a field is fitted at once; the fit of a larger one begins with no more."""


class FieldParams(MethodParams):
    """How the radiance field of a scene comes about: part of every edit of a scene, references included."""

    recipe: ClassVar[bool] = True

    fit_steps: int = parameter(
        400, ge=1, le=100_000, source="assumed", description="steps in which a field is fitted to the views"
    )
    fit_resolution: int = parameter(
        64,
        ge=4,
        le=512,
        source="assumed",
        description="voxels along the longest edge of the field's box; a fit of more than 64 begins with half of them, "
        "or a quarter, and so on",
    )

    def recorded(self) -> dict[str, Any]:
        """See ``MethodParams.recorded``. Larger fields were fitted at once before they were grown."""
        return super().recorded() | ({"growth": "1"} if self.fit_resolution > COARSE else {})


class FieldEditParams(FieldParams):
    """How a field follows the gradient on its views' latents: Adam on its grid."""

    recipe: ClassVar[bool] = True
    stamp: ClassVar[Mapping[str, Any]] = {"field": FIELD}

    views: int = parameter(
        2, ge=1, le=64, source="assumed", description="views a step; the adapters of a sample learn from all"
    )
    view_size: int = parameter(
        0,
        ge=0,
        le=2048,
        source="assumed",
        absent=0,
        description="long side in pixels of the views that a step sees, and that `edit3d` photographs a model's file "
        "or scales a capture for; 0 is the scene's own, or the model's. A model knows pictures of its own size best",
    )
    field_learning_rate: float = parameter(
        0.05,
        gt=0,
        le=10,
        tune=(0.05, 0.1, 0.2),
        source="assumed",
        description="Adam's rate on the raw density and colour",
    )
    field_epsilon: float = parameter(
        3e-3,
        gt=0,
        le=1,
        source="assumed",
        description="Adam's epsilon: nodes with smaller gradients hardly move. The default 1e-8 gives the noise in "
        "empty air the same steps as a consistent pull on a surface, and the scene stands in coloured fog",
    )
    field_room: int = parameter(
        6,
        ge=0,
        le=512,
        source="assumed",
        description="voxels beyond the source's surface in which the edit may grow; 0 lets it recolour and carve",
    )
    background: Literal["random", "scene"] = parameter(
        "random",
        source="official code",
        description="what a view stands before in a step: a random colour (DreamFusion, threestudio), or the scene's "
        "own place. Before one place alone a part can be painted like the wall behind it instead of removed",
    )
    view_prompts: bool = parameter(
        True,
        source="official code",
        description="prompts name the side that is seen, where the scene has words for it (DreamFusion, threestudio)",
    )
    colour_variation: float = parameter(
        0.0, ge=0, le=1e6, source="assumed", description="weight of the colours' roughness on surfaces"
    )
    density_variation: float = parameter(
        0.0, ge=0, le=1e6, source="assumed", description="weight of the opacity's roughness"
    )
    sparsity: float = parameter(0.0, ge=0, le=1e6, source="assumed", description="weight of thin fog")
    half_transparency: float = parameter(
        0.0, ge=0, le=1e6, source="assumed", description="weight of views neither opaque nor clear"
    )
    outside: float = parameter(
        1e4,
        ge=0,
        le=1e6,
        source="assumed",
        description="weight of the mean opacity beyond the source's surface: to grow must be worth it",
    )
