"""What 3D edits are judged before: places that no edit has seen.

An edit that is only ever seen before one place can paint a hat like the wall behind it, and the hat is gone for every
evaluator that looks at it there. It is not gone before another wall.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

PLAIN = ((52, 72, 96), (214, 196, 170), (110, 132, 92), (160, 92, 84))
"""Colours to stand before where no other places are known: muted, of four hues, dark and light."""


def unseen(own: Pixels, places: Sequence[Pixels]) -> Pixels:
    """Two backdrops uint8 [2, V, H, W, 3] unlike what views stand before, and unlike each other.

    Args:
        own: [V, H, W, 3], what they stand before.
        places: others of this shape to choose from; with fewer than two, plain colours.
    """
    if len(places) < 2:
        places = [np.broadcast_to(np.array(colour, np.uint8), own.shape) for colour in PLAIN]
    chosen: list[Pixels] = []
    for _ in range(2):
        taken = [own, *chosen]
        chosen.append(max(places, key=lambda place: min(_difference(place, other) for other in taken)))
    return np.stack(chosen)


def _difference(first: Pixels, second: Pixels) -> float:
    """Mean absolute difference of levels."""
    return float(np.abs(first.astype(np.int16) - second).mean())
