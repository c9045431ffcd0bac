"""The embedded 3D set: studio objects from all sides, each with edits and their exact counterfactuals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.scene_manifest import SampleEntry
from piva_bench.data.validation import SCENES
from piva_bench.paths import data_root
from piva_bench.studio.held_out import held_out_compositions
from piva_bench.studio.photograph_scenes import SIZE, Shoot, photograph_scenes
from piva_bench.studio.plan_objaverse import (
    EDITS,
    VALIDATION_EDITS,
    PlannedEdit,
    PlannedScene,
    held_out,
    plan_objaverse,
)
from piva_bench.studio.render import Renderer, place
from piva_bench.studio.scene import Scene, composition_key, training_scenes

PLAN, HELD_OUT = "plan.json", "held_out.json"


def build(out: Path, seed: int, training_count: int = 30_000, validation: bool = False) -> None:
    """Make the dataset in the folder `out`: a new plan, then everything `photograph_plan` writes.

    Args:
        out: folder to write; what it holds already is overwritten.
        seed: decides everything but objects and edits.
        training_count: so many pictures have been trained on, which avoid the embedded PIE-Bench's compositions;
            so do the scenes of this set, and those of the pictures.
        validation: whether it is the validation set, of other objects; it shares no composition with the others.
    """
    pie = set(json.loads((data_root() / "pie" / HELD_OUT).read_text()))
    taken = {composition_key(scene) for scene in training_scenes(0, training_count, pie)} | pie
    if validation:
        taken |= held_out_compositions(SCENES)
    plan = plan_objaverse(seed, Renderer(SIZE), taken, VALIDATION_EDITS if validation else EDITS)
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(scene)) for scene in plan]
    (out / PLAN).write_text("[\n" + ",\n".join(lines) + "\n]\n")
    scenes = [
        scene for planned in plan for scene in (planned.source, *(edit.target for edit in planned.edits))
    ]
    (out / HELD_OUT).write_text(
        json.dumps(sorted({composition_key(scene) for scene in scenes}), indent=0) + "\n"
    )
    photograph_plan(out)


def read_plan(out: Path) -> list[PlannedScene]:
    """Read the plan that `build` wrote."""
    return [
        PlannedScene(
            Scene.from_dict(scene["source"]),
            tuple(
                PlannedEdit(
                    **{**edit, "target": Scene.from_dict(edit["target"]), "prompts": _pairs(edit["prompts"])}
                )
                for edit in scene["edits"]
            ),
        )
        for scene in json.loads((out / PLAN).read_text())
    ]


def photograph_plan(out: Path) -> None:
    """Take all pictures of the plan in `out` and write the dataset there."""
    shoots, samples = [], {}
    for planned in read_plan(out):
        source, name = planned.source, planned.source.object
        edits = {edit.id: place(edit.target) for edit in planned.edits}
        shoots.append(Shoot(name, source, place(source), edits, name, source.attributes))
        for edit in planned.edits:
            ours, theirs = source.attributes, edit.target.attributes
            samples[edit.id] = SampleEntry(
                scene=name,
                edit_type=edit.edit_type,
                prompts=edit.prompts,
                instruction=edit.instruction,
                reshaped=False,
                tags={"held_out": held_out(edit.target)},
                words={head: value for head, value in theirs.items() if value != ours[head]},
            )
    validation = out.name == SCENES
    card = DatasetCard(
        name="objaverse-studio-val" if validation else "objaverse-studio",
        title="Studio objects from all sides" + (": validation" if validation else ""),
        license="CC0-1.0",
        source="rendered by piva_bench.studio.build_objaverse from the CC0 models in datasets/studio/objects",
        description=(
            f"{len(samples)} edits of {len(shoots)} objects in 3D: 48 views to fit a field to, 120 test views on a "
            "turntable, and the exact counterfactual of every edit from the same 120 cameras. It stands in for "
            "edits of Objaverse's objects; none of its objects is from there."
        ),
        resolution=SIZE,
        has_reference=True,
    )
    photograph_scenes(out, shoots, samples, card)


def _pairs(prompts: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {side: (source, target) for side, (source, target) in prompts.items()}
