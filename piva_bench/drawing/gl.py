"""An OpenGL context on any machine with EGL, and meshes in its memory."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
from PIL import Image

from piva_bench.drawing.parts import Part
from piva_bench.errors import UserError


class Mesh:
    """One part in graphics memory."""

    def __init__(self, gl: Any, depth_program: Any, part: Part) -> None:
        self.part = part
        self._gl = gl
        self._buffer = gl.buffer(part.vertices.tobytes())
        self.shadow = gl.vertex_array(depth_program, [(self._buffer, "3f 20x", "position")])
        self._shaded: dict[Any, Any] = {}
        self.texture = None
        if part.texture is not None:
            flipped = part.texture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)  # OpenGL counts rows from below
            self.texture = gl.texture(flipped.size, 3, flipped.tobytes(), alignment=1)
            self.texture.build_mipmaps()

    def render(self, program: Any) -> None:
        """Draw the part with a shader variant whose uniforms are set."""
        if program not in self._shaded:
            # A variant that ignores an attribute has none to bind: skip those four bytes a float.
            wanted = (("position", 3), ("normal", 3), ("uv", 2))
            layout = " ".join(f"{n}f" if name in program else f"{4 * n}x" for name, n in wanted)
            names = [name for name, _ in wanted if name in program]
            self._shaded[program] = self._gl.vertex_array(program, [(self._buffer, layout, *names)])
        if self.texture is not None:
            self.texture.use(0)
        self._shaded[program].render()


def put(program: Any, **uniforms: Any) -> None:
    """Set the uniforms that the program has."""
    for name, value in uniforms.items():
        if name not in program:
            continue
        if isinstance(value, np.ndarray):
            program[name].write(np.ascontiguousarray(value.T, np.float32).tobytes())
        else:
            program[name].value = value


def open_gl() -> Any:
    """A new OpenGL context that tests depth.

    Raises:
        UserError: no OpenGL through EGL on this machine.
    """
    try:
        import moderngl

        create: Any = moderngl.create_standalone_context  # its stub knows no keyword
        gl: Any = create(backend="egl")
    except Exception as error:  # whatever the loader or the driver raises
        raise UserError(
            f"no OpenGL through EGL here ({error}); on Debian: apt-get install libegl1 libgl1-mesa-dri"
        ) from error
    gl.enable(moderngl.DEPTH_TEST)
    return gl


def shader_sources(package: str) -> dict[str, str]:
    """The shaders that lie in a package, by file name."""
    folder = resources.files(package) / "shaders"
    return {f.name: f.read_text() for f in folder.iterdir() if f.name.endswith((".vert", ".frag", ".glsl"))}
