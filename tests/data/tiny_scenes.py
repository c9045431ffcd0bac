"""A dataset of two 3D edits of one invented ball, written by hand so that nothing of ours decides what is right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

SIZE, FIT, TURN = 32, 4, 8
NEAR, FAR = 2.0, 4.0


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, lossless=True, exact=True)


def sheet(pictures: np.ndarray) -> np.ndarray:
    """Twelve a row, written with a loop."""
    count, side = len(pictures), pictures.shape[1]
    page = np.zeros((-(-count // 12) * side, 12 * side, *pictures.shape[3:]), np.uint8)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, 12)
        page[row * side : (row + 1) * side, column * side : (column + 1) * side] = picture
    return page


def ball(count: int, colour: tuple[int, int, int], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """RGBA views, each a little darker than the last, and grey levels of depth."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    inside = np.hypot(x, y) < radius
    views = np.zeros((count, SIZE, SIZE, 4), np.uint8)
    for i in range(count):
        views[i, inside] = [*(np.array(colour) - 5 * i), 255]
    levels = np.repeat(np.where(inside, 128, 0)[None], count, axis=0).astype(np.uint8)
    return views, levels


def write_tiny_scenes(root: Path) -> dict[str, np.ndarray]:
    """Writes the dataset; returns the pictures that are in it, by name."""
    truth = {}
    for name, count, colour, radius in (
        ("fit", FIT, (200, 60, 60), 5.0),
        ("turntable", TURN, (200, 60, 60), 5.0),
        ("ball-blue", TURN, (60, 60, 200), 5.0),
        ("ball-large", TURN, (200, 60, 60), 7.0),
    ):
        views, levels = ball(count, colour, radius)
        truth[name], truth[f"{name}_depth"] = views, levels
        _save(root / f"views/ball/{name}.webp", sheet(views))
        if name != "ball-blue":
            _save(root / f"views/ball/{name}_depth.webp", sheet(levels))
    truth["shadows"] = np.full((FIT + TURN, SIZE, SIZE), 255, np.uint8)
    truth["shadows"][:, SIZE // 2 :] = np.arange(100, 100 + FIT + TURN)[:, None, None]
    _save(root / "views/ball/shadows.webp", sheet(truth["shadows"]))
    truth["set"] = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    _save(root / "sets/floor.webp", np.concatenate(list(truth["set"]), axis=1))
    prompts = {
        side: [f"a red ball{told}", f"a blue ball{told}"]
        for side, told in (("front", ""), ("side", " from the side"), ("back", " from behind"))
    }
    sample = {"scene": "ball", "prompts": prompts, "instruction": "paint it", "tags": {"held_out": "pair"}}
    manifest = {
        "format": "piva-bench scenes 1",
        "stage": {
            "size": SIZE, "distance": 3.0, "fov": 30.0, "box": [[-1, -1, -1], [1, 1, 1]], "depth": [NEAR, FAR],
        },
        "fit": {"azimuths": [0, 90, 180, 270], "elevations": [10, 10, 20, 20]},
        "turntable": {"azimuths": [45 * i for i in range(TURN)], "elevations": [20] * TURN},
        "sets": {"floor": [10, 20]},
        "scenes": {"ball": {"object": "ball", "set": "floor"}},
        "samples": {
            "ball-blue": {**sample, "edit_type": "6_change_attribute_color", "reshaped": False},
            "ball-large": {**sample, "edit_type": "0_random", "reshaped": True},
        },
    }  # fmt: skip
    (root / "scenes.json").write_text(json.dumps(manifest))
    card = {
        "name": "tiny", "title": "Tiny scenes", "license": "CC0-1.0", "source": "made for a test",
        "description": "a ball", "resolution": SIZE, "has_reference": True, "samples": 2,
    }  # fmt: skip
    (root / "dataset.yaml").write_text(yaml.safe_dump(card))
    return truth
