"""Posed views: pictures of one scene with the cameras that took them. Whatever takes or reads them gives this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from piva_bench.errors import DataError
from piva_bench.scene.cameras import Cameras

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class PosedViews:
    """Pictures of one scene.

    Attributes:
        images: uint8 [N, H, W, 4], straight (not premultiplied) alpha.
        cameras: the N cameras.
        depth: float32 [N, H, W], distance along the optical axis in world units, 0 where nothing was hit; or None.
        names: one a view, unique; made up if not given.

    Raises:
        DataError: pictures, cameras, depth and names that do not fit together, or no view at all.
    """

    images: npt.NDArray[np.uint8]
    cameras: Cameras
    depth: npt.NDArray[np.float32] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.cameras), self.cameras.height, self.cameras.width)
        if not len(self.cameras):
            raise DataError("a scene without a single view")
        if self.images.dtype != np.uint8 or self.images.shape != (*expected, 4):
            raise DataError(
                f"views: pictures {self.images.dtype} {self.images.shape}, cameras ask for uint8 {(*expected, 4)}"
            )
        if self.depth is not None:
            if self.depth.shape != expected:
                raise DataError(f"views: depth {self.depth.shape}, cameras ask for {expected}")
            if not np.isfinite(self.depth).all() or self.depth.min() < 0:
                raise DataError("views: depth holds values that are negative or not finite")
        if not self.names:
            object.__setattr__(self, "names", tuple(f"{i:03d}" for i in range(len(self))))
        if len(set(self.names)) != len(self):
            raise DataError(f"views: {len(set(self.names))} different names for {len(self)} views")

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> PosedViews:
        """Some of the views."""
        chosen = np.arange(len(self))[index]
        depth = None if self.depth is None else self.depth[chosen]
        names = tuple(self.names[i] for i in chosen)
        return PosedViews(self.images[chosen], self.cameras[chosen], depth, names)

    @property
    def alpha(self) -> npt.NDArray[np.float32]:
        """[N, H, W] in [0, 1]."""
        return np.asarray(self.images[..., 3] / np.float32(255), np.float32)

    @property
    def opaque(self) -> bool:
        """Whether the pictures show their own background (no pixel is transparent)."""
        return bool((self.images[..., 3] == 255).all())

    @property
    def silhouettes(self) -> npt.NDArray[np.bool_]:
        """[N, H, W] where the object covers at least half a pixel."""
        return self.images[..., 3] >= 128

    def composite(
        self, background: Sequence[float] | npt.NDArray[np.floating[Any]] = WHITE
    ) -> npt.NDArray[np.uint8]:
        """The pictures on a background, uint8 [N, H, W, 3]: a colour, or pictures [N, H, W, 3], in [0, 1]."""
        alpha = self.alpha[..., None]
        mixed = self.images[..., :3] * alpha + np.asarray(background, np.float32) * 255 * (1 - alpha)
        return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)

    def need_depth(self, purpose: str) -> npt.NDArray[np.float32]:
        """The depth.

        Raises:
            DataError: the scene has none, in one line that names the purpose.
        """
        if self.depth is None:
            raise DataError(
                f"{purpose} needs depth, and these views have none: add `depth_file_path` to their frames, "
                "render them from a model, or fit a radiance field and render its depth"
            )
        return self.depth

    def without_depth(self) -> PosedViews:
        """The same views, depth left out."""
        return replace(self, depth=None)
