"""Captures as samples: a tiny NeRF-synthetic scene, an opaque nerfstudio capture, and lists that are wrong."""

import json
import shutil

import numpy as np
import pytest
import yaml

from piva_bench.data import captures
from piva_bench.data.captures import open_captures
from piva_bench.data.dataset import verify
from piva_bench.errors import DataError
from piva_bench.paths import data_root
from piva_bench.profiles import PROFILES
from piva_bench.scene import kept_fields
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.params import FieldParams
from piva_bench.scene.transforms import write_nerf_synthetic, write_nerfstudio
from piva_bench.scene.views import PosedViews
from tests.distillation.scene_tasks import ball

PROFILE = PROFILES["embedded"].model_copy(update={"resolution": 32})
NAMES = ("chair", "drums", "ficus", "hotdog", "lego", "materials", "mic", "ship")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A list of one scene, ``ball``, in NeRF-synthetic's format."""
    monkeypatch.setenv("PIVA_BENCH_FIELDS", str(tmp_path / "fields"))
    monkeypatch.setenv("PIVA_BENCH_VIEWS", str(tmp_path / "views"))
    monkeypatch.setattr(kept_fields, "UsualFit", lambda fit=kept_fields.UsualFit: fit(60, 12))
    monkeypatch.setattr(captures, "FRAMES", 6)
    root = tmp_path / "captures"
    write_nerf_synthetic(ball().render_views(RIG.sphere(8, 40)), root / "ball")
    write_list(root, {"path": "ball"})
    return root


def write_list(root, *scenes, **extra):
    prompts = {"source_prompt": "a red ball", "target_prompts": ["a blue ball", "a cube"]}
    listed = {"name": "mine", "title": "Mine", "source": "a test", "scenes": [prompts | s for s in scenes]}
    (root / "scenes.yaml").write_text(yaml.safe_dump(listed | extra))


def test_a_capture_is_fitted_to_its_pictures_and_judged_on_a_turntable_of_its_field(folder):
    dataset = open_captures(PROFILE, folder / "scenes.yaml")
    assert [sample.id for sample in dataset.samples] == ["ball-1", "ball-2"]
    sample = dataset.samples[1]
    assert (sample.source_prompt, sample.target_prompt) == ("a red ball", "a cube")
    # Nobody knows where its front is.
    assert {sample.prompts(side) for side in ("front", "side", "back")} == {("a red ball", "a cube")}
    fit, turn = sample.load_views(), sample.load_turntable()
    assert fit.views.images.shape == (8, 32, 32, 4)
    assert len(turn.views) == 6
    truth = ball().render_views(turn.views.cameras)
    both = truth.silhouettes & turn.views.silhouettes
    either = truth.silhouettes | turn.views.silhouettes
    assert both.sum() / either.sum() > 0.8
    middle = turn.views.images[:, 16, 16].astype(int)
    assert (middle[:, 0] > middle[:, 2] + 50).all()
    assert (turn.backgrounds == 255).all()
    assert verify(dataset) == []


def test_the_turntable_is_rendered_once_and_shares_its_field_with_the_edits(folder, monkeypatch):
    fits, fit = [], kept_fields.fit_field
    monkeypatch.setattr(
        kept_fields, "fit_field", lambda *given, **more: fits.append(1) or fit(*given, **more)
    )
    for _ in range(2):
        first, second = open_captures(PROFILE, folder).samples
        shown = first.load_turntable().views.images
        assert (second.load_turntable().views.images == shown).all()
    kept_fields.fitted_field(
        first.scene_id, first.load_views().views, first.box, kept_fields.UsualFit(), background=None
    )
    assert fits == [1]


def test_the_usual_fit_is_that_of_the_methods_and_the_turntable_has_120_views():
    assert captures.FRAMES == 120
    params = FieldParams()
    usual = kept_fields.UsualFit()
    assert (usual.fit_steps, usual.fit_resolution) == (params.fit_steps, params.fit_resolution)


def test_an_opaque_wide_capture_is_cropped_and_stands_before_its_background(folder):
    cameras = RIG.sphere(8, 40)
    wide = Cameras(cameras.camera_to_world, cameras.intrinsics + np.array([0, 0, 10, 0]), 60, 40)
    views = ball().render_views(wide)
    opaque = views.images.copy()
    opaque[..., :3], opaque[..., 3] = views.composite((0, 0.5, 0)), 255
    write_nerfstudio(PosedViews(opaque, wide), folder / "green")
    write_list(folder, {"path": "green", "background": [0, 0.5, 0]})
    (sample, _) = open_captures(PROFILE, folder).samples
    shots = sample.load_views()
    assert shots.views.images.shape == (8, 32, 32, 4)
    assert shots.views.cameras.intrinsics[0, 2:] == pytest.approx([16, 16])
    assert shots.colour == pytest.approx((0, 128 / 255, 0))
    # The same ball as in a square capture: only what is beyond the square is gone.
    square = ball().render_views(RIG.sphere(8, 32)).composite((0, 0.5, 0))
    assert np.abs(shots.views.images[..., :3].astype(int) - square).mean() < 4
    turn = sample.load_turntable()
    assert (turn.backgrounds[0, 0, 0] == [0, 128, 0]).all()
    assert turn.views.silhouettes.any(axis=(1, 2)).all()


def test_revision_and_scene_follow_what_they_are_made_of(folder):
    before = open_captures(PROFILE, folder)
    copy = shutil.copytree(folder, folder.parent / "copy")
    moved = open_captures(PROFILE, copy)
    assert (moved.revision, moved.samples[0].scene_id) == (before.revision, before.samples[0].scene_id)
    write_list(folder, {"path": "ball", "target_prompts": ["a green ball"]})
    told = open_captures(PROFILE, folder)
    assert told.revision != before.revision
    assert told.samples[0].scene_id == before.samples[0].scene_id
    write_list(folder, {"path": "ball", "background": [0, 0, 0]})
    assert open_captures(PROFILE, folder).samples[0].scene_id != before.samples[0].scene_id
    picture = next((copy / "ball" / "train").glob("*.png"))
    picture.write_bytes(next((copy / "ball" / "train").glob("*7.png")).read_bytes())
    changed = open_captures(PROFILE, copy)
    assert changed.revision != before.revision
    assert changed.samples[0].scene_id != before.samples[0].scene_id


def edit_frames(folder, change):
    file = folder / "ball" / "transforms_train.json"
    meta = json.loads(file.read_text())
    change(meta["frames"])
    file.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (
            lambda root: edit_frames(
                root, lambda f: f[3]["transform_matrix"][0].__setitem__(3, float("nan"))
            ),
            "scene ball: .*camera 3: its pose is not finite",
        ),
        (lambda root: edit_frames(root, lambda f: f[0].pop("transform_matrix")), "frame 0 has no 4x4"),
        (lambda root: edit_frames(root, lambda f: f.clear()), "not a list of frames"),
        (lambda root: next((root / "ball" / "train").glob("*.png")).unlink(), "which is missing"),
        (lambda root: shutil.rmtree(root / "ball"), "does not exist: give a scene's folder"),
        (lambda root: write_list(root, {"path": "ball", "target_prompts": []}), "scenes.0.target_prompts"),
        (lambda root: write_list(root, {"path": "ball", "source_prompt": " "}), "scenes.0.source_prompt"),
        (lambda root: write_list(root, {"path": "ball", "background": [0, 0, 2]}), "scenes.0.background.2"),
        (lambda root: write_list(root, {"path": "ball"}, {"path": "b/Ball"}), "two scenes are called ball"),
        (lambda root: write_list(root, {"path": "ball", "colour": "red"}), "colour"),
        (lambda root: (root / "scenes.yaml").write_text("["), "cannot be read"),
        (lambda root: (root / "scenes.yaml").write_text("{}"), "name: Field required"),
        (lambda root: (root / "scenes.yaml").unlink(), "scene chair: .*does not exist"),
    ],
)
def test_what_is_wrong_with_a_list_is_one_line(folder, damage, line):
    damage(folder)
    with pytest.raises(DataError, match=line) as error:
        open_captures(PROFILE, folder)
    assert "\n" not in str(error.value)


def test_a_check_goes_on_past_the_first_fault(folder):
    write_list(folder, {"path": "none"}, {"path": "ball"})
    dataset = open_captures(PROFILE, folder, strict=False)
    assert len(dataset.samples) == 2
    (problem,) = dataset.problems
    assert problem.message.startswith("scene none:")
    broken = next((folder / "ball" / "train").glob("*.png"))
    broken.write_bytes(broken.read_bytes()[:50])
    found = verify(open_captures(PROFILE, folder, strict=False))
    assert any("no readable picture" in problem.message for problem in found)
    assert all("\n" not in problem.message for problem in found)


def test_without_a_list_there_is_a_line():
    with pytest.raises(DataError, match="needs --data-root"):
        open_captures(PROFILE, None)


def test_a_folder_of_nerf_synthetic_needs_no_list_of_its_own(folder, tmp_path):
    for name in NAMES:
        shutil.copytree(folder / "ball", tmp_path / "nerf_synthetic" / name)
    dataset = open_captures(PROFILE, tmp_path / "nerf_synthetic")
    assert dataset.card.name == "nerf-synthetic"
    assert {sample.tags["object"] for sample in dataset.samples} == set(NAMES)
    assert (data_root() / "captures" / "nerf-synthetic.yaml").is_file()
