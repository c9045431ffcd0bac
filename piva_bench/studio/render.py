"""The studio's camera: a scene becomes a picture, an object mask, ids and depth, on any machine with EGL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from piva_bench.drawing.gl import Mesh, open_gl, put, shader_sources
from piva_bench.drawing.parts import ACCESSORY, BACKDROP, FLOOR, OBJECT, SECOND, Floats, Part, Placed, Thing
from piva_bench.studio.objects import thing
from piva_bench.studio.scene import Scene
from piva_bench.studio.styles import apply_style, outlines
from piva_bench.studio.vocabulary import BACKDROPS, COLORS, FLOORS, MATERIALS, PRINTS

OBJECT_AREA = 0.60
OBJECT_EDGE = 1.02
OBJECT_HEIGHT = 0.92
"""Objects are shown at about one silhouette area, none longer or taller than this: hats stay in the picture."""
SAMPLES = 3
"""Super-sampling per axis."""
SHADOW_SIZE = 512
FIELD_OF_VIEW = 30.0
CAMERA_DISTANCE = 2.95
NEAR, FAR = 0.2, 30.0
TARGET = np.array([0.0, 0.47, 0.0])


@dataclass(frozen=True)
class Shot:
    """One picture and what is known about it."""

    image: npt.NDArray[np.uint8]
    """[H, W, 3] display colours."""
    ids: npt.NDArray[np.uint8]
    """[H, W] what each pixel mostly shows."""
    depth: Floats
    """[H, W] distance to the eye, in object sizes, at the pixel's centre."""

    @property
    def object_mask(self) -> npt.NDArray[np.bool_]:
        """[H, W] where the object is."""
        return self.ids == OBJECT


def _perspective(fov: float, near: float, far: float) -> Floats:
    f = 1.0 / np.tan(np.radians(fov) / 2)
    depth, shift = (far + near) / (near - far), 2 * far * near / (near - far)
    return np.array([[f, 0, 0, 0], [0, f, 0, 0], [0, 0, depth, shift], [0, 0, -1, 0]], np.float32)


def _orthographic(half: float, near: float, far: float) -> Floats:
    matrix = np.diag([1 / half, 1 / half, -2 / (far - near), 1.0])
    matrix[2, 3] = -(far + near) / (far - near)
    return matrix.astype(np.float32)


def _look_at(eye: npt.NDArray[Any], target: npt.NDArray[Any], up: tuple[float, float, float]) -> Floats:
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return matrix.astype(np.float32)


def turn(axis: int, degrees: float) -> Floats:
    """Rotation [4, 4] about the x, y or z axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[i, i], matrix[j, j], matrix[i, j], matrix[j, i] = c, c, -s, s
    return matrix.astype(np.float32)


def _move(x: float, y: float, z: float) -> Floats:
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, 3] = x, y, z
    return matrix


def _scale(size: float) -> Floats:
    return np.diag([size, size, size, 1.0]).astype(np.float32)


def _apply(matrix: Floats, points: Floats) -> Floats:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _camera(scene: Scene) -> tuple[Floats, Floats]:
    """From the set to the picture [4, 4], and the eye."""
    rise = np.radians(scene.elevation)
    eye = TARGET + CAMERA_DISTANCE * scene.distance * np.array([0, np.sin(rise), np.cos(rise)])
    return _perspective(FIELD_OF_VIEW, NEAR, FAR) @ _look_at(eye, TARGET, (0, 1, 0)), eye


def _shown_size(subject: Thing) -> float:
    """Scale at which an object of largest edge 1 stands on the set, whatever its proportions."""
    width, height, length = np.ptp(subject.outline, axis=0)
    return float(
        min(np.sqrt(OBJECT_AREA / (height * (width + length) / 2)), OBJECT_EDGE, OBJECT_HEIGHT / height)
    )


def _pose(subject: Thing, pose: str) -> Floats:
    """How the object is set down. A tall one falls to the side, a long one rolls over its long axis."""
    if pose == "upside_down":
        return turn(2, 180)
    if pose == "lying":
        width, height, length = np.ptp(subject.outline, axis=0)
        return turn(2, 90) if height > max(width, length) or length > width else turn(0, 90)
    return np.eye(4, dtype=np.float32)


def stand(
    subject: Thing, yaw: float = 0.0, pose: str = "upright", shift: float = 0.0
) -> tuple[Floats, Floats]:
    """How a thing stands on the floor: its model matrix, and its outline there."""
    model = turn(1, yaw) @ _pose(subject, pose) @ _scale(_shown_size(subject))
    points = _apply(model, subject.outline)
    low, high = points.min(0), points.max(0)
    ground = _move(shift - (low[0] + high[0]) / 2, -low[1], -(low[2] + high[2]) / 2)
    return ground @ model, _apply(ground, points)


def on_top(accessory: str, points: Floats) -> Placed:
    """An accessory on the highest part of an outline."""
    height = points[:, 1].max()
    top = points[points[:, 1] > height - 0.03]
    x, _, z = (top.min(0) + top.max(0)) / 2
    sink = 0.02 if accessory == "balloon" else 0.03
    return Placed(thing(accessory), accessory, _move(x, height - sink, z) @ _scale(0.34), ACCESSORY)


def place(scene: Scene) -> list[Placed]:
    """Everything that stands on the set: the object, then its accessory, then the second object."""
    subject = thing(scene.object)
    model, points = stand(subject, scene.yaw, scene.pose, scene.shift)
    placed = [
        Placed(
            subject, scene.object, model, OBJECT,
            COLORS[scene.color] if scene.color else None,
            list(MATERIALS).index(scene.material), list(PRINTS).index(scene.print),
        )
    ]  # fmt: skip
    if scene.accessory != "none":
        placed.append(on_top(scene.accessory, points))
    if scene.second != "none":
        half = max(abs(points[:, 0].min() - scene.shift), abs(points[:, 0].max() - scene.shift))
        x = scene.shift + scene.second_side * min(half + 0.20, 0.60)
        second = _move(x, 0, 0.30) @ turn(1, 30 + scene.yaw) @ _scale(0.30)
        paint = COLORS[scene.second_color or "white"]
        placed.append(Placed(thing(scene.second), scene.second, second, SECOND, paint))
    return placed


Surface = tuple[int, int, int, int, int]
"""What a shader variant is compiled for: id, material, pattern, floor, backdrop."""


assert list(MATERIALS) == ["plain", "wood", "metal", "marble"], "surface.glsl knows materials by number"


class Renderer:
    """Photographs scenes at one resolution. Holds an OpenGL context: make one a process and keep it.

    Args:
        resolution: width and height of the pictures in pixels.

    Raises:
        UserError: no OpenGL through EGL on this machine.
    """

    def __init__(self, resolution: int) -> None:
        self._gl = open_gl()
        self.resolution = resolution
        source = self._source = shader_sources("piva_bench.drawing") | shader_sources("piva_bench.studio")
        self._depth = self._gl.program(
            vertex_shader=source["depth.vert"], fragment_shader=source["depth.frag"]
        )
        size = resolution * SAMPLES
        self._colour = self._gl.texture((size, size), 4)
        self._buffers = self._gl.texture((size, size), 4, dtype="f4")
        self._frame = self._gl.framebuffer(
            [self._colour, self._buffers], self._gl.depth_renderbuffer((size, size))
        )
        self._shadows = []
        for unit in (1, 2):
            texture = self._gl.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
            texture.compare_func = "<="
            texture.repeat_x = texture.repeat_y = False
            self._shadows.append((unit, texture, self._gl.framebuffer(depth_attachment=texture)))
        self._programs: dict[Surface, Any] = {}
        self._meshes: dict[str, list[Mesh]] = {}

    def _program(self, surface: Surface) -> Any:
        """The shader variant of one kind of surface, compiled when first met."""
        if surface not in self._programs:
            names = ("ID", "MATERIAL", "PATTERN", "FLOOR", "BACKDROP")
            defines = "".join(f"#define {n} {v}\n" for n, v in zip(names, surface, strict=True))
            fragment = f"#version 330\n{defines}{self._source['surface.glsl']}{self._source['set.frag']}"
            self._programs[surface] = self._gl.program(
                vertex_shader=self._source["set.vert"], fragment_shader=fragment
            )
        return self._programs[surface]

    def _upload(self, name: str, item: Thing) -> list[Mesh]:
        """The parts of a thing in graphics memory, uploaded once."""
        if name not in self._meshes:
            self._meshes[name] = [Mesh(self._gl, self._depth, part) for part in item.parts]
        return self._meshes[name]

    @cached_property
    def _stage(self) -> dict[int, Mesh]:
        """The floor and the wall behind it."""

        def quad(corners: list[list[float]], normal: list[float]) -> Mesh:
            a, b, c, d = ([*p, *normal, 0.0, 0.0] for p in corners)
            part = Part(np.array([a, b, c, a, c, d], np.float32), (1.0, 1.0, 1.0))
            return Mesh(self._gl, self._depth, part)

        floor = quad([[-9, 0, 9], [9, 0, 9], [9, 0, -1.7], [-9, 0, -1.7]], [0, 1, 0])
        wall = quad([[-9, 0, -1.7], [9, 0, -1.7], [9, 9, -1.7], [-9, 9, -1.7]], [0, 0, 1])
        return {FLOOR: floor, BACKDROP: wall}

    def _cast_shadows(self, placed: Sequence[Placed], lights: Sequence[Floats]) -> None:
        for (_, _, frame), light in zip(self._shadows, lights, strict=True):
            frame.use()
            frame.clear(depth=1.0)
            put(self._depth, light=light)
            for item in placed:
                put(self._depth, model=item.model)
                for mesh in self._upload(item.name, item.thing):
                    mesh.shadow.render()

    def render(self, scene: Scene) -> Shot:
        """Photograph a scene."""
        with self._gl:  # another renderer of this process may have been at work meanwhile
            return self._photograph(scene, place(scene))

    def render_set(self, scene: Scene, placed: Sequence[Placed]) -> npt.NDArray[np.uint8]:
        """Photograph the set of a scene with nothing on it but the shadows of some things, [H, W, 3]."""
        with self._gl:
            return self._photograph(scene, placed, shadows_only=True).image

    def _photograph(self, scene: Scene, placed: Sequence[Placed], shadows_only: bool = False) -> Shot:
        angle, rise = np.radians(-35.0 + scene.light), np.radians(50.0)
        key = np.array([np.sin(angle) * np.cos(rise), np.sin(rise), np.cos(angle) * np.cos(rise)])
        box = _orthographic(1.5, 0.1, 8.0)
        lights = [
            box @ _look_at(TARGET + key * 4, TARGET, (0, 1, 0)),
            box @ _look_at(TARGET + np.array([0, 4.0, 0]), TARGET, (0, 0, -1)),
        ]
        self._cast_shadows(placed, lights)

        camera, eye = _camera(scene)
        self._frame.use()
        self._frame.clear(0.0, 0.0, 0.0, 1.0)
        for unit, texture, _ in self._shadows:
            texture.use(unit)
        common = {
            "camera": camera, "key_light": lights[0], "sky_light": lights[1], "key_direction": key, "eye": eye,
            "key_shadow": 1, "sky_shadow": 2, "image": 0, "phase": scene.phase,
        }  # fmt: skip
        floor, backdrop = list(FLOORS).index(scene.floor), list(BACKDROPS).index(scene.backdrop)
        for item in () if shadows_only else placed:
            program = self._program((item.id, item.material, item.pattern, 0, 0))
            put(
                program, **common, model=item.model, luminance=item.thing.luminance,
                painted=item.paint is not None, paint=item.paint or (1.0, 1.0, 1.0),
            )  # fmt: skip
            for mesh in self._upload(item.name, item.thing):
                put(program, colour=mesh.part.colour, textured=mesh.texture is not None)
                mesh.render(program)
        for id_, quad in self._stage.items():
            program = self._program((id_, 0, 0, floor, 0) if id_ == FLOOR else (id_, 0, 0, 0, backdrop))
            put(program, **common, model=np.eye(4))
            quad.render(program)
        return self._develop(scene.style)

    @cached_property
    def _depth_frame(self) -> tuple[Any, Any]:
        texture = self._gl.depth_texture((self.resolution, self.resolution))
        return texture, self._gl.framebuffer(depth_attachment=texture)

    def depth(self, scene: Scene) -> Floats:
        """Depth of the things alone: [H, W] distance along the optical axis at each pixel's centre, in object sizes.

        It is 0 where only the set is, as in the posed views of an object, and much faster than a picture.
        """
        with self._gl:
            texture, frame = self._depth_frame
            frame.use()
            frame.clear(depth=1.0)
            put(self._depth, light=_camera(scene)[0])
            for item in place(scene):
                put(self._depth, model=item.model)
                for mesh in self._upload(item.name, item.thing):
                    mesh.shadow.render()
            stored = np.frombuffer(texture.read(), np.float32).reshape(self.resolution, -1)[::-1]
        distance = 2 * NEAR * FAR / (FAR + NEAR - (2 * stored - 1) * (FAR - NEAR))
        return np.where(stored < 1, distance, 0).astype(np.float32)

    def _develop(self, style: str) -> Shot:
        """Read the frame, draw the style, and shrink to the picture's resolution."""
        n, size = self.resolution, self.resolution * SAMPLES
        colour = np.frombuffer(self._colour.read(), np.uint8).reshape(size, size, 4)[::-1, :, :3]
        buffers = np.frombuffer(self._buffers.read(), np.float32).reshape(size, size, 4)[::-1]
        distance, ids = buffers[..., 0], np.rint(buffers[..., 1]).astype(np.uint8)

        small = colour.reshape(n, SAMPLES, n, SAMPLES, 3).mean((1, 3), dtype=np.float32) / 255
        edge = np.zeros((n, n), np.float32)
        if style in ("sketch", "cartoon"):
            edge = outlines(distance, ids, buffers[..., 2:]).reshape(n, SAMPLES, n, SAMPLES).mean((1, 3))
        picture = apply_style(style, small, edge)
        share = np.stack([(ids == k).reshape(n, SAMPLES, n, SAMPLES).sum((1, 3)) for k in range(5)])
        centre = SAMPLES // 2
        return Shot(
            image=np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8),
            ids=share.argmax(0).astype(np.uint8),
            depth=distance[centre::SAMPLES, centre::SAMPLES].copy(),
        )
