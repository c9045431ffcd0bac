"""A small PIE-Bench in the official layout: 16 px JPEG pictures in nested folders."""

import zipfile
from pathlib import Path

import numpy as np

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.pie_write import PieEntry

CARD = DatasetCard(
    name="tiny",
    title="Tiny",
    license="CC0-1.0",
    source="made by the tests",
    description="Coloured ramps.",
    resolution=16,
    has_reference=True,
)


def picture(rng: np.random.Generator) -> np.ndarray:
    """A colour ramp that JPEG keeps well."""
    low, high = rng.integers(0, 256, (2, 3))
    ramp = np.linspace(low, high, 16)[None].repeat(16, 0)
    return ramp.astype(np.uint8)


def entry(index: int, **changes) -> PieEntry:
    """Sample number `index` of the tiny dataset."""
    rng = np.random.default_rng(index)
    mask = np.zeros((16, 16), bool)
    mask[4:8, 3:9] = True
    values = {
        "id": f"1110000000{index:02d}",
        "image_path": f"1_change_object_80/1_artificial/1_animal/1110000000{index:02d}.jpg",
        "source": picture(rng),
        "source_prompt": "a [cat] on a mat",
        "target_prompt": "a [dog] on a mat",
        "instruction": "Change the cat to a dog",
        "edit_type_id": "1",
        "blended_word": "cat dog",
        "mask": mask,
        "reference": picture(rng),
        "tags": {"held_out": "pair"},
    }
    return PieEntry(**{**values, **changes})


def zipped(folder: Path) -> Path:
    """The folder as an archive beside it, as macOS would make it."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
        file.writestr("__MACOSX/data/mapping_file.json", b"\0")
    return archive
