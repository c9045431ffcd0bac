"""The embedded PIE-Bench: 140 edit tasks in its proportions and format, each with its counterfactual."""

from __future__ import annotations

import json
import random
import textwrap
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.pie import CARD, EDIT_TYPES, read_pie
from piva_bench.data.pie_write import PieEntry, write_card, write_pie
from piva_bench.data.validation import PIE
from piva_bench.studio import vocabulary as words
from piva_bench.studio.edit_mask import edit_mask, fault
from piva_bench.studio.edits import EditSpec, random_edit
from piva_bench.studio.render import Renderer
from piva_bench.studio.scene import Scene, composition_key, held_out_pair, random_scene

COUNTS = dict(zip(EDIT_TYPES.values(), (28, 16, 16, 16, 8, 8, 8, 8, 16, 16), strict=True))
"""A fifth of PIE-Bench's 140/80/80/80/40/40/40/40/80/80."""
VALIDATION_COUNTS = dict(zip(EDIT_TYPES.values(), (12, 7, 7, 7, 3, 3, 4, 3, 7, 7), strict=True))
"""Sixty in the same proportions, for the validation set."""
PAIR_EVERY = 4
"""One sample in so many shows an object in a colour or material that no training picture ever shows it in."""
NATURAL_EVERY = 3
"""One source in so many has its model's own colours. Left to chance they would be few: there are not many
compositions without a paint, and training pictures have shown most of them."""

_ATTEMPTS = 4000
_PLAIN = {"print": "none", "material": "plain", "pose": "upright", "accessory": "none", "style": "photo"}


@dataclass(frozen=True)
class PlannedEdit:
    """One sample of the dataset before its pictures are taken."""

    id: str
    """Twelve digits as in PIE-Bench: the edit type, then the number within it."""
    spec: EditSpec
    held_out: str
    """"pair": the target shows an object in a colour or material that training never shows it in;
    "composition": its parts have been seen, never together."""


def plan_pie(
    seed: int, renderer: Renderer, counts: Mapping[str, int] = COUNTS, shown: Collection[str] = ()
) -> list[PlannedEdit]:
    """Choose the edit tasks, deterministically from `seed`.

    Scenes are drawn from the distribution of the training scenes, with at most one word beyond colour, floor
    and backdrop, until the edit is fair (`piva_bench.studio.edit_mask.fault`) and no composition repeats.
    Objects come in turn, so that each is used about equally often.

    Args:
        seed: another seed, another dataset.
        renderer: photographs the candidates for the check.
        counts: edit type -> number of samples.
        shown: composition keys of training pictures that exist already, which no sample may have.
    """
    used: Counter[str] = Counter()
    seen = set(shown)
    plan = []
    for type_id, edit_type in EDIT_TYPES.items():
        count = counts.get(edit_type, 0)
        # By chance: the kinds of edit within a type come in turn, so every fourth would be of one kind.
        pairs = random.Random(f"pie-{seed}-pairs-{edit_type}").sample(range(count), count // PAIR_EVERY)
        for index in range(count):
            # In PIE-Bench's ids the digits after the type tell artificial from natural pictures.
            id_ = f"{type_id}{index:011d}"
            held_out = "pair" if index in pairs else "composition"
            spec = _find_edit(
                edit_type, index, held_out, random.Random(f"pie-{seed}-{id_}"), renderer, used, seen
            )
            used.update({spec.source.object, spec.target.object})
            seen.update(map(composition_key, (spec.source, spec.target)))
            plan.append(PlannedEdit(id_, spec, held_out))
    return plan


def _find_edit(
    edit_type: str,
    index: int,
    held_out: str,
    rng: random.Random,
    renderer: Renderer,
    used: Counter[str],
    seen: set[str],
) -> EditSpec:
    for attempt in range(_ATTEMPTS):
        base = _base_scene(rng, used, patience=attempt // 40)
        if held_out == "composition" and index % NATURAL_EVERY == 1:
            base = base.replace(color=None)
        spec = random_edit(edit_type, base, rng, index)
        pairs = held_out_pair(spec.source), held_out_pair(spec.target)
        if pairs[1] if held_out == "composition" else not pairs[1]:
            continue
        if held_out == "composition" and pairs[0]:
            continue
        if seen & set(map(composition_key, (spec.source, spec.target))):
            continue
        if (
            fault(spec.source, spec.target, renderer.render(spec.source), renderer.render(spec.target))
            is None
        ):
            return spec
    raise RuntimeError(f"no fair {edit_type} edit number {index} in {_ATTEMPTS} attempts")


def _base_scene(rng: random.Random, used: Counter[str], patience: int) -> Scene:
    """A scene of one of the least used objects, plain but for colour, place and at most one thing more.

    Args:
        rng: source of chance.
        used: how often each object has been shown.
        patience: how many times more often than the least used one an object may have been used.
    """
    least = min(used[name] for name in words.OBJECTS)
    scene = random_scene(rng, all_sides=False)
    scene = scene.replace(
        object=rng.choice([name for name in words.OBJECTS if used[name] <= least + patience])
    )
    kept = rng.choice(("print", "material", "accessory", "style", "second", None))
    plain: dict[str, str | None] = {name: default for name, default in _PLAIN.items() if name != kept}
    if kept != "second":
        plain |= {"second": "none", "second_color": None}
    return scene.replace(**plain)


def build(
    out: Path,
    seed: int,
    resolution: int = 64,
    shown: Collection[str] = (),
    counts: Mapping[str, int] = COUNTS,
) -> None:
    """Make the dataset in the folder `out`: a new plan, then everything `photograph_plan` writes.

    Models are trained on pictures that avoid the plan's compositions, so a new plan asks for new models;
    to take the pictures of the present plan again, call `photograph_plan` alone.

    Args:
        out: folder to write; what it holds already is overwritten.
        seed: decides everything.
        resolution: side of the pictures in pixels. Which edits count as fair is decided at this resolution.
        shown: composition keys of training pictures that exist already, which no sample may have.
        counts: edit type -> number of samples.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_plan(out, plan_pie(seed, Renderer(resolution), counts, shown=shown))
    photograph_plan(out, resolution)


def write_plan(out: Path, plan: Sequence[PlannedEdit]) -> None:
    """Write ``scenes.json``, the plan, and ``held_out.json``, the compositions that training must avoid."""
    lines = [f"{json.dumps(planned.id)}: {json.dumps(asdict(planned))}" for planned in plan]
    (out / "scenes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    keys = {
        composition_key(scene) for planned in plan for scene in (planned.spec.source, planned.spec.target)
    }
    (out / "held_out.json").write_text(json.dumps(sorted(keys), indent=0) + "\n")


def read_plan(out: Path) -> list[PlannedEdit]:
    """Read the plan that `write_plan` wrote."""
    plan = []
    for planned in json.loads((out / "scenes.json").read_text()).values():
        spec = planned["spec"]
        scenes = {side: Scene.from_dict(spec[side]) for side in ("source", "target")}
        plan.append(PlannedEdit(**{**planned, "spec": EditSpec(**{**spec, **scenes})}))
    return plan


def photograph_plan(out: Path, resolution: int = 64) -> None:
    """Take all pictures of the plan in `out` and write the dataset there in PIE-Bench's format."""
    plan = read_plan(out)
    renderer = Renderer(resolution)
    counts = Counter(planned.spec.edit_type for planned in plan)
    write_pie(out, [photograph(planned, renderer, counts[planned.spec.edit_type]) for planned in plan])
    validation = out.name == PIE
    card = DatasetCard(
        name="pie-studio-val" if validation else "pie-studio",
        title="PIE-Bench studio" + (": validation" if validation else ""),
        license="CC0-1.0",
        source="rendered by piva_bench.studio.build_pie from the CC0 models in datasets/studio/objects",
        description=(
            f"{len(plan)} rendered edit tasks in PIE-Bench's ten types, proportions and file format, "
            "with the exact counterfactual of every edit."
        ),
        resolution=resolution,
        has_reference=True,
        samples=len(plan),
    )
    write_card(out / CARD, card)
    write_card(out / CARD, card.model_copy(update={"revision": read_pie(out).revision}))


def photograph(planned: PlannedEdit, renderer: Renderer, count: int) -> PieEntry:
    """Take the two pictures of an edit and its mask; `count` is the number in the folder's name."""
    spec = planned.spec
    before, after = renderer.render(spec.source), renderer.render(spec.target)
    return PieEntry(
        id=planned.id,
        image_path=f"{spec.edit_type}_{count}/{planned.id}.png",
        source=before.image,
        source_prompt=spec.source_prompt,
        target_prompt=spec.target_prompt,
        instruction=spec.instruction,
        edit_type_id=planned.id[0],
        blended_word=spec.blended_word,
        mask=edit_mask(spec.source, spec.target, before, after),
        reference=after.image,
        tags={"held_out": planned.held_out},
    )


def contact_sheet(root: Path, edit_type: str | None = None, cell: int = 128) -> Image.Image:
    """A sheet to look at: source, mask over source, counterfactual and prompts of every sample in `root`.

    Args:
        root: dataset folder or zip in PIE-Bench's format.
        edit_type: show only this type.
        cell: side of a picture on the sheet, in pixels; enlarged without smoothing.
    """
    samples = [s for s in read_pie(root).samples if edit_type in (None, s.edit_type)]
    columns, width, height = 3, 3 * cell + 8, cell + 84
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        x, y = number % columns * width, number // columns * height
        source, mask, target = sample.load_source(), sample.load_mask(), sample.load_reference()
        tinted = np.asarray(source).copy()
        if mask is not None:
            tinted[mask] = tinted[mask] // 2 + np.array([110, 0, 60], np.uint8)
        pictures = (source, Image.fromarray(tinted), target or source)
        for place, picture in enumerate(pictures):
            enlarged = picture.resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (x + place * cell, y))
        order = f"{sample.id[-3:]} ({sample.tags.get('held_out')}): {sample.instruction}"
        lines = (sample.source_prompt, sample.target_prompt, order)
        text = "\n".join(part for line in lines for part in textwrap.wrap(line, width // 5))
        draw.multiline_text((x, y + cell + 2), text, fill="black", font_size=9, spacing=2)
    return sheet
