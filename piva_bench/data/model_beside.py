"""Models in the place of a photographed one: what its edit shall look like, the region that an edit is to keep to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from piva_bench.data.kept_views import Arrays, kept_arrays
from piva_bench.data.objaverse_objects import PHOTOGRAPHS_VERSION, PhotographedModel
from piva_bench.errors import DataError
from piva_bench.key import content_key
from piva_bench.scene.cameras import RIG
from piva_bench.scene.region import EditRegion, edit_region
from piva_bench.scene.sources import FRAMES, photograph_beside
from piva_bench.scene.views import PosedViews


@dataclass(frozen=True)
class ModelBeside:
    """A 3D model's file, photographed in the place of another one when its views are first asked for.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        source: the other one.
    """

    path: Path
    sha256: str
    source: PhotographedModel

    def turntable(self) -> PosedViews:
        """Views from the source's turntable.

        Raises:
            DataError: one of the two files is missing or damaged.
        """
        cameras = self.source.turntable_cameras
        key = content_key(
            {
                "beside": PHOTOGRAPHS_VERSION,
                "model": self.sha256,
                "source": self.source.sha256,
                "rig": asdict(RIG),
                "views": FRAMES,
                "resolution": self.source.resolution,
            }
        )

        def take() -> Arrays:
            views = photograph_beside(self.path, self.source.path, cameras)
            return {"images": views.images, "depth": views.need_depth("keeping views")}

        try:
            kept = kept_arrays(key, ("images", "depth"), take)
        except DataError as error:
            raise DataError(f"{self.source.name}: {error}") from error
        return PosedViews(kept["images"], cameras, kept["depth"])

    def region(self) -> EditRegion:
        """What its surface encloses, as the region that an edit is to keep to.

        Raises:
            DataError: one of the two files is missing or damaged.
        """
        seen, source = self.turntable(), self.source.turntable().views
        return edit_region(self.path, self.source.path, seen, source)
