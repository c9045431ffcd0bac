"""`run` on somebody else's set of 3D edits, down to the table of its authors' metrics."""

import csv
import json

import pytest

from piva_bench import profiles
from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.cli.data import EXIT_PROBLEMS
from piva_bench.data import model_beside, objaverse_objects
from tests.data.tiny_edit_sets import write_captions, write_voxhammer
from tests.metrics.paper_models import save_dinov2, save_open_clip, save_trunk

NAME = "edit3d_voxhammer"


@pytest.fixture
def scenes(cli, tiny_profile, monkeypatch, tmp_path):
    """The command line with caches of its own, tiny evaluators, and fields that have a surface."""
    monkeypatch.delenv("PIVA_BENCH_DATA_ROOT")
    for name in ("fields", "views", "evaluators"):
        monkeypatch.setenv(f"PIVA_BENCH_{name.upper()}", str(tmp_path / name))
    save_dinov2(tmp_path / "evaluators" / "dinov2-base")
    save_open_clip(tmp_path / "evaluators" / "openclip-vit-b32")
    save_trunk(tmp_path / "evaluators" / "lpips-alex", "alexnet")
    for module in (objaverse_objects, model_beside):
        monkeypatch.setattr(module, "FRAMES", 12)
    short = {"steps": 2, "views": 2, "fit_steps": 80, "fit_resolution": 16}
    changes = {"scene_protocol": "voxhammer-v1", "scene_defaults": short}
    monkeypatch.setitem(profiles.PROFILES, "embedded", tiny_profile.model_copy(update=changes))
    return cli


def test_a_set_is_edited_scored_and_set_in_a_table(scenes, tmp_path):
    pytest.importorskip("moderngl")
    root = write_voxhammer(tmp_path / "set")
    words = ("-d", NAME, "--data-root", "set", "-o", "out", "--device", "cpu")
    code, _, err = scenes("run", "-m", "identity", *words)
    assert code == EXIT_USER_ERROR
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "captures" not in line
    assert "captions.csv, a table with the columns id,source_prompt,target_prompt" in line
    write_captions(root, ("GSO-Mug", "a mug"), ("PartObjaverse-Tiny-ab12", "a robot"))
    code, out, err = scenes("run", "-m", "identity,dds", *words, "--limit", 1, "--keep-fields")
    assert code == 0, err
    assert "licence: not stated for the whole" in err
    assert "2 edits: 2 computed" in err
    assert "protocol voxhammer-v1 (" in out
    with (tmp_path / "out" / "report" / "methods-full.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"identity", "dds"}
    for row in rows.values():
        assert row["protocol"] == "voxhammer-v1"
        for name in ("psnr", "ssim", "lpips", "dino_i", "chamfer", "clip_t"):
            assert row[f"{name}_n"] == "1", name
        # Two steps leave the box where it is; a voxel of the field is a twelfth of its longest edge.
        assert 0 < float(row["chamfer"]) < 0.2
        assert 0 < float(row["ssim"]) < 1
        assert row["clip_t_source"] == rows["dds"]["clip_t_source"]
    assert float(rows["dds"]["psnr"]) != float(rows["identity"]["psnr"])


def test_a_copy_is_checked_and_described(scenes, tmp_path):
    pytest.importorskip("moderngl")
    root = write_voxhammer(tmp_path / "set")
    write_captions(root, ("GSO-Mug", "a mug"), ("PartObjaverse-Tiny-ab12", "a robot"))
    (root / "GSO" / "Mug" / "prompt_2" / "3d_edit_region.glb").unlink()
    code, out, err = scenes("data", "verify", NAME, "--data-root", "set")
    assert code == EXIT_PROBLEMS
    assert "holds 3 samples, its card says 300" in out
    assert "sample 'GSO-Mug-prompt_2': edit region" in out
    assert "2 problems" in out
    code, out, _ = scenes("describe", "dataset", NAME, "--data-root", "set", "--json")
    assert json.loads(out)["license"].startswith("not stated for the whole")
    code, out, _ = scenes("list", "datasets", "--json")
    names = {row["name"] for row in json.loads(out)["datasets"]}
    assert {"gedit3d", "edit3d_steer3d", "edit3d_voxhammer", "eval3dedit"} <= names
    code, _, err = scenes("run", "-m", "identity", "-d", NAME, "-o", "out")
    assert code == EXIT_USER_ERROR
    assert "needs --data-root: the folder of Edit3D-Bench (VoxHammer)" in err
