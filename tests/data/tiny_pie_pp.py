"""A small PIE-Bench++ in the hub repository's layout and schema."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

import datasets
from piva_bench.data.pie_pp import CONFIGURATIONS

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        **{
            name: datasets.Value("string")
            for name in ("id", "source_prompt", "target_prompt", "edit_action", "aspect_mapping",
                         "blended_words", "mask")
        },
    }
)  # fmt: skip


def row(number: int, side: int = 512, **changes) -> dict:
    rng = np.random.default_rng(number)
    ramp = np.linspace(*rng.integers(0, 256, (2, 3)), side)[None].repeat(side, 0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "JPEG")
    start = side * side // 4 + side // 4
    values = {
        "image": {"bytes": buffer.getvalue(), "path": f"{number:012d}.jpg"},
        "id": f"{number:012d}",
        "source_prompt": "a [white] cat on a mat",
        "target_prompt": "a [red] cat on a [wooden] mat",
        "edit_action": "{'red': {'position': 1, 'edit_type': 6, 'action': 'white'}}",
        "aspect_mapping": "{'cat': ['red']}",
        "blended_words": json.dumps(["white,red", "mat,wooden mat"]),
        "mask": " ".join(
            str(value) for line in range(side // 4) for value in (start + line * side, side // 4)
        ),
    }
    return {**values, **changes}


def make_pie_pp(
    root: Path, rows: dict[str, list[dict]] | None = None, side: int = 512, count: int = 12
) -> Path:
    """Writes parquet files of the repository's schema: `rows` by configuration, else `count` taking turns."""
    if rows is None:
        rows = {}
        for number in range(count):
            rows.setdefault(CONFIGURATIONS[number % len(CONFIGURATIONS)], []).append(row(number, side))
    for configuration, listed in rows.items():
        path = root / configuration / "V1-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(listed, features=FEATURES).to_parquet(path)
    return root
