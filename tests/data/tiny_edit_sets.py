"""Small sets of 3D edits in the layouts of other people's, of boxes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import trimesh

RED, BLUE = (200, 40, 40, 255), (40, 40, 200, 255)


def box(extents, colour=RED, at=(0.0, 0.0, 0.0)):
    made = trimesh.creation.box(extents)
    made.apply_translation(at)
    made.visual.face_colors = colour
    return made


def write_model(path: Path, *parts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.util.concatenate(parts).export(path)


def write_csv(path: Path, *rows: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_captions(root: Path, *rows: tuple[str, ...]) -> None:
    columns = ("id", "source_prompt", "target_prompt")
    write_csv(root / "captions.csv", *(dict(zip(columns, row, strict=False)) for row in rows))


def write_voxhammer(root: Path) -> Path:
    """Two objects, the first with two edits; y is up, the region is a box round the upper half.

    All of them lie off the origin and are small, as files that nobody has brought to a unit box.
    """

    def away(mesh):
        return mesh.apply_scale(0.3).apply_translation((2, -1, 4))

    rows = [
        {
            "dataset": "GSO",
            "source_model": "Mug",
            "prompt_1": "a mug with a lid",
            "prompt_2": "a mug with ears",
        },
        {"dataset": "PartObjaverse-Tiny", "source_model": "ab12", "prompt_1": "a robot with wings"},
    ]
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.json").write_text(json.dumps(rows))
    for row in rows:
        folder = root / row["dataset"] / row["source_model"]
        write_model(folder / "source_model" / "model.glb", away(box((0.5, 1.0, 0.5))))
        for edit in (name for name in row if name.startswith("prompt")):
            write_model(folder / edit / "3d_edit_region.glb", away(box((0.7, 0.6, 0.7), at=(0, 0.4, 0))))
    return root


def write_steer3d(root: Path) -> Path:
    """One removal: the smaller of two boxes goes, so the target alone would be framed otherwise."""
    row = {"source_guid": "a" * 32, "target_guid": "b" * 32, "editing_text": "remove the blue box"}
    write_csv(root / "metadata" / "removal.csv", row)
    body = box((0.5, 0.5, 0.5), at=(0, -0.25, 0))
    shards = root / "data" / "glbs"
    write_model(shards / "aa" / f"{'a' * 32}.glb", body, box((0.3, 0.5, 0.3), BLUE, at=(0, 0.25, 0)))
    write_model(shards / "bb" / f"{'b' * 32}.glb", body)
    return root


def write_eval3dedit(root: Path) -> Path:
    """An edit whose result is described, and one that is an order alone."""
    write_csv(
        root / "metadata.csv",
        {"category": "Object Addition", "item_id": "0", "sha256": "0", "target_text": "a cat with a hat",
         "editing_instruction": ""},
        {"category": "action_change", "item_id": "3", "sha256": "1", "target_text": "",
         "editing_instruction": "let it sit"},
    )  # fmt: skip
    for place in ("object_addition/0", "action_change/3"):
        write_model(root / place / "src.glb", box(np.array((1.0, 0.5, 0.5))))
    return root


def write_gedit3d(root: Path) -> Path:
    """As the shipped layout guesses it."""
    row = {
        "id": 35,
        "edit_type": "add",
        "source_caption": "a flat cake",
        "target_caption": "a cake with cream",
    }
    row |= {"instruction": "add cream", "source_glb": "assets/00035.glb"}
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.json").write_text(json.dumps([row]))
    write_model(root / "assets" / "00035.glb", box((1.0, 0.4, 1.0)))
    return root
