"""Other people's sets of 3D edits, each laid out as its ``benchmark.yaml`` says: rows of tables, models as files.

Rules that edit by the difference of two prompts need to be told what the source shows. Sets that were made for editors
which take an order have no such caption: it comes from ``captions.csv`` in the set's folder, by the id of an edit or of
its object.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piva_bench import paths
from piva_bench.data.dataset import DatasetCard, Problem
from piva_bench.data.edit_set_layout import FILE, Layout, Names, Table, filled, read_layout
from piva_bench.data.edit_set_models import Models
from piva_bench.data.fields import short, storable
from piva_bench.data.files import FolderFiles
from piva_bench.data.listed_scenes import EDIT_TYPE, ListedScenes, in_turn, side_prompts
from piva_bench.data.model_beside import ModelBeside
from piva_bench.data.objaverse_objects import PHOTOGRAPHS_VERSION, PhotographedModel
from piva_bench.data.sample import Sample, UnreadableSample, need_readable
from piva_bench.data.scene_sample import SceneSample
from piva_bench.data.tables import read_table
from piva_bench.errors import DataError
from piva_bench.key import content_key
from piva_bench.scene.cameras import RIG
from piva_bench.scene.sources import FRAMES, MODEL_VIEWS, ROOM, SIDE_WORDS, STUDIO_SIDE_WORDS

if TYPE_CHECKING:
    from piva_bench.profiles import Profile

CAPTIONS = "captions.csv"
CAPTION_COLUMNS = ("id", "source_prompt", "target_prompt")
Captions = tuple[str | None, str | None]
"""Source and target prompt; None where nobody says."""
NOBODY: Captions = (None, None)
MORE_CELLS = "it has more cells than there are columns: put text that holds separators in quotes"


@dataclass(frozen=True)
class Entry:
    """One edit as its set has it.

    Attributes:
        id: its name.
        object: what it edits.
        values: by our names, for templates.
        prompts: source and target; None where nobody says.
        instruction: as an order; may be empty.
        edit_type: as the set calls it.
        fault: what is wrong with its row, if something is.
    """

    id: str
    object: str
    values: Mapping[str, str]
    prompts: Captions
    instruction: str
    edit_type: str
    fault: str = ""


def open_edit_set(name: str, profile: Profile, root: Path | None, strict: bool = True) -> ListedScenes:
    """A set of 3D edits. An edit that cannot be used has an `UnreadableSample`.

    Args:
        name: of the layout that ships for it.
        profile: says how large the views are and whose words name the sides.
        root: the set's folder; or a layout of one's own, which lies in it.
        strict: whether a set of which no edit can be used is an error.

    Raises:
        DataError: no folder or no table of the set, a malformed layout or captions file, or (strict) no edit can be
            used.
    """
    layout, folder = _find(name, root)
    entries, notes = _entries(layout, folder)
    captions, unused = _captions(folder, entries)
    models = Models(folder)
    words = STUDIO_SIDE_WORDS if profile.name == "embedded" else SIDE_WORDS
    samples: dict[str, list[Sample]] = {}
    told: list[list[Any]] = []
    for entry in entries:
        sample: Sample
        try:
            if entry.fault:
                raise DataError(entry.fault)
            prompts = _prompts(layout, folder, entry, captions)
            sample, files = _sample(layout, models, entry, prompts, words, profile.resolution)
        except DataError as error:
            sample, files, prompts = _unusable(entry, folder, error), [], ("", "")
        told.append([entry.id, *prompts, entry.instruction, entry.edit_type, files])
        samples.setdefault(entry.object, []).append(sample)
    ordered = in_turn(list(samples.values()))
    if strict:
        need_readable(ordered)
    shown = {
        "photographs": PHOTOGRAPHS_VERSION,
        "rig": asdict(RIG),
        "views": [MODEL_VIEWS, FRAMES],
        "room": ROOM,
    }
    revision = content_key({"set": name, "edits": told, "words": dict(words), **shown})[:16]
    return ListedScenes(
        name,
        _card(name, layout, profile.resolution),
        ordered,
        revision,
        problems=tuple(Problem(None, line) for line in unused),
        notes=(*_about(name, layout), *notes, *unused),
    )


open_gedit3d = partial(open_edit_set, "gedit3d")
open_edit3d_steer3d = partial(open_edit_set, "edit3d_steer3d")
open_edit3d_voxhammer = partial(open_edit_set, "edit3d_voxhammer")
open_eval3dedit = partial(open_edit_set, "eval3dedit")


def _find(name: str, root: Path | None) -> tuple[Layout, Path]:
    shipped = paths.data_root() / name / FILE
    if root is None:
        layout = read_layout(shipped)
        raise DataError(
            f"The dataset '{name}' needs --data-root: the folder of {layout.title}, from {layout.source} "
            f"(licence: {layout.license})"
        )
    if root.is_dir():
        own = root / FILE
        return read_layout(own if own.is_file() else shipped), root
    return read_layout(root), root.parent


def _entries(layout: Layout, folder: Path) -> tuple[list[Entry], list[str]]:
    """The edits of all tables that are there, and a line for each that is not."""
    there = [table for table in layout.tables if (folder / table.file).is_file()]
    absent = [table.file for table in layout.tables if table not in there]
    if not there:
        raise DataError(
            f"{folder} holds no {' and no '.join(absent)}, by which {layout.title} is known: name its own folder, or "
            f"write a {FILE} into it that says where its tables are"
        )
    if not there[0].given:
        there = there[:1]
    entries: dict[str, Entry] = {}
    for table in there:
        for number, row in read_table(folder / table.file, None, ()):
            for entry in _of_row(layout, table, row, f"{table.file} row {number}", entries):
                entries[entry.id] = entry
    # Tables of which nothing is given are other names for one.
    parts = absent if any(table.given for table in layout.tables) else []
    return [*entries.values()], [f"{folder} does not hold {', '.join(parts)}: left out"] if parts else []


def _of_row(layout: Layout, table: Table, row: Any, place: str, taken: Container[str]) -> Iterator[Entry]:
    """The edits of a row; one without an id of its own is called by its place."""
    if not isinstance(row, Mapping):
        raise DataError(f"{place} is {short(row)}, not values by column")
    named = layout.named(row, table)
    for each in layout.several(row) or [{}]:
        values = named | each

        def first(templates: Names, values: Mapping[str, str] = values) -> str | None:
            return next(iter(filled(templates, values)), None)

        key, thing = (first(layout.id) or "").replace("/", "-"), first(layout.object)
        where = " ".join([place, *each.values()][:2])
        if not key and layout.edits and not each:
            fault = f"its row has nothing in {', '.join(layout.edits)}: no edit is asked for"
        elif not key or not thing:
            fault = (
                f"its row gives no id or object ({' or '.join((*layout.id, *layout.object))}); it has the columns "
                f"{', '.join(map(str, row))}: write a {FILE} that names them into the set's folder"
            )
        elif key in taken:
            fault = f"another edit has its id {short(key)}: the layout has to give each its own"
        else:
            fault = MORE_CELLS if None in row else ""
        yield Entry(
            where if fault else key,
            thing or where,
            values,
            (first(layout.source_prompt), first(layout.target_prompt)),
            first(layout.instruction) or "",
            first(layout.edit_type) or EDIT_TYPE,
            fault,
        )


def _captions(folder: Path, entries: list[Entry]) -> tuple[dict[str, Captions], list[str]]:
    """What people have written for edits or objects, and a line on what of it is for none of them."""
    path = folder / CAPTIONS
    if not path.is_file():
        return {}, []
    captions: dict[str, Captions] = {}
    edits = {entry.id for entry in entries}
    for number, row in read_table(path, CAPTION_COLUMNS, ("id",)):
        key = str(row.get("id", "")).strip()
        if not key or key in captions:
            raise DataError(f"{path} row {number}: {f'{short(key)} comes twice' if key else 'it has no id'}")
        if None in row:
            raise DataError(f"{path} row {number}: {MORE_CELLS}")
        source, target = (str(row.get(column) or "").strip() or None for column in CAPTION_COLUMNS[1:])
        captions[key] = (source, target)
    objects = {entry.object for entry in entries} - edits
    if several := next((key for key, (_, target) in captions.items() if target and key in objects), None):
        raise DataError(f"{path}: {short(several)} is an object: a target_prompt is for one of its edits")
    lost = [key for key in captions if key not in edits | objects]
    line = f"{path}: {len(lost)} of {len(captions)} rows are for no edit, such as {short(lost[:1])}"
    return captions, [line] if lost else []


def _prompts(layout: Layout, folder: Path, entry: Entry, captions: Mapping[str, Captions]) -> tuple[str, str]:
    """Source and target prompt: written for the edit, (the source's) for its object, or the set's own.

    Raises:
        DataError: one of them nobody says.
    """
    said = (captions.get(entry.id, NOBODY), captions.get(entry.object, NOBODY), entry.prompts)
    source, target = (next((pair[side] for pair in said if pair[side]), None) for side in (0, 1))
    if source is None or target is None:
        lacking = [name for name, value in (("source", source), ("target", target)) if value is None]
        raise DataError(
            f"it has no {' and no '.join(lacking)} prompt, which {layout.title} does not give: write "
            f"{folder / CAPTIONS}, a table with the columns {','.join(CAPTION_COLUMNS)} and a row for each edit or "
            f"object (here the id is {' or '.join(dict.fromkeys((entry.id, entry.object)))})"
        )
    for side, value in (("source", source), ("target", target)):
        storable(entry.id, f"{side} prompt", value)
    return source, target


def _sample(
    layout: Layout,
    models: Models,
    entry: Entry,
    prompts: tuple[str, str],
    words: Mapping[str, str],
    resolution: int,
) -> tuple[SceneSample, list[str]]:
    """The sample and what its files hold."""
    path, sha = models.find(layout.source_model, entry.values, "source model")
    scene = PhotographedModel(entry.object, path, sha, resolution)
    beside = {}
    for what, templates in (("target model", layout.target_model), ("edit region", layout.region_model)):
        if templates:
            beside[what] = ModelBeside(*models.find(templates, entry.values, what), scene)
    target, region = beside.get("target model"), beside.get("edit region")
    sample = SceneSample(
        id=entry.id,
        source_path=path,
        source_prompt=prompts[0],
        target_prompt=prompts[1],
        instruction=entry.instruction,
        edit_type=entry.edit_type,
        tags={"object": entry.object},
        resolution=resolution,
        scene=scene,
        counterfactual=target.turntable if target else None,
        region=region.region if region else None,
        side_prompts=side_prompts(prompts, words),
    )
    return sample, [sha, *(f"{what} {each.sha256}" for what, each in beside.items())]


def _unusable(entry: Entry, folder: Path, error: DataError) -> UnreadableSample:
    fault = str(error) if str(error).startswith("sample ") else f"sample {short(entry.id)}: {error}"
    sample = UnreadableSample.of(entry.id, fault, FolderFiles(folder), entry.edit_type)
    return replace(sample, tags={"object": entry.object})


def _card(name: str, layout: Layout, resolution: int) -> DatasetCard:
    return DatasetCard(
        name=name,
        title=layout.title,
        license=layout.license,
        source=layout.source,
        description=layout.description,
        citation=layout.citation,
        resolution=resolution,
        has_reference=bool(layout.target_model),
        samples=layout.samples,
    )


def _about(name: str, layout: Layout) -> list[str]:
    lines = [f"{layout.title}: licence: {layout.license}"]
    if layout.unconfirmed:
        lines.append(f"{name}: not compared with the set's own files: {layout.unconfirmed}")
    return lines
