"""The tiny PIE-Bench copy as fixtures."""

import json
from pathlib import Path

import pytest

from piva_bench.data.pie_write import write_pie
from tests.data.tiny_pie import CARD, entry


@pytest.fixture
def pie_folder(tmp_path: Path) -> Path:
    root = tmp_path / "pie"
    write_pie(root / "data", [entry(index) for index in range(3)], CARD)
    return root


@pytest.fixture
def edit_mapping(pie_folder: Path):
    """Change the mapping file: a function that takes a function of the parsed mapping."""

    def change(edit) -> Path:
        path = pie_folder / "data" / "mapping_file.json"
        mapping = json.loads(path.read_text())
        edit(mapping)
        path.write_text(json.dumps(mapping))
        return pie_folder

    return change
