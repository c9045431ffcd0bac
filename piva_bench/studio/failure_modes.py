"""The failure-mode set: transparent, reflecting and thin objects from all sides, with edits and counterfactuals.

Fields of density and view-independent colour cannot show what one sees through and what mirrors, and at 64 pixels
hardly what is thinner than a voxel. The objects are not in the studio's vocabulary: its models have never seen
them, nor the nouns in the prompts; every other word they know.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import trimesh
from trimesh.visual.material import PBRMaterial

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.scene_manifest import SampleEntry
from piva_bench.drawing.parts import Part, Thing, part_of, thing_of, trimesh_parts
from piva_bench.studio import vocabulary as words
from piva_bench.studio.import_objects import import_models, import_part
from piva_bench.studio.photograph_scenes import SIZE, Shoot, photograph_scenes
from piva_bench.studio.plan_objaverse import DISTANCE, TURNTABLE_ELEVATION, PlannedEdit, plan_edit
from piva_bench.studio.render import OBJECT, Placed, on_top, stand
from piva_bench.studio.scene import Scene

METAL = list(words.MATERIALS).index("metal")
STAND_IN = "ball"
"""The word of the vocabulary that the captions' grammar is run with; the object's own takes its place."""


@dataclass(frozen=True)
class Failure:
    """One object.

    Attributes:
        folder: in the archive.
        kind: "transparent", "reflecting" or "thin".
        turn: degrees about the vertical that bring its good side to the front.
        edits: what each of its edits changes.
        place: floor and backdrop.
        metal: materials of the file that mirror.
    """

    folder: str
    kind: str
    turn: float
    edits: Mapping[str, Mapping[str, str]]
    place: tuple[str, str]
    metal: tuple[str, ...] = ()


def _edits(*names: str) -> dict[str, dict[str, str]]:
    """Edits by name: a colour, a material or an accessory."""
    fields: dict[str, Collection[str]] = {
        "color": words.COLORS,
        "material": words.MATERIALS,
        "accessory": words.ACCESSORIES,
    }
    return {name: {field: name} for name in names for field, known in fields.items() if name in known}


FAILURES: dict[str, Failure] = {
    "beer_glass": Failure("beerGlass", "transparent", 0, _edits("red", "party_hat"), ("sand", "night")),
    "shower_stall": Failure(
        "showerStall",
        "transparent",
        30,
        _edits("green", "wood"),
        ("tiles", "grey"),
        ("chrome_dull", "chrome_shiny"),
    ),
    "perfume_bottle": Failure("flacon", "transparent", 20, _edits("purple", "top_hat"), ("sand", "sky")),
    "coffee_machine": Failure(
        "coffeeBrewer", "transparent", 30, _edits("blue", "marble"), ("wood", "sunset"), ("Metal",)
    ),
    "dustbin": Failure("dustbin", "reflecting", 0, _edits("blue", "marble"), ("grass", "sky"), ("CHROME",)),
    "wash_basin": Failure(
        "washbasin",
        "reflecting",
        30,
        _edits("pink", "party_hat"),
        ("tiles", "brick"),
        ("chrome_dark", "sink_chrome"),
    ),
    "lounge_chair": Failure(
        "relaxChair", "reflecting", 40, _edits("red", "top_hat"), ("wood", "grey"), ("chrom",)
    ),
    "fence": Failure("fence", "thin", 25, _edits("yellow", "party_hat"), ("grass", "sunset")),
    "radiator": Failure("radiator", "thin", 25, _edits("green", "wood"), ("wood", "brick")),
    "tennis_racket": Failure("tennisRacket", "thin", 15, _edits("blue", "party_hat"), ("sand", "grey")),
    "spiral_staircase": Failure("spiralStaircase", "thin", 0, _edits("red", "marble"), ("tiles", "sky")),
    "deck_chair": Failure("deckChair", "thin", 40, _edits("purple", "top_hat"), ("sand", "sky")),
}


def import_failures(archive: Path, out: Path) -> None:
    """Write ``out/<name>.glb`` and ``out/licences/<name>.*`` for every object.

    The base colour's alpha is the file's dissolve, metalness 1 marks what mirrors.

    Args:
        archive: the unpacked archive (the folder that holds ``blendswap-cc-0``).
        out: folder of the objects.

    Raises:
        DataError: the archive is not there.
    """
    sources = {name: (failure.folder, failure.turn) for name, failure in FAILURES.items()}
    import_models(
        archive, out, sources, lambda name, mesh, keep: _import_part(mesh, keep, FAILURES[name].metal)
    )


def _import_part(mesh: trimesh.Trimesh, keep: float, metal: tuple[str, ...]) -> trimesh.Trimesh:
    original: Any = mesh.visual.material
    dissolve = float(original.kwargs.get("d", ["1"])[0])
    mirrors = original.name in metal
    part = import_part(mesh, keep)
    material: PBRMaterial = part.visual.material
    material.metallicFactor = float(mirrors)
    if dissolve < 1:
        material.baseColorFactor = [*material.baseColorFactor[:3], round(255 * dissolve)]
        material.alphaMode = "BLEND"
    return part


@dataclass(frozen=True)
class Piece:
    """Parts of an object that are of one nature."""

    thing: Thing
    opacity: float
    metal: bool


@lru_cache
def load_pieces(path: Path) -> tuple[Thing, tuple[Piece, ...]]:
    """A whole object, and its pieces."""
    natures: dict[tuple[float, bool], list[Part]] = {}
    for mesh in trimesh_parts(trimesh.load_scene(path)):
        material: Any = mesh.visual.material
        factor = [255] * 4 if material.baseColorFactor is None else list(material.baseColorFactor)
        texture = material.baseColorTexture
        part = part_of(
            mesh,
            (factor[0] / 255, factor[1] / 255, factor[2] / 255),
            None if texture is None else texture.convert("RGB"),
        )
        natures.setdefault((factor[3] / 255, (material.metallicFactor or 0) > 0.5), []).append(part)
    pieces = tuple(Piece(thing_of(parts), *nature) for nature, parts in natures.items())
    return thing_of([part for parts in natures.values() for part in parts]), pieces


def pieces_of(path: Path, scene: Scene) -> list[Placed]:
    """An object with a scene's colour, material and accessory. Of another material nothing is seen through."""
    whole, pieces = load_pieces(path)
    model, outline = stand(whole)
    material = list(words.MATERIALS).index(scene.material)
    placed = [
        Placed(
            piece.thing, f"{path}#{number}", model, OBJECT, words.COLORS[scene.color] if scene.color else None,
            material or METAL * piece.metal, 0, 1.0 if material else piece.opacity,
        )
        for number, piece in enumerate(pieces)
    ]  # fmt: skip
    return placed + ([on_top(scene.accessory, outline)] if scene.accessory != "none" else [])


def photograph_failures(out: Path) -> None:
    """Take all pictures of the objects in ``out/objects`` and write the dataset in `out`."""
    shoots, samples = [], {}
    for name, failure in FAILURES.items():
        path, rng = out / "objects" / f"{name}.glb", random.Random(f"failures-{name}")
        floor, backdrop = failure.place
        source = Scene(
            STAND_IN, floor=floor, backdrop=backdrop, elevation=TURNTABLE_ELEVATION, distance=DISTANCE
        )
        edits = {}
        for label, change in failure.edits.items():
            target = source.replace(**change)
            planned = _renamed(plan_edit(f"{name}-{label}", source, target, rng), name.replace("_", " "))
            edits[planned.id] = pieces_of(path, target)
            samples[planned.id] = SampleEntry(
                scene=name, edit_type=planned.edit_type, prompts=planned.prompts, instruction=planned.instruction,
                reshaped=False, tags={"kind": failure.kind}, words=change,
            )  # fmt: skip
        shoots.append(Shoot(name, source, pieces_of(path, source), edits, name, {"kind": failure.kind}))
    card = DatasetCard(
        name="failure-modes",
        title="Failure modes: transparent, reflecting and thin objects",
        license="CC0-1.0",
        source="rendered by piva_bench.studio.failure_modes from the CC0 models in datasets/failure_modes/objects",
        description=(
            f"{len(samples)} edits of {len(shoots)} objects in 3D that a field of view-independent colour shows "
            "badly, with their counterfactuals; views and format as in datasets/objaverse/studio. The objects and "
            "their nouns are unknown to the embedded models."
        ),
        resolution=SIZE,
        has_reference=True,
    )
    photograph_scenes(out, shoots, samples, card)


def _renamed(edit: PlannedEdit, noun: str) -> PlannedEdit:
    def rename(text: str) -> str:
        return re.sub(rf"\b{STAND_IN}\b", noun, text)

    prompts = {side: (rename(source), rename(target)) for side, (source, target) in edit.prompts.items()}
    return PlannedEdit(edit.id, edit.edit_type, edit.target, prompts, rename(edit.instruction))
