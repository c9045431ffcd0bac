"""A finished edit as it goes into the store and comes out: its record, and its files' bytes."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from piva_bench.errors import DataError
from piva_bench.files import png_bytes
from piva_bench.runs.record import Record, ScoreFile
from piva_bench.runs.sealed import sealed
from piva_bench.runs.views import decode_views, depth_path, mesh_path
from piva_bench.text import one_line

if TYPE_CHECKING:
    import numpy as np
    import trimesh
    from numpy.typing import NDArray

    from piva_bench.scene.cameras import Cameras
    from piva_bench.scene.views import PosedViews


@dataclass(frozen=True)
class Edit:
    """A finished edit on its way into the store.

    Attributes:
        record: with ``image_sha`` set by ``finished`` if there is a picture.
        png: the picture's file; None for a failed edit.
        trace: per step scalars by name.
        files: those of ``record.files``, by path below the output directory.
        scores: of the edit, where it has been scored already.
    """

    record: Record
    png: bytes | None = None
    trace: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    scores: ScoreFile | None = None

    def image(self) -> NDArray[np.uint8]:
        """The picture, uint8 [H, W, 3]; of a scene its first view, on white.

        Raises:
            DataError: the file holds something else; a stranger's record may state any file's hash.
        """
        import numpy as np
        from PIL import Image

        assert self.png is not None, "a failed edit has no picture"
        side = self.record.resolution
        try:
            with Image.open(io.BytesIO(self.png), formats=["PNG"]) as image:
                if depth_path(self.record.key) not in self.record.files:
                    if image.size != (side, side):
                        raise ValueError(
                            f"{image.width} x {image.height} pixels, not {side} x {side}: make the edit again at "
                            f"{side} px with --overwrite, or import it anew"
                        )
                    return np.asarray(image.convert("RGB"))
                if min(image.size) < side:
                    raise ValueError("a sheet smaller than one view")
                first = image.crop((0, 0, side, side)).convert("RGBA")
                white = Image.new("RGBA", first.size, "white")
                return np.asarray(Image.alpha_composite(white, first).convert("RGB"))
        except Exception as error:  # Pillow raises whatever it meets in a foreign file
            raise DataError(
                f"images/{self.record.key}.png is no picture of an edit: {one_line(error)}"
            ) from error

    def views(self, cameras: Cameras) -> PosedViews:
        """The views of an edited scene, with depth, of the cameras they were taken by.

        Raises:
            DataError: it is of a picture, or the sheets do not hold views of these cameras.
        """
        name = depth_path(self.record.key)
        if name not in self.files or self.png is None:
            raise DataError(f"record {self.record.key} is of a picture: it has no views")
        return decode_views(self.png, self.files[name], cameras)

    def surface(self) -> trimesh.Trimesh | None:
        """The surface of an edited scene, in the world's axes; None where none was kept.

        Raises:
            DataError: the file holds something else.
        """
        from piva_bench.scene.export import from_ply

        data = self.files.get(mesh_path(self.record.key))
        return None if data is None else from_ply(data)


def encode_png(pixels: NDArray[np.uint8]) -> tuple[bytes, str]:
    """A picture [H, W, 3] as a PNG file, and the file's SHA-256."""
    from PIL import Image

    png = png_bytes(Image.fromarray(pixels))
    return png, sha256(png)


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def trace_json(trace: dict[str, list[float]]) -> bytes:
    """Six digits are plenty for a plot; a diverged edit's values that are not finite become null."""
    rounded = {
        name: [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
        for name, values in trace.items()
    }
    return sealed(rounded, lines=False)
