"""voxhammer-v1: the evaluation of VoxHammer's Edit3D-Bench (Nelipot-Lee/VoxHammer, a1b139c, Edit3D-Bench/eval_modules).

What it does that a protocol made today would not, and what published values therefore contain:

1. views stand before a grey of 127 and are shrunk to 512 pixels bilinearly (image_metrics.py);
2. a view in which nothing outside the region differs has no PSNR and is left out of the mean, so a method that keeps
   the rest exactly is judged by its other views;
3. PSNR is a mean of decibels, not of squared errors;
4. SSIM's window reaches beyond the picture's border into zeros;
5. LPIPS is fed with values 0 to 1 where it expects -1 to 1;
6. DINO-I looks at whole pictures, the edit included, at their middle 224 of 256 pixels, and takes the class token for
   one of the image's;
7. the region's mask is where its surface is seen before the source's (utils/render_rgb_and_mask.py): what an edit adds
   beside it counts as damage, and a region that lies beneath the source's surface is not seen at all;
8. Chamfer distance is of distances, not of their squares, and half the sum of both directions (geometry_metrics.py);
9. its points are drawn on all surfaces, those inside an object too, without a seed; here the seed is fixed;
10. CLIP-T takes the six views within 45 degrees of the front (data_loader.py).

What is not reproduced:

- Their 16 views stand at elevations of 15 and 30 degrees and are rendered by Blender in a studio's light; here they are
  the eight of the stored turntable at their azimuths, at the turntable's elevation, by this project's renderer. So the
  numbers stand beside each other here, not beside published ones.
- FID and FVD are numbers of a whole set, without a value for an edit, an interval or a paired test, and their networks
  (torch-fidelity's Inception, an I3D from a third party's repository) are in no library that is used here.

The metrics of Eval3DEdit need Uni3D, which is no package but a repository, and EVA02-CLIP-E/14+ (5 billion parameters):
they are left out, too. Of Steer3D's set the edited models are known: `views-clean` measures the distance to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piva_bench.metrics.evaluators import locate
from piva_bench.metrics.protocol import (
    MetricInfo,
    Pixels,
    Scores,
    Undefined,
    ViewsPair,
    fingerprint,
    versions,
)
from piva_bench.metrics.voxhammer_v1.table import METRICS

if TYPE_CHECKING:
    from piva_bench.metrics.clip_tower import ClipTower
    from piva_bench.metrics.dinov2 import Dinov2
    from piva_bench.metrics.lpips_model import Lpips
    from piva_bench.scene.views import PosedViews

DEFINITIONS = "voxhammer-v1/1"
"""Raise the last number when a metric's code changes what it computes."""

GREY = (127, 127, 127, 255)
SIDE = 512
AZIMUTHS = (0, 45, 90, 135, 180, 225, 270, 315)
FRONT = 45
"""Degrees from the front within which CLIP-T looks."""
NO_REGION = Undefined("the sample has no edit region")
COVERED = Undefined("the edit region covers every view")
NO_SURFACE = Undefined("no surface of the edit is stored: --keep-fields stores it, where the field has one")

Value = float | Undefined


class VoxHammerV1:
    """PSNR, SSIM, LPIPS and Chamfer distance outside the edit region, DINO-I, CLIP-T.

    Args:
        lpips: LPIPS-alex; by default on the local trunk.
        dino: DINOv2-base; by default the local copy.
        clip: CLIP ViT-B/32; by default the local copy.

    Raises:
        ModelError: a model is missing or damaged.
    """

    name: ClassVar[str] = "voxhammer-v1"
    kind: ClassVar[str] = "scenes"
    descriptors: ClassVar[Mapping[str, MetricInfo]] = {metric.name: metric for metric in METRICS}

    def __init__(
        self, lpips: Lpips | None = None, dino: Dinov2 | None = None, clip: ClipTower | None = None
    ) -> None:
        from piva_bench.metrics.clip_tower import ClipTower
        from piva_bench.metrics.dinov2 import Dinov2
        from piva_bench.metrics.lpips_model import Lpips

        # The cheap look-ups first: what is missing is said before seconds of loading.
        places = {name: locate(name) for name in _needed(lpips, dino, clip)}
        self._lpips = lpips or Lpips.load("alex", places["lpips-alex"])
        self._dino = dino or Dinov2.load(places["dinov2-base"])
        self._clip = clip or ClipTower.load(places["openclip-vit-b32"])
        models = (self._lpips.model, self._dino.model, self._clip.model)
        self._fingerprint = fingerprint(
            DEFINITIONS, *versions("trimesh", "pillow"), self._clip.description, *models
        )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over weights, preprocessing, definitions and the libraries that decide numbers."""
        return self._fingerprint

    def score(self, pair: ViewsPair) -> Scores:
        """All metrics of one 3D edit; see ``descriptors`` for their definitions."""
        chosen = nearest_views(pair.edited, AZIMUTHS)
        source, edited = as_compared(pair.source[chosen]), as_compared(pair.edited[chosen])
        kept = None if pair.region is None else [outside(mask) for mask in pair.region.mask[chosen]]
        front = np.abs(pair.edited.cameras.azimuths[chosen]) <= FRONT + 1
        return Scores.collect(
            {
                **self._outside(source, edited, kept),
                "dino_i": float(np.mean(self._dino.similarities(list(source), list(edited)))),
                "chamfer": _chamfer(pair),
                "clip_t": self._clip_t(edited[front], pair.plain_target),
                "clip_t_source": self._clip_t(source[front], pair.plain_target),
            }
        )

    def _outside(
        self, source: Pixels, edited: Pixels, kept: Sequence[NDArray[np.bool_]] | None
    ) -> dict[str, Value]:
        import torch

        from piva_bench.metrics.voxhammer_v1.pixels import psnr, ssim_map

        if kept is None:
            return dict.fromkeys(("psnr", "ssim", "lpips"), NO_REGION)
        found: dict[str, list[float]] = {"psnr": [], "ssim": [], "lpips": []}
        for first, second, where in zip(source, edited, kept, strict=True):
            if not where.any():
                continue
            one, other = (
                torch.from_numpy(each.copy()).permute(2, 0, 1).float() / 255 for each in (first, second)
            )
            at = torch.from_numpy(where)
            if (decibels := psnr(one, other, at)) is not None:
                found["psnr"].append(decibels)
            found["ssim"].append(float(ssim_map(one, other)[at].mean()))
            found["lpips"].append(float(self._lpips.map(one, other)[at].mean()))
        equal = Undefined("nothing differs outside the edit region: PSNR is infinite")
        return {
            name: float(np.mean(values)) if values else equal if found["ssim"] else COVERED
            for name, values in found.items()
        }

    def _clip_t(self, pictures: Pixels, prompt: str) -> Value:
        if not len(pictures):
            return Undefined("no view is taken from the front")
        images = self._clip.encode_images(list(pictures))
        return float((images @ self._clip.encode_texts([prompt])[0]).mean())


def _needed(lpips: object, dino: object, clip: object) -> list[str]:
    names = {"lpips-alex": lpips, "dinov2-base": dino, "openclip-vit-b32": clip}
    return [name for name, model in names.items() if model is None]


def nearest_views(views: PosedViews, azimuths: Sequence[float]) -> NDArray[np.intp]:
    """For each azimuth, in degrees, the view that is taken nearest to it; each view once, in order of the azimuths."""
    apart = np.abs((views.cameras.azimuths[None] - np.array(azimuths)[:, None] + 180) % 360 - 180)
    return np.array(list(dict.fromkeys(apart.argmin(axis=1).tolist())), np.intp)


def as_compared(views: PosedViews) -> Pixels:
    """The views before grey at the size that is compared, uint8 [V, 512, 512, 3]."""
    shown = []
    for picture in views.images:
        image = Image.fromarray(picture)
        ground = Image.new("RGBA", image.size, GREY)
        ground.paste(image, (0, 0), image)
        shown.append(np.asarray(ground.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
    return np.stack(shown)


def outside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a view's region is not, at the size that is compared."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.NEAREST)) == 0


def _chamfer(pair: ViewsPair) -> Value:
    from piva_bench.metrics.voxhammer_v1.surfaces import chamfer_outside

    if pair.region is None:
        return NO_REGION
    if pair.surface is None:
        return NO_SURFACE
    return chamfer_outside(pair.region.source, pair.surface, pair.region.volume)
