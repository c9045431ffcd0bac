"""The library in a notebook, and the page that shows it."""

import subprocess
import sys
from pathlib import Path

import pytest

import piva_bench
from piva_bench.errors import UserError
from tests.harness import environment

ROOT = Path(__file__).parents[1]


def test_the_page_for_python_runs_as_it_stands(cli, tmp_path, bench):
    assert cli("run", "-m", "dds,identity", "-n", 2, "-o", "o")[0] == 0
    picture = next((bench / "data" / "annotation_images").rglob("s0.png"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / "notebook.py"), str(picture), str(tmp_path / "o")],
        capture_output=True, text=True, cwd=tmp_path, env=environment(bench), timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "40 rows of the network" in done.stdout
    assert "identity" in done.stdout
    assert (tmp_path / "red.png").is_file()


def test_an_edit_takes_pictures_files_and_parameters(bench, tmp_path):
    from PIL import Image

    path = next((bench / "data" / "annotation_images").rglob("s0.png"))
    options = {"method": "dds", "model": str(bench / "model"), "steps": 2}
    one = piva_bench.edit(path, "a red cup", "a blue cup", **options)
    other = piva_bench.edit(Image.open(path), "a red cup", "a blue cup", **options)
    assert list(one.image.get_flattened_data()) == list(other.image.get_flattened_data())
    assert one.unet_evaluations == 8
    assert len(one.trace["loss"]) == 2
    with pytest.raises(UserError, match="Did you mean steps"):
        piva_bench.edit(path, "a", "b", method="dds", model=str(bench / "model"), stesp=3)
    with pytest.raises(UserError, match="no folder"):
        piva_bench.load_results(tmp_path / "nowhere")


def test_the_face_has_what_it_says_and_nothing_else():
    assert set(piva_bench.__all__) == {"Edited", "edit", "load_results", "prepare"}
    with pytest.raises(AttributeError):
        piva_bench.nothing  # noqa: B018


def test_a_plug_in_finds_all_names_under_one_roof_without_loading_torch():
    import piva_bench.plugin as plugin

    assert all(getattr(plugin, name) is not None for name in plugin.__all__)
    code = "import sys, piva_bench.plugin; print(sorted({'torch', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
