"""An edited scene as files: one sheet of its views with alpha, one of their depth."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from piva_bench.data.sprites import tile, untile
from piva_bench.errors import DataError

if TYPE_CHECKING:
    from piva_bench.scene.cameras import Cameras
    from piva_bench.scene.field import RadianceField
    from piva_bench.scene.views import PosedViews

UNIT = "depth of level 1"
"""Name of the text in a depth sheet that says how far a grey level is."""


def depth_path(key: str) -> str:
    """Where the depth of an edit lies, below the output directory."""
    return f"depth/{key}.png"


def field_path(key: str) -> str:
    """Where the radiance field of an edit lies, if it is kept."""
    return f"fields/{key}.safetensors"


def mesh_path(key: str) -> str:
    """Where the surface of an edit lies as PLY, if its field is kept and has one."""
    return f"mesh/{key}.ply"


def encode_field(field: RadianceField, cameras: Cameras) -> dict[str, bytes]:
    """A field for other programs, by what it is: its ``mesh.glb`` and ``mesh.ply``, and ``normals.png``.

    A field without a surface has no mesh. The normals are a sheet of views like the pictures'.
    """
    from piva_bench.scene.export import field_mesh, normal_views, to_glb, to_ply

    files = {"normals.png": encode_views(normal_views(field, cameras))[0]}
    try:
        mesh = field_mesh(field)
    except DataError:
        return files
    return {"mesh.glb": to_glb(mesh), "mesh.ply": to_ply(mesh), **files}


def encode_views(views: PosedViews) -> tuple[bytes, bytes]:
    """PNG sheets of the pictures (RGBA, 8 bits) and of their depth (grey, 16 bits; 0 where nothing is)."""
    from PIL import Image, PngImagePlugin

    images = views.images.copy()
    images[images[..., 3] == 0] = 0  # colours nobody sees cost space
    depth = views.need_depth("storing views")
    unit = float(depth.max()) / 65535 or 1.0
    levels = np.rint(depth / unit).astype(np.uint16)
    note = PngImagePlugin.PngInfo()
    note.add_text(UNIT, repr(unit))
    pictures, sheet = io.BytesIO(), io.BytesIO()
    Image.fromarray(tile(images)).save(pictures, format="PNG")
    Image.fromarray(tile(levels)).save(sheet, format="PNG", pnginfo=note)
    return pictures.getvalue(), sheet.getvalue()


def decode_views(pictures: bytes, depth: bytes, cameras: Cameras) -> PosedViews:
    """The views that ``encode_views`` wrote, of the cameras they were taken by.

    Raises:
        DataError: the sheets do not hold views of these cameras.
    """
    from PIL import Image

    from piva_bench.scene.views import PosedViews

    shape = len(cameras), cameras.height, cameras.width
    try:
        with Image.open(io.BytesIO(pictures)) as image:
            images = untile(np.asarray(image.convert("RGBA")), *shape)
        with Image.open(io.BytesIO(depth)) as image:
            levels, unit = untile(np.asarray(image), *shape), float(image.info[UNIT])
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise DataError(f"the stored views are not those of {len(cameras)} cameras: {error}") from error
    return PosedViews(images, cameras, (levels * unit).astype(np.float32))
