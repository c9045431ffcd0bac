"""Any model's file: what kind it is, its reader, and what comes of it."""

from __future__ import annotations

from pathlib import Path

from piva_bench.errors import DataError
from piva_bench.scene.models.geometry import in_box
from piva_bench.scene.models.gltf import read_gltf
from piva_bench.scene.models.meshes import read_mesh
from piva_bench.scene.models.obj import read_obj
from piva_bench.scene.models.surface import Model

MODELS = (".glb", ".gltf", ".obj", ".ply", ".stl")
"""Endings of the files that are read."""
_BY_BLENDER = "in Blender: File > Import, then File > Export > glTF 2.0 (.glb)"
FOREIGN = {
    ".fbx": "an FBX file", ".usd": "a USD file", ".usda": "a USD file", ".usdc": "a USD file",
    ".usdz": "a USDZ file", ".blend": "a Blender file", ".dae": "a COLLADA file", ".3ds": "a 3DS file",
    ".abc": "an Alembic file", ".x3d": "an X3D file", ".wrl": "a VRML file", ".off": "an OFF file",
    ".3mf": "a 3MF file", ".step": "a STEP file", ".stp": "a STEP file", ".ma": "a Maya file",
    ".mb": "a Maya file", ".max": "a 3ds Max file", ".c4d": "a Cinema 4D file", ".lwo": "a LightWave file",
    ".splat": "a cloud of Gaussian splats",
    ".spz": "a cloud of Gaussian splats",
}  # fmt: skip
"""Models that are not read, by their ending."""
_BEGINNINGS = (
    (b"version https://git-lfs", "is a pointer of Git LFS and not the file itself: run `git lfs pull`"),
    (b"<!doctype html", "is a web page and not a model: download the file itself"),
    (b"<html", "is a web page and not a model: download the file itself"),
    (b"kaydara fbx", f"is an FBX file, which is not read: export it as GLB ({_BY_BLENDER})"),
    (b"pk\x03\x04", "is a ZIP archive: unpack it and name the model in it"),
    (b"pk", "is a ZIP archive: unpack it and name the model in it"),
    (b"\x1f\x8b", "is compressed by gzip: unpack it"),
    (b"pxr-usdc", f"is a USD file, which is not read: export it as GLB ({_BY_BLENDER})"),
    (b"blender-v", f"is a Blender file, which is not read: export it as GLB ({_BY_BLENDER})"),
)


def read_model(path: Path) -> Model:
    """A model from a GLB, glTF, OBJ, PLY or STL file, in a box about the origin whose largest edge is 1.

    Raises:
        DataError: the file is missing, of a kind that is not read, damaged, or nothing of it can be seen; in one
            line that names the cure.
    """
    if not path.is_file():
        raise DataError(f"the 3D model {path} does not exist")
    suffix = path.suffix.lower()
    try:
        _refuse_foreign(path, suffix)
        if suffix in (".glb", ".gltf"):
            surfaces, notes = read_gltf(path)
        elif suffix == ".obj":
            surfaces, notes = read_obj(path)
        else:
            surfaces, notes = read_mesh(path)
        seen = [surface for surface in surfaces if not surface.invisible]
        if not seen:
            raise DataError("all of it is fully transparent: nothing can be seen of it")
        if hidden := len(surfaces) - len(seen):
            notes.say(f"{hidden} of its {len(surfaces)} parts are fully transparent and left out")
        seen, place = in_box(seen)
    except DataError as error:
        raise DataError(f"cannot read the 3D model {path}: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read the 3D model {path}: {error.strerror or error}") from error
    # What a malformed file brings about: entries of another type, missing ones, sizes beyond measure.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"cannot read the 3D model {path}: it is damaged ({type(error).__name__}: {reason})"
        ) from error
    if not any(surface.coloured for surface in seen):
        why = "" if notes.lines else "it has neither texture nor colours: "
        notes.say(f"{why}it is shown in plain grey")
    return Model(tuple(seen), notes.all(), place)


def _refuse_foreign(path: Path, suffix: str) -> None:
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise DataError("it is empty: get it again")
    if suffix in FOREIGN:
        raise DataError(f"it is {FOREIGN[suffix]}, which is not read: export it as GLB ({_BY_BLENDER})")
    start = head.lstrip().removeprefix(b"\xef\xbb\xbf").lower()
    for beginning, words in _BEGINNINGS:
        if start.startswith(beginning):
            raise DataError(f"it {words}")
    if suffix not in MODELS:
        raise DataError(f"only {', '.join(MODELS)} files are read: export it as one of them")
