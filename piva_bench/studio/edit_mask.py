"""Where an edit shows: its mask, and whether it is an edit a viewer would see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from piva_bench.studio.render import ACCESSORY, BACKDROP, FLOOR, OBJECT, SECOND, Shot
from piva_bench.studio.scene import Scene

Mask = npt.NDArray[np.bool_]

VISIBLE_DIFFERENCE = 8
"""Largest channel difference, of 255, below which two pixels count as the same."""

SMALLEST = {OBJECT: 0.04, ACCESSORY: 0.006, SECOND: 0.008}
"""Least share of the picture that a thing must fill to be seen."""
LARGE_OBJECT = 0.07
"""Least share of the picture that an object must fill to show a print or a material, or to stand out from
checkered tiles."""
FLAT = ("table", "piano")
"""Objects whose upper side is all one sees: stripes run level round an object, so that side has none."""
LEAST_CONTRAST = 25.0
"""Least difference, of 255, between a thing and what lies round it: on average along its outline, where a
checkered floor alone makes differences, and between the mean colours of both sides, where it makes none."""
LEAST_CHANGE = 28.0
"""Least mean difference, of 255, between source and counterfactual over each thing that changes."""


def changed_things(source: Scene, target: Scene) -> tuple[int, ...]:
    """Ids (see `piva_bench.studio.render`) of the things that differ between two scenes."""
    look = ("object", "color", "material", "print", "pose", "yaw")
    fields = {
        OBJECT: look,
        ACCESSORY: ("accessory",),
        SECOND: ("second", "second_color"),
        FLOOR: ("floor",),
        BACKDROP: ("backdrop",),
    }
    return tuple(
        id_ for id_, names in fields.items() if any(getattr(source, n) != getattr(target, n) for n in names)
    )


def edit_mask(source: Scene, target: Scene, before: Shot, after: Shot) -> Mask:
    """The region to edit, boolean [H, W].

    It is the outline of everything that changes, in the source and in the counterfactual, one pixel wider
    because outlines are anti-aliased; and every pixel in which the two pictures visibly differ, so that cast
    shadows belong to the edit. Outside the mask the counterfactual is therefore the source. A change of style
    has the whole picture as its mask, as in PIE-Bench.
    """
    if source.style != target.style:
        return np.ones(before.ids.shape, bool)
    things = changed_things(source, target)
    outline = np.isin(before.ids, things) | np.isin(after.ids, things)
    outline = ndimage.binary_dilation(outline, np.ones((3, 3), bool))
    return outline | (_difference(before, after).max(-1) > VISIBLE_DIFFERENCE)


def fault(source: Scene, target: Scene, before: Shot, after: Shot) -> str | None:
    """Why the pair is no fair edit task (a thing too small, cut off or camouflaged, no change), or None."""
    for scene, shot in ((source, before), (target, after)):
        for id_, shown in _things(scene).items():
            if shown and (reason := _hidden(shot, id_)):
                return reason
        detailed = scene.print != "none" or scene.material != "plain" or scene.floor == "tiles"
        if detailed and (shot.ids == OBJECT).mean() < LARGE_OBJECT:
            return "object is too small for its print, its material or the tiles"
        if scene.print == "stripes" and scene.object in FLAT:
            return "object does not show its stripes"
    for region in _changed_regions(source, target, before, after):
        change = _difference(before, after)[region].mean()
        if change < LEAST_CHANGE:
            return f"changes something by only {change:.1f} of 255"
    if OBJECT in changed_things(source, target) and "none" not in (source.second, target.second):
        ours, theirs = before.ids == SECOND, after.ids == SECOND
        if (ours & theirs).sum() < 0.8 * (ours | theirs).sum():
            return "moves the second object"
    return None


def _things(scene: Scene) -> dict[int, bool]:
    return {OBJECT: True, ACCESSORY: scene.accessory != "none", SECOND: scene.second != "none"}


def _changed_regions(source: Scene, target: Scene, before: Shot, after: Shot) -> list[Mask]:
    """The outline of each changed thing in either picture; the whole picture for a change of style."""
    regions = [(before.ids == id_) | (after.ids == id_) for id_ in changed_things(source, target)]
    return [np.ones(before.ids.shape, bool)] if source.style != target.style else regions


def _hidden(shot: Shot, id_: int) -> str | None:
    mask = shot.ids == id_
    share = mask.mean()
    name = {OBJECT: "object", ACCESSORY: "accessory", SECOND: "second object"}[id_]
    if share < SMALLEST[id_]:
        return f"{name} fills only {share:.1%} of the picture"
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        return f"{name} is cut off"
    contrast = min(_rim_contrast(shot.image, mask), _mean_contrast(shot.image, mask))
    if contrast < LEAST_CONTRAST:
        return f"{name} stands out by only {contrast:.1f} of 255"
    return None


def _rim_contrast(image: npt.NDArray[np.uint8], mask: Mask) -> float:
    """Mean difference between pixels two inside and two outside of an outline, across rows and columns."""
    picture = image.astype(np.float32)
    differences = []
    for axis in (0, 1):
        inner, outer = np.roll(mask, 2, axis), np.roll(mask, -2, axis)
        step = np.abs(np.roll(picture, 2, axis) - np.roll(picture, -2, axis)).max(-1)
        differences.append(step[inner != outer])
    return float(np.concatenate(differences).mean())


def _mean_contrast(image: npt.NDArray[np.uint8], mask: Mask) -> float:
    """Largest channel difference between the mean colours of a thing and of a three-pixel ring round it."""
    ring = ndimage.binary_dilation(mask, np.ones((3, 3), bool), iterations=3) & ~mask
    return float(np.abs(image[mask].mean(0) - image[ring].mean(0)).max())


def _difference(before: Shot, after: Shot) -> npt.NDArray[np.int16]:
    return np.abs(before.image.astype(np.int16) - after.image.astype(np.int16))
