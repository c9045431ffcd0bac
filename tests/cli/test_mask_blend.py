"""`--mask-blend`: the source comes back outside the mask, and such edits are a condition of their own."""

import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.cli.run import EXIT_FAILED_SAMPLES
from piva_bench.report.results import load_results


def made(run):
    """Records and pictures by (method, sample, mask condition)."""
    found = {}
    for path in (run / "records").glob("*.json"):
        record = json.loads(path.read_text())
        picture = run / "images" / f"{record['key']}.png"
        pixels = np.asarray(Image.open(picture)).astype(int) if picture.is_file() else None
        found[record["method"], record["sample_id"], record["mask"]] = record, pixels
    return found


INSIDE = np.ones((32, 32), dtype=bool)
INSIDE[1:-1, 1:-1] = False  # PIE-Bench's masks all hold the border
INSIDE[8:20, 8:20] = True


def test_a_method_blended_at_the_end_is_the_source_outside_the_mask(cli, bench, tmp_path):
    common = ("run", "-m", "dds,vae_roundtrip", "-n", "2", "-o", "out")
    assert cli(*common)[0] == 0
    code, out, err = cli(*common, "--mask-blend", "end")
    assert code == 0, err
    assert "4 computed, 0 already stored" in err
    assert "Edits pasted into the source by the edit mask" in out
    edits = made(tmp_path / "out")
    for method in ("dds", "vae_roundtrip"):
        for sample in ("s0", "s1"):
            source = next((bench / "data" / "annotation_images").rglob(f"{sample}.png"))
            free, blended = edits[method, sample, None][1], edits[method, sample, "end"][1]
            pixels = np.asarray(Image.open(source)).astype(int)
            assert (blended[~INSIDE] == pixels[~INSIDE]).all()
            assert (blended[INSIDE] == free[INSIDE]).all()
            assert (free[~INSIDE] != pixels[~INSIDE]).any()
    # Side by side in one frame, and the same again is nothing new.
    results = load_results(tmp_path / "out")
    assert set(results["section"]) == {"method", "reference", "end"}
    assert set(results["variant"]) == {"dds", "dds (mask=end)", "vae_roundtrip", "vae_roundtrip (mask=end)"}
    assert "0 computed, 4 already stored" in cli(*common, "--mask-blend", "end")[2]
    assert "0 computed, 4 already stored" in cli(*common)[2]


def test_blending_in_every_step_is_another_edit(cli, tmp_path):
    common = ("run", "-m", "dds", "-n", "2", "-o", "out")
    for more in (
        (),
        ("--mask-blend", "end"),
        ("--mask-blend", "steps"),
        ("--mask-blend", "steps", "--workers", "2"),
    ):
        code, out, err = cli(*common, *more)
        assert code == 0, err
    assert "0 computed, 2 already stored" in err
    assert "Edits blended with the source by the edit mask in every step" in out
    edits = made(tmp_path / "out")
    for sample in ("s0", "s1"):
        pictures = [edits["dds", sample, mask][1] for mask in (None, "end", "steps")]
        assert all((a != b).any() for a, b in itertools.combinations(pictures, 2))


def test_what_cannot_be_blended_is_said_before_anything_is_computed(cli, tmp_path):
    code, _, err = cli("run", "-m", "dds,sdedit,p2p", "-n", "1", "-o", "out", "--mask-blend", "steps")
    assert code == EXIT_USER_ERROR
    assert "sdedit, p2p are none" in err
    assert not (tmp_path / "out" / "records").exists()


@pytest.mark.parametrize("blend", ["end", "steps"])
def test_a_sample_without_a_mask_fails_alone(cli, bench, tmp_path, blend):
    shutil.copytree(bench / "data", tmp_path / "data")
    mapping = json.loads((tmp_path / "data" / "mapping_file.json").read_text())
    mapping["s0"]["mask"] = None
    (tmp_path / "data" / "mapping_file.json").write_text(json.dumps(mapping))
    code, _, err = cli(
        "run", "-m", "dds", "-n", "2", "-o", "out", "--data-root", tmp_path / "data", "--mask-blend", blend
    )
    assert code == EXIT_FAILED_SAMPLES, err
    edits = made(tmp_path / "out")
    assert edits["dds", "s0", blend][0]["reason"].startswith("the sample has no mask")
    assert edits["dds", "s1", blend][0]["status"] == "ok"
