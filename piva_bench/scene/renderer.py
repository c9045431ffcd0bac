"""Takes posed views of a subject: any camera, lights fixed in the world, transparent background, depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from piva_bench.drawing.gl import Mesh, open_gl, put, shader_sources
from piva_bench.drawing.parts import Placed
from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Cameras, Floats, Rig
from piva_bench.scene.models.surface import Surface, to_display, to_light
from piva_bench.scene.subject import Frame, Subject
from piva_bench.scene.surface_mesh import SurfaceMesh
from piva_bench.scene.views import PosedViews

SAMPLES = 3
"""Super-sampling per axis; odd, so that a pixel has a sample at its centre."""
LIGHT_OF = to_light(np.arange(256) / 255).astype(np.float32)
"""The light that each 8-bit display value stands for."""
WRAP = 0.5
"""How far light reaches round an edge, as in rig.glsl."""
LIGHT = 0.28
"""Strength of each of the rig's eight lights: the brightest side of a white thing is just white."""


class ViewRenderer:
    """Renders subjects. Holds an OpenGL context: make one a process and keep it.

    Args:
        rig: whose lights are used.

    Raises:
        UserError: no OpenGL through EGL on this machine.
    """

    def __init__(self, rig: Rig = RIG) -> None:
        self._gl = open_gl()
        directions = np.array(rig.lights, np.float32)
        if len(directions) > 8:
            raise ValueError("the renderer has eight lights")
        lights = np.zeros((8, 4), np.float32)
        lights[: len(directions), :3] = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        lights[: len(directions), 3] = LIGHT
        self._lights = lights
        self._common, self._own = shader_sources("piva_bench.drawing"), shader_sources("piva_bench.scene")
        self._depth = self._gl.program(
            vertex_shader=self._common["depth.vert"], fragment_shader=self._common["depth.frag"]
        )
        self._programs: dict[tuple[int, int] | None, Any] = {}
        self._meshes: dict[int, tuple[Placed, list[Mesh]]] = {}
        self._surfaces: dict[int, SurfaceMesh] = {}
        self._frames: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def render(self, subject: Subject, cameras: Cameras, frame: Frame | None = None) -> PosedViews:
        """Views of a subject.

        Args:
            subject: what is shown.
            cameras: from where.
            frame: the subject's place in the world; by default it alone fills the rig's box. Give a source and
                its edits one frame.
        """
        frame = frame or Frame.around([subject])
        model, radius = frame.matrix, float(np.linalg.norm(np.abs(frame.box(subject)).max(0)))
        with self._gl:  # another renderer of this process may have been at work meanwhile
            shots = [self._shoot(subject, model, radius, cameras, index) for index in range(len(cameras))]
        images, depth = (np.stack(arrays) for arrays in zip(*shots, strict=True))
        return PosedViews(images, cameras, depth)

    def close(self) -> None:
        """Gives the OpenGL context back, with all it holds. The renderer is of no use afterwards."""
        self._gl.release()

    def _target(self, width: int, height: int) -> tuple[Any, Any, Any]:
        if (width, height) not in self._frames:
            size = (width * SAMPLES, height * SAMPLES)
            if max(size) > self._gl.info["GL_MAX_TEXTURE_SIZE"]:
                raise DataError(f"views of {width}x{height} pixels are too large for this OpenGL")
            colour, depth = self._gl.texture(size, 4), self._gl.texture(size, 1, dtype="f4")
            buffer = self._gl.framebuffer([colour, depth], self._gl.depth_renderbuffer(size))
            self._frames[width, height] = (buffer, colour, depth)
        return self._frames[width, height]

    def _program(self, material: int, pattern: int) -> Any:
        if (material, pattern) not in self._programs:
            head = f"#version 330\n#define MATERIAL {material}\n#define PATTERN {pattern}\n"
            program = self._gl.program(
                vertex_shader=self._common["set.vert"],
                fragment_shader=head
                + self._common["surface.glsl"]
                + self._own["rig.glsl"]
                + self._own["view.frag"],
            )
            if "lights" in program:  # a mirror needs none
                program["lights"].write(self._lights.tobytes())
            self._programs[material, pattern] = program
        return self._programs[material, pattern]

    def _model_program(self) -> Any:
        if None not in self._programs:
            program = self._gl.program(
                vertex_shader=self._own["model.vert"],
                fragment_shader="#version 330\n" + self._own["rig.glsl"] + self._own["model.frag"],
            )
            lights = self._lights.copy()
            lights[:, 3] /= _brightest(
                lights
            )  # a colour is shown as the file has it where light falls in full
            program["lights"].write(lights.tobytes())
            self._programs[None] = program
        return self._programs[None]

    def _upload(self, item: Placed) -> list[Mesh]:
        # By identity, kept alive beside its meshes: two files may share a name, and an id may be used again.
        if id(item.thing) not in self._meshes:
            self._meshes[id(item.thing)] = (
                item,
                [Mesh(self._gl, self._depth, part) for part in item.thing.parts],
            )
        return self._meshes[id(item.thing)][1]

    def _upload_surface(self, surface: Surface) -> SurfaceMesh:
        if id(surface) not in self._surfaces:
            self._surfaces[id(surface)] = SurfaceMesh(self._gl, surface)
        return self._surfaces[id(surface)]

    def _shoot(
        self, subject: Subject, world: Floats, radius: float, cameras: Cameras, index: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        pose = cameras.camera_to_world[index]
        eye, forward = pose[:3, 3], -pose[:3, 2]
        buffer, colour, depth = self._target(cameras.width, cameras.height)
        buffer.use()
        buffer.clear(0.0, 0.0, 0.0, 0.0)
        camera = _projection(cameras, index, float(np.linalg.norm(eye)), radius) @ np.linalg.inv(pose)
        for item in subject.pieces:
            program = self._program(item.material, item.pattern)
            put(
                program, camera=camera, eye=tuple(eye), forward=tuple(forward), image=0, model=world @ item.model,
                luminance=item.thing.luminance, painted=item.paint is not None, paint=item.paint or (1.0, 1.0, 1.0),
                opacity=item.opacity,
            )  # fmt: skip
            for mesh in self._upload(item):
                put(program, colour=mesh.part.colour, textured=mesh.texture is not None)
                mesh.render(program)
        for surface in subject.surfaces:
            put(
                self._model_program(), camera=camera, eye=tuple(eye), forward=tuple(forward), image=0, glow_image=1,
                model=world,
            )  # fmt: skip
            self._upload_surface(surface).render(self._model_program())
        return _develop(cameras, colour, depth, as_light=bool(subject.surfaces))


def _brightest(lights: Floats) -> float:
    """The light (rig.glsl) on the brightest side of a ball, found on 10000 sides (a Fibonacci lattice)."""
    step = np.arange(10000) + 0.5
    height, turn = 1 - step / 5000, np.pi * (1 + 5**0.5) * step
    across = np.sqrt(1 - height**2)
    sides = np.stack([across * np.cos(turn), across * np.sin(turn), height], axis=1)
    return float((np.maximum((sides @ lights[:, :3].T + WRAP) / (1 + WRAP), 0) @ lights[:, 3]).max())


def _projection(cameras: Cameras, index: int, distance: float, radius: float) -> Floats:
    """OpenGL's projection of a pinhole camera whose principal point may lie anywhere."""
    fx, fy, cx, cy = cameras.intrinsics[index]
    w, h = cameras.width, cameras.height
    # Near and far enclose the ball that holds the subject; a camera inside it sees from a hundredth of it on.
    near, far = max(0.01 * radius, distance - 1.01 * radius), distance + 1.01 * radius
    return np.array(
        [
            [2 * fx / w, 0, 1 - 2 * cx / w, 0],
            [0, 2 * fy / h, 2 * cy / h - 1, 0],
            [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)],
            [0, 0, -1, 0],
        ]
    )


def _develop(
    cameras: Cameras, colour: Any, depth: Any, *, as_light: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Straight-alpha picture and depth at the pixel's centre; a pixel is its samples' mean, as light if wanted."""
    h, w = cameras.height, cameras.width
    shape = (h, SAMPLES, w, SAMPLES)
    raw = np.frombuffer(colour.read(), np.uint8).reshape(h * SAMPLES, w * SAMPLES, 4)[::-1]
    samples = raw.reshape(*shape, 4)
    hit = samples[..., 3:] / np.float32(255)
    share = hit.mean((1, 3))
    values = LIGHT_OF[samples[..., :3]] if as_light else samples[..., :3].astype(np.float32)
    rgb = (values * hit).mean((1, 3)) / np.maximum(share, 1e-6)
    if as_light:
        rgb = 255 * to_display(rgb)
    picture = np.rint(np.concatenate([rgb, share * 255], axis=-1)).astype(np.uint8)
    distance = np.frombuffer(depth.read(), np.float32).reshape(h * SAMPLES, w * SAMPLES)[::-1]
    centre = SAMPLES // 2
    return picture, distance.reshape(shape)[:, centre, :, centre].copy()
