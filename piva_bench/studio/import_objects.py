"""Turn the CC0 models of Blend Swap, as packaged with Sweet Home 3D, into the studio's GLB objects.

Source: the archive ``BlendSwap-CC-0.sh3f`` (a zip of OBJ + MTL + textures, each with its licence file) of Debian's
package ``sweethome3d-furniture``. Each model is brought to one frame: y up, standing on y = 0, centred, largest
edge 1, its canonical side towards +z; large meshes are thinned and textures shrunk to what the studio can show.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial

from piva_bench.errors import DataError
from piva_bench.studio.objects import trimesh_parts

SOURCES: dict[str, tuple[str, float]] = {
    "teddy_bear": ("teddyBear", -20),
    "chicken": ("chicken", 55),
    "horse": ("horse2", 60),
    "cactus": ("cactus", 0),
    "cupcake": ("cupcake", 0),
    "forklift": ("forkLift", -20),
    "biplane": ("cartoon_biplane", -40),
    "table": ("oakTable", 0),
    "motorbike": ("motorbike", -15),
    "rocking_horse": ("caballito", -15),
    "barrel": ("barrel", 0),
    "crate": ("crate", 30),
    "guitar": ("electricGuitar", 0),
    "piano": ("pianoAQueue", 25),
    "mailbox": ("mofx_mailbox", 60),
    "armchair": ("winchesterArmchair", -30),
    "cup": ("caffe_final", 0),
    "lantern": ("stoneLantern", 0),
    "fire_extinguisher": ("fireExtinguisher", 0),
    "wheelbarrow": ("wheelbarrow", -25),
    "toilet": ("toiletsUnit", -35),
    "lamp": ("desklamp", 0),
    "boots": ("bootie", 40),
    "handbag": ("handbag", -25),
}
"""Studio name to (folder in the archive, degrees to turn it about the vertical so that its good side shows)."""

MAX_FACES = 12_000
MAX_TEXTURE = 256


def _base(mesh: trimesh.Trimesh) -> tuple[np.ndarray, Image.Image | None]:
    """Base colour (RGB in [0, 1]) and texture of one part, whatever material class trimesh gave it."""
    visual = mesh.visual
    material = getattr(visual, "material", None)
    image = getattr(material, "image", None)
    colour = getattr(material, "diffuse", None)
    if colour is None:
        colour = getattr(visual, "main_color", np.array([180, 180, 180, 255]))
    return np.asarray(colour, float)[:3] / 255.0, image


def import_part(mesh: trimesh.Trimesh, keep: float) -> trimesh.Trimesh:
    """One part with a plain PBR material; parts without texture are thinned to a share ``keep`` of their faces."""
    colour, image = _base(mesh)
    uv = getattr(mesh.visual, "uv", None)
    if image is None or uv is None:
        bare = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
        if keep < 1 and len(bare.faces) > 200:
            bare = bare.simplify_quadric_decimation(face_count=int(len(bare.faces) * keep))
        bare.visual = trimesh.visual.TextureVisuals(
            uv=np.zeros((len(bare.vertices), 2)),
            material=PBRMaterial(baseColorFactor=[*colour, 1.0], metallicFactor=0.0, roughnessFactor=0.8),
        )
        return bare
    image = image.convert("RGB")
    image.thumbnail((MAX_TEXTURE, MAX_TEXTURE))
    mesh.visual = trimesh.visual.TextureVisuals(
        uv=uv, material=PBRMaterial(baseColorTexture=image, metallicFactor=0.0, roughnessFactor=0.8)
    )
    return mesh


def normalise(scene: trimesh.Scene, turn: float) -> trimesh.Scene:
    """The scene centred on the y axis, standing on y = 0, with largest edge 1, turned by ``turn`` degrees."""
    scene.apply_transform(trimesh.transformations.rotation_matrix(np.radians(turn), [0, 1, 0]))
    low, high = scene.bounds
    centre = (low + high) / 2
    scene.apply_translation([-centre[0], -low[1], -centre[2]])
    scene.apply_scale(1.0 / (high - low).max())
    return scene


def import_objects(archive: Path, out: Path) -> None:
    """Write ``out/<name>.glb`` and ``out/licences/<name>.*`` for every studio object; see ``import_models``."""
    import_models(archive, out, SOURCES, lambda name, mesh, keep: import_part(mesh, keep))


def import_models(
    archive: Path,
    out: Path,
    sources: Mapping[str, tuple[str, float]],
    part: Callable[[str, trimesh.Trimesh, float], trimesh.Trimesh],
) -> None:
    """Write a GLB and the licence of every model.

    Args:
        archive: the unpacked archive (the folder that holds ``blendswap-cc-0``).
        out: folder of the objects.
        sources: as ``SOURCES``.
        part: makes a part of the object from its name, a mesh and the share of faces to keep.

    Raises:
        DataError: the archive is not there.
    """
    models = archive / "blendswap-cc-0"
    if not models.is_dir():
        raise DataError(f"{archive} holds no folder blendswap-cc-0: unpack BlendSwap-CC-0.sh3f there first")
    (out / "licences").mkdir(parents=True, exist_ok=True)
    for name, (folder, turn) in sources.items():
        source = models / folder
        meshes = trimesh_parts(trimesh.load_scene(next(source.glob("*.obj"))))
        keep = min(1.0, MAX_FACES / sum(len(mesh.faces) for mesh in meshes))
        scene = normalise(trimesh.Scene([part(name, mesh, keep) for mesh in meshes]), turn)
        (out / f"{name}.glb").write_bytes(scene.export(file_type="glb"))
        for licence in (path for path in source.iterdir() if "licen" in path.name.lower()):
            shutil.copyfile(licence, out / "licences" / f"{name}{licence.suffix}")
