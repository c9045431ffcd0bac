"""An Objaverse cache of invented objects, laid out like the package's own, and a subset that lists them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import trimesh
import yaml

RED, LONG, PAID, ABSENT, SILENT = ("a" * 32, "b" * 32, "c" * 32, "d" * 32, "e" * 32)
SHAPES = {RED: (1.0, 1.0, 1.0), LONG: (0.5, 0.5, 2.0), PAID: (1.0, 2.0, 1.0), SILENT: (1.0, 1.0, 2.0)}


def zipped(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(value).encode()))


def glb(cache: Path, uid: str) -> Path:
    return cache / "hf-objaverse-v1" / "glbs" / "000-000" / f"{uid}.glb"


def write_cache(cache: Path) -> Path:
    """The cache; `ABSENT` is known to Objaverse and not there."""
    root = cache / "hf-objaverse-v1"
    zipped(root / "object-paths.json.gz", {uid: f"glbs/000-000/{uid}.glb" for uid in (*SHAPES, ABSENT)})
    licences = {RED: "by", LONG: "cc0", PAID: "by-nc", SILENT: "by", ABSENT: "by"}
    zipped(root / "metadata" / "000-000.json.gz", {uid: {"license": each} for uid, each in licences.items()})
    for uid, extents in SHAPES.items():
        box = trimesh.creation.box(extents)
        box.visual.face_colors = (200, 40, 40, 255)
        glb(cache, uid).parent.mkdir(parents=True, exist_ok=True)
        box.export(glb(cache, uid))
    return cache


def write_subset(path: Path, *uids: str, **extra: object) -> Path:
    """A subset of these objects, two edits each; `SILENT` has no prompts."""
    objects = []
    for uid in uids:
        card: dict[str, object] = {"uid": uid, "name": f"Box {uid[0]}"}
        if uid != SILENT:
            card |= {"source_prompt": "a red box", "target_prompts": ["a blue box", "a wooden box"]}
        objects.append(card | extra)
    path.write_text(yaml.safe_dump({"name": "tiny", "title": "Tiny", "source": "a test", "objects": objects}))
    return path
