"""A disc on a turntable before a photograph; judged before its negative and upside down: 3D edits to be scored."""

import numpy as np

from piva_bench.metrics.protocol import ViewsPair
from piva_bench.scene.cameras import orbit
from piva_bench.scene.views import PosedViews
from tests.metrics.pictures import PROMPTS, photograph

SIDE_PROMPTS = {side: (f"{PROMPTS[0]} {side}", f"{PROMPTS[1]} {side}") for side in ("front", "side", "back")}


def views(colour, radius=20, count=6):
    """A disc that faces every camera."""
    cameras = orbit(np.arange(count) * 360.0 / count, np.full(count, 18.0), 3.0, 30.0, 64, 64)
    y, x = np.mgrid[:64, :64] - 31.5
    disc = np.hypot(x, y) < radius
    images = np.zeros((count, 64, 64, 4), np.uint8)
    images[:, disc] = [*colour, 255]
    return PosedViews(
        images, cameras, np.repeat(np.where(disc, 3, 0)[None], count, axis=0).astype(np.float32)
    )


def views_pair():
    """Red, to be made blue, made purple."""
    source, reference = views((200, 40, 40)), views((40, 40, 200))
    own = np.repeat(photograph()[None], 6, axis=0)
    return ViewsPair(
        source, views((90, 40, 150)), reference, own, np.stack([255 - own, own[:, ::-1]]), SIDE_PROMPTS
    )
