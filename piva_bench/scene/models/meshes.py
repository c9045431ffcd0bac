"""PLY and STL models, read by trimesh, and what it would not say that it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from piva_bench.errors import DataError
from piva_bench.scene.models.geometry import creased_normals
from piva_bench.scene.models.surface import (
    PLAIN,
    Layer,
    Notes,
    Surface,
    Texture,
    display_factor,
    to_light,
)

if TYPE_CHECKING:
    import trimesh


def read_mesh(path: Path) -> tuple[list[Surface], Notes]:
    """The triangles of a PLY or STL file, taken as y up, and what is not shown of it.

    Raises:
        DataError: it cannot be read or has no triangle; in one line.
    """
    # Half a second, which commands that only list datasets need not wait for.
    import trimesh

    notes = Notes()
    head = path.read_bytes()[:65536]
    try:
        meshes = [
            mesh
            for mesh in trimesh.load_scene(path, process=False).dump()
            if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)
        ]
    except Exception as error:  # trimesh and the libraries behind it raise whatever they meet
        raise DataError(
            f"it cannot be read ({' '.join(str(error).split())[:200] or type(error).__name__})"
        ) from error
    if not meshes:
        raise DataError(f"it holds no triangle{_what(head)}")
    surfaces = [_surface(mesh, notes) for mesh in meshes]
    if head[:3] == b"ply":
        if b"TextureFile" in head.partition(b"end_header")[0] and not any(
            each.base.texture for each in surfaces
        ):
            notes.say("the texture that its header names is not shown: export the model as GLB")
    elif not head.lstrip().startswith(b"solid") and _coloured_stl(path):
        notes.say("colours in STL files are not shown: export the model as PLY or GLB")
    return surfaces, notes


def _what(head: bytes) -> str:
    if b"f_dc_0" in head:
        return ": it is a cloud of Gaussian splats; only meshes are read"
    return ": it is a cloud of points; only meshes are read" if head[:3] == b"ply" else ""


def _coloured_stl(path: Path) -> bool:
    data = path.read_bytes()
    facets = np.frombuffer(data[84 : 84 + (len(data) - 84) // 50 * 50], np.uint8).reshape(-1, 50)
    return bool(data[:80].find(b"COLOR=") >= 0 or facets[:, 48:].any())


def _surface(mesh: trimesh.Trimesh, notes: Notes) -> Surface:
    corners = np.asarray(mesh.faces).reshape(-1)
    points = np.asarray(mesh.vertices, np.float64)[corners]
    normals = creased_normals(points) if np.isfinite(points).all() else np.zeros_like(points)
    visual: Any = mesh.visual
    if visual.kind in ("vertex", "face"):
        colours = (
            np.asarray(visual.vertex_colors)[corners]
            if visual.kind == "vertex"
            else np.repeat(np.asarray(visual.face_colors), 3, axis=0)
        )
        tints = np.ones((len(corners), 4))
        tints[:, :3] = to_light(colours[:, :3] / 255)
        return Surface(points, normals, Layer(), None, tints)
    picture = getattr(getattr(visual, "material", None), "image", None)
    uv = getattr(visual, "uv", None)
    if picture is not None and uv is not None:
        texture = Texture(np.array(picture.convert("RGBA")))
        laid = np.asarray(uv, np.float64)[corners] * [1, -1] + [0, 1]
        return Surface(points, normals, Layer(texture=texture, uv=laid))
    return Surface(points, normals, Layer(display_factor(PLAIN, PLAIN, PLAIN)), coloured=False)
