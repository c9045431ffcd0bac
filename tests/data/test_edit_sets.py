"""Other people's sets of 3D edits: rows to samples, what is asked for where a set lacks it, and what is refused."""

import json

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from piva_bench.data.dataset import verify
from piva_bench.data.edit_set_layout import read_layout
from piva_bench.errors import DataError
from piva_bench.paths import data_root
from piva_bench.profiles import PROFILES
from piva_bench.registry import DATASETS
from tests.data.tiny_edit_sets import (
    box,
    write_captions,
    write_csv,
    write_eval3dedit,
    write_gedit3d,
    write_model,
    write_steer3d,
    write_voxhammer,
)

PROFILE = PROFILES["paper"].model_copy(update={"resolution": 32})
NAMES = ("gedit3d", "edit3d_steer3d", "edit3d_voxhammer", "eval3dedit")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_VIEWS", str(tmp_path / "views"))


def opened(name, root, **more):
    return DATASETS.load(name)(PROFILE, root, **more)


def told(dataset):
    return {
        sample.id: (sample.source_prompt, sample.target_prompt, sample.instruction, sample.edit_type)
        for sample in dataset.samples
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_shipped_layout_says_what_it_is_and_nothing_of_the_set_ships(name):
    folder = data_root() / name
    assert [path.name for path in folder.iterdir()] == ["benchmark.yaml"]
    layout = read_layout(folder / "benchmark.yaml")
    assert layout.license
    assert layout.source.startswith("https://huggingface.co/datasets/")
    with pytest.raises(DataError, match="needs --data-root: the folder of") as error:
        opened(name, None)
    assert layout.license in str(error.value)


def test_two_sets_of_one_name_are_told_apart():
    titles = [read_layout(data_root() / name / "benchmark.yaml").title for name in NAMES[1:3]]
    assert titles == ["Edit3D-Bench (Steer3D)", "Edit3D-Bench (VoxHammer)"]


def test_voxhammer_has_up_to_three_edits_an_object_and_regions(tmp_path):
    root = write_voxhammer(tmp_path / "set")
    write_captions(root, ("GSO-Mug", "a mug", ""), ("PartObjaverse-Tiny-ab12-prompt_1", "a robot", ""))
    dataset = opened("edit3d_voxhammer", root)
    assert told(dataset) == {
        "GSO-Mug-prompt_1": ("a mug", "a mug with a lid", "", "own"),
        "PartObjaverse-Tiny-ab12-prompt_1": ("a robot", "a robot with wings", "", "own"),
        "GSO-Mug-prompt_2": ("a mug", "a mug with ears", "", "own"),
    }
    first = dataset.samples[0]
    assert first.tags == {"object": "GSO-Mug"}
    assert first.prompts("back") == ("a mug, back view", "a mug with a lid, back view")
    assert first.scene_id == dataset.samples[2].scene_id
    assert "not for commercial use" in dataset.card.license
    assert any("licence: not stated" in note for note in dataset.notes)
    assert not any("not compared" in note for note in dataset.notes)


def test_a_region_is_seen_where_it_lies_before_the_source(tmp_path):
    pytest.importorskip("moderngl")
    root = write_voxhammer(tmp_path / "set")
    write_captions(root, ("GSO-Mug", "a mug"), ("PartObjaverse-Tiny-ab12", "a robot"))
    sample = opened("edit3d_voxhammer", root).samples[0]
    region, seen = sample.load_region(), sample.load_turntable().views
    # The source is 1 high and is brought to 2.5: all is 2.5 times as large, and glTF's y is the world's z.
    assert np.allclose(region.source.bounds, [[-0.625, -0.625, -1.25], [0.625, 0.625, 1.25]], atol=1e-5)
    assert np.allclose(region.volume.bounds, [[-0.875, -0.875, 0.25], [0.875, 0.875, 1.75]], atol=1e-5)
    assert region.mask.shape == seen.images.shape[:3]
    # A plain loop over rays of the first view: does the region's box come before the source's?
    pose = seen.cameras.camera_to_world[0]
    fx, fy, cx, cy = seen.cameras.intrinsics[0]
    wrong = 0
    for row in range(32):
        for column in range(32):
            ray = pose[:3, :3] @ [(column + 0.5 - cx) / fx, -(row + 0.5 - cy) / fy, -1]
            reach = [entry(mesh.bounds, pose[:3, 3], ray) for mesh in (region.volume, region.source)]
            wrong += region.mask[0, row, column] != (reach[0] < reach[1] - 2.5e-4)
    assert wrong == 0
    assert 0 < region.mask.sum() < region.mask.size


def entry(bounds, origin, ray):
    """How far along a ray a box begins, infinity where it is missed."""
    with np.errstate(divide="ignore"):
        near, far = np.sort((bounds - origin) / ray, axis=0)
    return near.max() if near.max() < far.min() else np.inf


def test_steer3d_has_the_true_edit_in_the_sources_place(tmp_path):
    pytest.importorskip("moderngl")
    root = write_steer3d(tmp_path / "set")
    key = f"removal-{'a' * 32}-{'b' * 32}"
    write_captions(root, (key, "a red box with a blue box", "a red box"))
    dataset = opened("edit3d_steer3d", root)
    assert told(dataset) == {
        key: ("a red box with a blue box", "a red box", "remove the blue box", "removal")
    }
    assert dataset.card.has_reference
    assert any(
        "does not hold metadata/texture.csv, metadata/addition.csv: left out" in n for n in dataset.notes
    )
    assert any("not compared with the set's own files" in note for note in dataset.notes)
    (sample,) = dataset.samples
    source, true = sample.load_turntable().views, sample.load_counterfactual().views
    shades = source.images.astype(int)
    red = (shades[..., 0] > 1.5 * shades[..., 2]) & (shades[..., 3] == 255)
    red = binary_erosion(
        red, np.ones((1, 3, 3))
    )  # without the edge of the blue box, where pixels are of both
    assert red.sum() > 1000
    # What stays stays where it is: framed by itself the target would be twice as large.
    assert np.abs(source.depth[red] - true.depth[red]).max() < 1e-4
    assert true.silhouettes.sum() < source.silhouettes.sum()
    assert sample.load_region() is None
    assert verify(opened("edit3d_steer3d", root, strict=False)) == []


def test_eval3dedit_asks_for_the_target_too_where_it_has_an_order_alone(tmp_path):
    root = write_eval3dedit(tmp_path / "set")
    write_captions(root, ("object_addition-0", "a cat", ""), ("action_change-3", "a dog", ""))
    addition, action = opened("eval3dedit", root).samples
    assert (addition.source_prompt, addition.target_prompt) == ("a cat", "a cat with a hat")
    assert addition.edit_type == "object_addition"
    assert "it has no target prompt, which Eval3DEdit does not give" in action.fault
    write_captions(root, ("object_addition-0", "a cat", ""), ("action_change-3", "a dog", "a sitting dog"))
    assert told(opened("eval3dedit", root))["action_change-3"] == (
        "a dog", "a sitting dog", "let it sit", "action_change"
    )  # fmt: skip


def test_gedit3d_has_both_captions_and_its_columns_can_be_named(tmp_path):
    root = write_gedit3d(tmp_path / "set")
    dataset = opened("gedit3d", root)
    assert told(dataset) == {"add-35": ("a flat cake", "a cake with cream", "add cream", "add")}
    (row,) = json.loads((root / "metadata.json").read_text())
    row["what it was"] = row.pop("source_caption")
    (root / "metadata.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match="no source prompt"):
        opened("gedit3d", root)
    text = (data_root() / "gedit3d" / "benchmark.yaml").read_text()
    (root / "benchmark.yaml").write_text(
        text.replace("source_caption, src_caption", "what it was, src_caption")
    )
    assert told(opened("gedit3d", root)) == told(dataset)
    assert opened("gedit3d", root).revision == dataset.revision
    # The same by the file's own name, whatever it is called.
    (root / "benchmark.yaml").rename(root / "mine.yaml")
    assert told(opened("gedit3d", root / "mine.yaml")) == told(dataset)


def test_without_captions_one_line_asks_for_them_and_says_their_form(tmp_path):
    root = write_voxhammer(tmp_path / "set")
    before = sorted(root.rglob("*"))
    with pytest.raises(DataError) as error:
        opened("edit3d_voxhammer", root)
    line = str(error.value)
    assert "\n" not in line
    assert "it has no source prompt, which Edit3D-Bench (VoxHammer) does not give" in line
    assert f"write {root / 'captions.csv'}, a table with the columns id,source_prompt,target_prompt" in line
    assert "here the id is GSO-Mug-prompt_1 or GSO-Mug" in line
    assert line.endswith("(2 more like this)")
    assert sorted(root.rglob("*")) == before


def test_some_captions_are_some_edits_and_a_row_for_nothing_is_named(tmp_path):
    root = write_voxhammer(tmp_path / "set")
    write_captions(root, ("GSO-Mug-prompt_2", "a mug"), ("GSO-Mgu", "a mug"))
    dataset = opened("edit3d_voxhammer", root)
    assert [getattr(sample, "fault", "")[:8] for sample in dataset.samples] == ["sample '", "sample '", ""]
    assert any("1 of 2 rows are for no edit, such as ['GSO-Mgu']" in note for note in dataset.notes)
    problems = verify(opened("edit3d_voxhammer", root, strict=False))
    assert any("GSO-Mgu" in problem.message for problem in problems)


def test_the_revision_follows_words_and_files(tmp_path):
    root = write_voxhammer(tmp_path / "set")
    captions = [("GSO-Mug", "a mug"), ("PartObjaverse-Tiny-ab12", "a robot")]
    write_captions(root, *captions)
    first = opened("edit3d_voxhammer", root)
    assert opened("edit3d_voxhammer", root).revision == first.revision
    seen = {first.revision}
    for change in (
        lambda: write_captions(root, ("GSO-Mug", "a cup"), captions[1]),
        lambda: write_model(root / "GSO/Mug/prompt_1/3d_edit_region.glb", box((0.7, 0.7, 0.7))),
        lambda: write_model(root / "GSO/Mug/source_model/model.glb", box((0.6, 1.0, 0.5))),
    ):
        change()
        seen.add(opened("edit3d_voxhammer", root).revision)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda root: (root / "GSO/Mug/source_model/model.glb").unlink(), "source model .* is missing"),
        (lambda root: (root / "GSO/Mug/prompt_1/3d_edit_region.glb").unlink(), "edit region .* is missing"),
        (
            lambda root: (root / "GSO/Mug/source_model/model.glb").write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
            ),
            "is a Git LFS pointer, not the model: `git lfs pull` gets it",
        ),
    ],
)
def test_a_file_that_cannot_be_used_costs_its_edits_alone(tmp_path, damage, line):
    root = write_voxhammer(tmp_path / "set")
    write_captions(root, ("GSO-Mug", "a mug"), ("PartObjaverse-Tiny-ab12", "a robot"))
    damage(root)
    dataset = opened("edit3d_voxhammer", root)
    with pytest.raises(DataError, match=line) as error:
        next(s for s in dataset.samples if s.id == "GSO-Mug-prompt_1").load_source()
    assert "sample 'GSO-Mug-prompt_1'" in str(error.value)
    assert dataset.samples[1].source_prompt == "a robot"


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([{"dataset": "..", "source_model": "x", "prompt_1": "a b"}], "leads out of the set's folder"),
        (
            [{"dataset": "GSO", "prompt_1": "a b"}],
            "its row gives no id or object .* has the columns dataset, prompt_1",
        ),
        ([{"dataset": "GSO", "source_model": "x"}], "its row has nothing in prompt_1, prompt_2, prompt_3"),
        ([["GSO"]], "row 1 is \\['GSO'\\], not values by column"),
        ({"a": 1}, "a list of rows is expected"),
    ],
)
def test_rows_that_say_nothing_usable_are_one_line(tmp_path, rows, line):
    root = write_voxhammer(tmp_path / "set")
    (root / "metadata.json").write_text(json.dumps(rows))
    write_captions(root, ("..-x", "a"))
    with pytest.raises(DataError, match=line) as error:
        opened("edit3d_voxhammer", root)
    assert "\n" not in str(error.value)


def test_mistakes_of_folders_layouts_and_captions_are_one_line(tmp_path):
    with pytest.raises(DataError, match="holds no metadata.json, by which Edit3D-Bench"):
        opened("edit3d_voxhammer", tmp_path)
    with pytest.raises(DataError, match="holds no metadata.json and no metadata.jsonl"):
        opened("gedit3d", tmp_path)
    root = write_gedit3d(tmp_path / "set")
    (root / "benchmark.yaml").write_text("title: mine")
    with pytest.raises(DataError, match="benchmark.yaml: license: Field required"):
        opened("gedit3d", root)
    text = (data_root() / "gedit3d" / "benchmark.yaml").read_text()
    (root / "benchmark.yaml").write_text(text.replace('"{before}"', '"{befor}"'))
    with pytest.raises(DataError, match="source_prompt asks for {befor}, which `columns` does not name"):
        opened("gedit3d", root)
    root = write_voxhammer(tmp_path / "other")
    for rows, line in (
        ([("GSO-Mug", "a"), ("GSO-Mug", "b")], "row 2: 'GSO-Mug' comes twice"),
        ([("", "a")], "row 1: it has no id"),
        ([("GSO-Mug", "a mug", "a lid")], "'GSO-Mug' is an object: a target_prompt is for one of its edits"),
    ):
        write_captions(root, *rows)
        with pytest.raises(DataError, match=line):
            opened("edit3d_voxhammer", root)
    (root / "captions.csv").write_text("id,source_prompt\nGSO-Mug,a mug, white\n")
    with pytest.raises(DataError, match="row 1: it has more cells than there are columns"):
        opened("edit3d_voxhammer", root)
    write_csv(root / "captions.csv", {"id": "GSO-Mug", "caption": "a mug"})
    with pytest.raises(DataError, match="unknown column 'caption'"):
        opened("edit3d_voxhammer", root)


def test_two_files_of_one_guid_are_not_chosen_between(tmp_path):
    root = write_steer3d(tmp_path / "set")
    write_captions(root, (f"removal-{'a' * 32}-{'b' * 32}", "two boxes", "a box"))
    write_model(root / "data" / "old" / f"{'a' * 32}.glb", box((1, 1, 1)))
    with pytest.raises(DataError, match="is 2 files"):
        opened("edit3d_steer3d", root)


def test_two_edits_of_one_id_are_one_edit_and_one_fault(tmp_path):
    root = write_gedit3d(tmp_path / "set")
    rows = json.loads((root / "metadata.json").read_text())
    (root / "metadata.json").write_text(json.dumps(rows * 2))
    dataset = opened("gedit3d", root)
    assert [sample.id for sample in dataset.samples] == ["add-35", "metadata.json row 2"]
    assert "another edit has its id 'add-35'" in dataset.samples[1].fault
