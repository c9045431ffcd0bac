"""Surfaces of models' files in graphics memory."""

from __future__ import annotations

from typing import Any

import moderngl
import numpy as np

from piva_bench.drawing.gl import put
from piva_bench.scene.models import Surface, Texture

SRGB8_ALPHA8 = 0x8C43
"""OpenGL's name of the format whose samples, and means of samples, are taken as light."""
ALPHA = ("opaque", "mask", "blend")


class SurfaceMesh:
    """One surface, uploaded; it keeps the surface alive, for it is known by its identity.

    Args:
        gl: the context.
        surface: what is shown.
    """

    def __init__(self, gl: Any, surface: Surface) -> None:
        self._gl, self.surface = gl, surface
        glow = surface.glow
        given = {
            "position": surface.positions,
            "normal": surface.normals,
            "uv": surface.base.uv,
            "glow_uv": None if glow is None else glow.uv,
            "tint": surface.tints,
        }
        self._buffers = [
            (gl.buffer(np.nan_to_num(values).astype(np.float32).tobytes()), f"{values.shape[1]}f", name)
            for name, values in given.items()
            if values is not None
        ]
        self._array: Any = None
        self._image = _upload(gl, surface.base.texture)
        self._glow_image = None if glow is None else _upload(gl, glow.texture)

    def render(self, program: Any) -> None:
        """Draws it with the program of `model.frag`, whose camera is set."""
        surface, glow = self.surface, self.surface.glow
        put(
            program, base=surface.base.factor, textured=self._image is not None, tinted=surface.tints is not None,
            glow=(0.0, 0.0, 0.0) if glow is None else glow.factor[:3], glow_textured=self._glow_image is not None,
            alpha=ALPHA.index(surface.alpha), cutoff=surface.cutoff, lit=surface.lit,
        )  # fmt: skip
        if self._array is None:
            self._array = self._gl.vertex_array(program, self._buffers)
        for place, texture in enumerate((self._image, self._glow_image)):
            if texture is not None:
                texture.use(place)
        self._array.render()


def _upload(gl: Any, texture: Texture | None) -> Any:
    if texture is None:
        return None
    height, width = texture.pixels.shape[:2]
    data = np.ascontiguousarray(texture.pixels).tobytes()
    made = gl.texture((width, height), 4, data, alignment=1, internal_format=SRGB8_ALPHA8)
    made.build_mipmaps()
    made.repeat_x, made.repeat_y = texture.repeat
    largened = moderngl.LINEAR if texture.smooth else moderngl.NEAREST
    made.filter = (moderngl.LINEAR_MIPMAP_LINEAR, largened)
    return made
