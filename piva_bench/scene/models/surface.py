"""What a model's file is made into: surfaces of triangles with colours of light, and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rgba = tuple[float, float, float, float]

PLAIN = 0.62
"""The display grey of what has no colour of its own."""


@dataclass(frozen=True)
class Texture:
    """A picture laid on a surface.

    Attributes:
        pixels: uint8 [H, W, 4], display values (sRGB) with straight alpha; the first row lies at v = 0.
        repeat: whether it goes on beyond its left and right, its upper and lower edge.
        smooth: whether its pixels are blended where they are seen larger than the screen's.
    """

    pixels: NDArray[np.uint8]
    repeat: tuple[bool, bool] = (True, True)
    smooth: bool = True


@dataclass(frozen=True)
class Layer:
    """A colour over a surface: factor times texture, both as light.

    Attributes:
        factor: linear RGB and alpha.
        texture: None for the factor alone.
        uv: [N, 2] where on the texture each corner lies, v counted downwards; None without a texture.
    """

    factor: Rgba = (1.0, 1.0, 1.0, 1.0)
    texture: Texture | None = None
    uv: Floats | None = None


@dataclass(frozen=True)
class Surface:
    """Triangles of one material; three corners in a row are a triangle, N is three times their number.

    Attributes:
        positions: [N, 3] in a frame with y up.
        normals: [N, 3], of length 1.
        base: what it reflects.
        glow: what it gives off by itself.
        tints: [N, 4] linear RGB and alpha that the base colour is multiplied with, or None.
        alpha: "opaque" (alpha means nothing), "mask" (seen where alpha reaches the cutoff) or "blend".
        cutoff: of a mask.
        lit: whether light falls on it; else its colour is shown as it is.
        coloured: whether the file says what colour it is.
    """

    positions: Floats
    normals: Floats
    base: Layer
    glow: Layer | None = None
    tints: Floats | None = None
    alpha: str = "opaque"
    cutoff: float = 0.5
    lit: bool = True
    coloured: bool = True

    @property
    def invisible(self) -> bool:
        """Whether nothing of it can be seen, whatever its texture holds."""
        if self.alpha == "opaque":
            return False
        most = self.base.factor[3] * (1.0 if self.tints is None else float(self.tints[:, 3].max(initial=0)))
        return most <= 0 if self.alpha == "blend" else most < self.cutoff


@dataclass
class Notes:
    """What a reader leaves out, gathered while it reads: each thing once, in the order of its meeting."""

    lines: dict[str, None] = field(default_factory=dict)
    unshown: dict[str, None] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Notes a line."""
        self.lines[line] = None

    def not_shown(self, what: str) -> None:
        """Notes a feature that is read by name alone; all of them become one line."""
        self.unshown[what] = None

    def all(self) -> tuple[str, ...]:
        """The lines."""
        unshown = (f"not shown: {', '.join(self.unshown)}",) if self.unshown else ()
        return (*self.lines, *unshown)


@dataclass(frozen=True)
class Place:
    """Where a model lies in its file, which places the parts of one set beside each other.

    Attributes:
        centre: of its box.
        edge: the largest of its box.
    """

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    edge: float = 1.0


@dataclass(frozen=True)
class Model:
    """A model that can be seen.

    Attributes:
        surfaces: at least one. Together they fill a box about the origin whose largest edge is 1.
        notes: what the file has and nobody will see, or what it lacks, a line each, without the file's name.
        place: where that box lies in the file's own frame.
    """

    surfaces: tuple[Surface, ...]
    notes: tuple[str, ...] = ()
    place: Place = Place()


def to_light(display: Any) -> Floats:
    """Display values in [0, 1] as linear light (IEC 61966-2-1)."""
    values = np.asarray(display, np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4)


def to_display(light: Any) -> Floats:
    """Linear light in [0, 1] as display values (IEC 61966-2-1)."""
    values = np.asarray(light, np.float64)
    return np.where(
        values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 0.0031308) ** (1 / 2.4) - 0.055
    )


def display_factor(red: float, green: float, blue: float, alpha: float = 1.0) -> Rgba:
    """A colour given in display values as a layer's factor."""
    light = to_light([red, green, blue]).tolist()
    return light[0], light[1], light[2], alpha
