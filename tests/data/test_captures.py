"""Captures as samples: a tiny NeRF-synthetic scene, an opaque nerfstudio capture, and lists that are wrong."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from piva_bench.data import captures
from piva_bench.data.captures import open_captures
from piva_bench.data.dataset import verify
from piva_bench.data.files import FolderFiles, fingerprint
from piva_bench.data.sample import UnreadableSample
from piva_bench.errors import DataError
from piva_bench.paths import data_root
from piva_bench.profiles import PROFILES
from piva_bench.scene import kept_fields
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.params import FieldParams
from piva_bench.scene.transforms import open_transforms, write_nerf_synthetic, write_nerfstudio
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
        (lambda root: edit_frames(root, lambda f: f.clear()), "holds no frame"),
        (lambda root: next((root / "ball" / "train").glob("*.png")).unlink(), "which is missing"),
        (lambda root: shutil.rmtree(root / "ball"), "does not exist: give a scene's folder"),
        (lambda root: write_list(root, {"path": "ball", "target_prompts": []}), "scenes.0.target_prompts"),
        (lambda root: write_list(root, {"path": "ball", "source_prompt": " "}), "scenes.0.source_prompt"),
        (lambda root: write_list(root, {"path": "ball", "background": [0, 0, 2]}), "scenes.0.background.2"),
        (lambda root: write_list(root, {"path": "ball"}, {"path": "b/Ball"}), "two scenes are called ball"),
        (lambda root: write_list(root, {"path": "ball", "colour": "red"}), "colour"),
        (lambda root: (root / "scenes.yaml").write_text("["), "cannot be read"),
        (lambda root: (root / "scenes.yaml").write_text("{}"), "name: Field required"),
        (
            lambda root: (root / "scenes.yaml").unlink(),
            "holds no scenes.yaml, and none of NeRF-synthetic's scenes",
        ),
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
    assert [sample.id for sample in dataset.samples] == ["none-1", "ball-1", "none-2", "ball-2"]
    (problem,) = verify(dataset)  # once, not for each prompt
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


def test_one_bad_capture_costs_its_own_samples_alone(folder):
    shutil.copytree(folder / "ball", folder / "turned")
    for pose in (meta := json.loads((file := folder / "turned" / "transforms_train.json").read_text()))[
        "frames"
    ]:
        matrix = np.array(pose["transform_matrix"])
        matrix[:3, 1:3] *= -1
        pose["transform_matrix"] = matrix.tolist()
    file.write_text(json.dumps(meta))
    write_list(folder, {"path": "turned"}, {"path": "ball"})
    dataset = open_captures(PROFILE, folder)
    bad, good = dataset.samples[:2]
    assert isinstance(bad, UnreadableSample)
    assert "OpenCV's axes" in bad.fault
    assert good.load_views().views.images.shape == (8, 32, 32, 4)
    alone = write_list(folder, {"path": "ball"}) or open_captures(PROFILE, folder)
    assert alone.samples[0].scene_id == good.scene_id


def test_a_check_fits_nothing(folder, monkeypatch):
    monkeypatch.setattr(kept_fields, "fit_field", lambda *given, **more: pytest.fail("a field was fitted"))
    assert verify(open_captures(PROFILE, folder, strict=False)) == []
    assert not list((folder.parent / "fields").rglob("*"))


@pytest.mark.parametrize("what", ["lego", "lego/transforms_train.json"])
def test_a_scene_of_nerf_synthetic_is_a_dataset_by_itself(folder, tmp_path, what):
    shutil.copytree(folder / "ball", tmp_path / "nerf_synthetic" / "lego")
    dataset = open_captures(PROFILE, tmp_path / "nerf_synthetic" / what)
    assert {sample.tags["object"] for sample in dataset.samples} == {"lego"}
    some = open_captures(PROFILE, tmp_path / "nerf_synthetic")
    assert [sample.id for sample in some.samples] == [sample.id for sample in dataset.samples]
    assert some.samples[0].scene_id == dataset.samples[0].scene_id
    assert "does not hold chair, drums, ficus" in some.notes[0]
    with pytest.raises(DataError, match=r"is a capture itself.*write a scenes.yaml"):
        open_captures(PROFILE, folder / "ball")


def opaque(folder, colour, noise=0):
    views = ball().render_views(RIG.sphere(8, 40))
    images = views.images.copy()
    images[..., :3], images[..., 3] = views.composite(colour), 255
    if noise:
        behind = np.random.default_rng(0).integers(0, 256, (*images.shape[:3], 3))
        images[..., :3] = np.where(views.alpha[..., None] > 0, images[..., :3], behind)
    write_nerfstudio(PosedViews(images, views.cameras), folder)


def test_the_background_is_measured_where_it_is_not_given(folder):
    opaque(folder / "dark", (0, 0, 0))
    opaque(folder / "light", (1, 1, 1))
    opaque(folder / "room", (0, 0, 0), noise=1)
    write_list(folder, {"path": "dark"}, {"path": "light"}, {"path": "room"}, {"path": "ball"})
    dataset = open_captures(PROFILE, folder)
    dark, light, _, ball_itself = dataset.samples[:4]
    assert dark.load_views().colour == (0, 0, 0)
    assert light.load_views().colour == (1, 1, 1)
    assert ball_itself.load_views().colour is None  # it has transparency
    assert any(
        note.startswith("scene dark: its background is taken from the pictures' border: 0,0,0")
        for note in dataset.notes
    )
    assert any(
        note.startswith("scene room: the pictures show the object's surroundings") for note in dataset.notes
    )
    assert not any("scene light: its background" in note for note in dataset.notes)
    # A colour that is given is the same scene as one that is measured.
    write_list(folder, {"path": "dark", "background": [0, 0, 0]})
    assert open_captures(PROFILE, folder).samples[0].scene_id == dark.scene_id


def test_the_scene_follows_its_pixels_where_they_are_read_otherwise(folder):
    """16-bit pictures were clipped once: their scenes are others now, and only theirs."""

    def of_bytes(scene):
        files = open_transforms(scene.path).files()
        head = ["capture 1", "32", repr(scene.colour)]
        return fingerprint(FolderFiles(files[0].parent), files, files[0].parent, head)

    scene = open_captures(PROFILE, folder).samples[0].scene
    assert scene.id == of_bytes(scene)
    deep = np.full((40, 40), 40000, np.uint16)
    for path in (folder / "ball" / "train").glob("*.png"):
        Image.fromarray(deep).save(path)
    scene = open_captures(PROFILE, folder).samples[0].scene
    assert scene.id != of_bytes(scene)
