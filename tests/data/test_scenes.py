import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from piva_bench.data.backdrops import PLAIN, unseen
from piva_bench.data.dataset import verify
from piva_bench.data.scene_manifest import Stage
from piva_bench.data.scenes import open_failure_modes, open_objaverse, read_scenes
from piva_bench.data.sprites import tile, untile
from piva_bench.errors import DataError
from piva_bench.paths import data_root
from piva_bench.profiles import PROFILES
from piva_bench.studio.scene import Scene, composition_key, training_scenes
from tests.data.tiny_scenes import FAR, FIT, NEAR, write_tiny_scenes


@pytest.fixture
def tiny(tmp_path):
    return tmp_path / "tiny", write_tiny_scenes(tmp_path / "tiny")


def edit_manifest(root, change):
    manifest = json.loads((root / "scenes.json").read_text())
    change(manifest)
    (root / "scenes.json").write_text(json.dumps(manifest))


def test_views_are_read_as_they_were_written(tiny):
    root, truth = tiny
    dataset = read_scenes("objaverse", root)
    assert verify(dataset) == []
    blue, large = dataset.samples
    assert (blue.id, blue.edit_type, blue.tags["object"]) == ("ball-blue", "6_change_attribute_color", "ball")
    fit, turn = blue.load_views(), blue.load_turntable()
    assert (fit.views.images == truth["fit"]).all()
    assert (turn.views.images == truth["turntable"]).all()
    # Level 128 of 1 to 255 is the middle of the range.
    assert turn.views.depth[truth["turntable_depth"] > 0] == pytest.approx((NEAR + FAR) / 2, abs=1e-5)
    assert (turn.views.depth[truth["turntable_depth"] == 0] == 0).all()
    assert (blue.load_counterfactual().views.images == truth["ball-blue"]).all()
    assert (large.load_counterfactual().views.depth > 0).sum() > (turn.views.depth > 0).sum()
    assert (blue.load_counterfactual().views.depth == turn.views.depth).all()


def test_backgrounds_are_the_place_darkened_by_the_shadow(tiny):
    root, truth = tiny
    sample = read_scenes("objaverse", root).samples[0]
    fit, turn = sample.load_views(), sample.load_turntable()
    elevations = [0, 0, 1, 1]
    for i in range(FIT):
        expected = np.rint(truth["set"][elevations[i]] * (truth["shadows"][i][..., None] / 255))
        assert np.abs(fit.backgrounds[i] - expected).max() <= 1
    expected = np.rint(truth["set"][1] * (truth["shadows"][FIT:][..., None] / 255))
    assert np.abs(turn.backgrounds - expected).max() <= 1
    picture = turn.composite()
    solid = truth["turntable"][..., 3] == 255
    assert (picture[solid] == truth["turntable"][solid][:, :3]).all()
    assert (picture[~solid] == turn.backgrounds[~solid]).all()
    assert (np.asarray(sample.load_source()) == picture[0]).all()
    assert (np.asarray(sample.load_reference()) != picture[0]).any()


def test_edits_are_judged_before_places_that_they_have_not_seen(tiny):
    root, truth = tiny
    rng = np.random.default_rng(1)
    near = np.clip(truth["set"].astype(int) + 3, 0, 255).astype(np.uint8)
    others = {
        "near": near,
        "far": 255 - truth["set"],
        "noise": rng.integers(0, 256, near.shape).astype(np.uint8),
    }
    for name, places in others.items():
        Image.fromarray(np.concatenate(list(places), axis=1)).save(root / f"sets/{name}.webp", lossless=True)
    # The last one has not been seen from the turntable's elevation.
    edit_manifest(root, lambda m: m["sets"].update({key: [10, 20] for key in others} | {"elsewhere": [10]}))
    sample = read_scenes("objaverse", root).samples[0]
    backdrops, own = sample.load_backdrops(), sample.load_turntable().backgrounds
    assert (backdrops[0] == others["far"][1]).all()
    assert (backdrops[1] == others["noise"][1]).all()
    assert backdrops.shape == (2, *own.shape)


def test_where_no_other_place_is_known_backdrops_are_plain_and_unlike_what_is_there(tiny):
    sample = read_scenes("objaverse", tiny[0]).samples[0]
    for own in (*PLAIN, (255, 255, 255), (0, 0, 0), (128, 128, 128)):
        places = unseen(np.broadcast_to(np.uint8(own), (3, 4, 4, 3)), ())
        assert all(len(np.unique(place.reshape(-1, 3), axis=0)) == 1 for place in places)
        colours = [np.array(own), *places[:, 0, 0, 0].astype(int)]
        apart = [np.abs(a - b).mean() for i, a in enumerate(colours) for b in colours[:i]]
        assert min(apart) > 20
    assert len(np.unique(sample.load_backdrops()[0].reshape(-1, 3), axis=0)) == 1


def test_cameras_stand_where_the_manifest_says(tiny):
    turn = read_scenes("objaverse", tiny[0]).samples[0].load_turntable().views.cameras
    assert turn.azimuths == pytest.approx([0, 45, 90, 135, -180, -135, -90, -45])
    assert np.linalg.norm(turn.positions, axis=1) == pytest.approx(3.0)
    assert turn.positions[:, 2] == pytest.approx(3 * np.sin(np.radians(20)))
    assert read_scenes("objaverse", tiny[0]).samples[0].prompts("back") == (
        "a red ball from behind",
        "a blue ball from behind",
    )


def test_revision_and_scene_id_say_what_has_changed(tiny, tmp_path):
    root, _ = tiny
    before = read_scenes("objaverse", root)
    archive = shutil.make_archive(str(tmp_path / "copy"), "zip", root)
    packed = read_scenes("objaverse", tmp_path / "copy.zip")
    assert packed.revision == before.revision
    assert (packed.samples[0].load_views().views.images == before.samples[0].load_views().views.images).all()
    assert archive.endswith("copy.zip")
    revision, id_ = before.revision, before.samples[0].scene_id
    shutil.copy(root / "views/ball/ball-large.webp", root / "views/ball/ball-blue.webp")
    after = read_scenes("objaverse", root)
    assert after.revision != revision
    assert after.samples[0].scene_id == id_  # the source is the same: its fitted field may be used again
    shutil.copy(root / "views/ball/ball-large.webp", root / "views/ball/turntable.webp")
    assert read_scenes("objaverse", root).samples[0].scene_id != id_


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: (root / "views/ball/fit.webp").unlink(), "fit.webp is missing"),
        (lambda root: (root / "views/ball/ball-blue.webp").write_bytes(b"RIFF"), "is no whole picture"),
        (
            lambda root: shutil.copy(root / "sets/floor.webp", root / "views/ball/turntable.webp"),
            "is 64x32 px, not 384x32",
        ),
        (
            lambda root: edit_manifest(root, lambda m: m["scenes"]["ball"].update(set="lawn")),
            "no picture at elevation",
        ),
        (
            lambda root: edit_manifest(root, lambda m: m["samples"]["ball-blue"].update(scene="cube")),
            "its scene 'cube' is not described",
        ),
        (
            lambda root: edit_manifest(root, lambda m: m["samples"]["ball-blue"]["prompts"].pop("back")),
            "no prompts for the back",
        ),
    ],
)
def test_what_is_wrong_with_a_copy_is_said_in_a_line(tiny, damage, said):
    root, _ = tiny
    damage(root)
    problems = verify(read_scenes("objaverse", root))
    assert any(said in problem.message for problem in problems)
    assert all("\n" not in problem.message for problem in problems)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: (root / "scenes.json").unlink(), "no dataset of 3D edits"),
        (lambda root: (root / "scenes.json").write_text("{"), "scenes.json: the file: Invalid JSON"),
        (lambda root: edit_manifest(root, lambda m: m.update(format="2")), "scenes.json: format"),
        (
            lambda root: edit_manifest(root, lambda m: m["fit"]["azimuths"].pop()),
            "3 azimuths and 4 elevations",
        ),
        (lambda root: (root / "dataset.yaml").unlink(), "dataset.yaml is missing"),
        (lambda root: None, "holds 32 px views, profile 'embedded' works at 64"),
    ],
)
def test_a_copy_that_cannot_be_used_is_one_error(tiny, damage, said):
    root, _ = tiny
    damage(root)
    with pytest.raises(DataError, match=said):
        open_objaverse(PROFILES["embedded"], root)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 6))
def test_sheets_hold_what_was_put_on_them(count, side, columns):
    pictures = np.random.default_rng(count).integers(0, 256, (count, side, side + 1, 3))
    assert (untile(tile(pictures, columns), count, side, side + 1) == pictures).all()


@given(st.floats(NEAR, FAR))
def test_depth_is_kept_to_half_a_level(depth):
    stage = Stage(size=1, distance=3, fov=30, box=((-1, -1, -1), (1, 1, 1)), depth=(NEAR, FAR))
    kept = stage.level_depths(stage.depth_levels(np.float32([[depth, 0]])))
    assert kept[0, 0] == pytest.approx(depth, abs=(FAR - NEAR) / 254 / 2 + 1e-5)
    assert kept[0, 1] == 0
    with pytest.raises(ValueError, match="outside"):
        stage.depth_levels(np.float32([FAR + 0.1]))


ROOT = data_root() / "objaverse" / "studio"


def test_the_embedded_set_has_objects_edits_and_cameras_enough():
    dataset = open_objaverse(PROFILES["embedded"], None)
    edits = [sample.tags["object"] for sample in dataset.samples]
    assert len(set(edits)) >= 12
    assert all(edits.count(name) >= 2 for name in edits)
    assert {sample.edit_type[0] for sample in dataset.samples} == set("123467")
    assert dataset.revision == dataset.card.revision
    for sample in dataset.samples[::8]:
        fit, turn, true = sample.load_views().views, sample.load_turntable(), sample.load_counterfactual()
        assert (len(fit), len(turn.views), len(true.views)) == (48, 120, 120)
        # Every view shows the edit, and no fitting view is a test view.
        change = np.abs(turn.composite().astype(int) - true.composite()).max(-1) > 8
        assert change.any((1, 2)).all()
        apart = np.abs(fit.cameras.azimuths[:, None] - turn.views.cameras.azimuths)
        assert apart[fit.cameras.positions[:, 2].argsort()].min() > 0.2


def test_edits_of_the_surface_leave_the_shape_alone():
    samples = [s for s in open_objaverse(PROFILES["embedded"], None).samples if s.edit_type[0] in "467"]
    for sample in samples[::5]:
        turn, true = sample.load_turntable().views, sample.load_counterfactual().views
        assert (turn.images[..., 3] == true.images[..., 3]).all()
        assert (turn.depth == true.depth).all()


def test_no_composition_is_in_the_embedded_pictures_or_trained_on():
    plan = json.loads((ROOT / "plan.json").read_text())
    scenes = [Scene.from_dict(s) for p in plan for s in (p["source"], *(e["target"] for e in p["edits"]))]
    held_out = set(json.loads((ROOT / "held_out.json").read_text()))
    pie = set(json.loads((data_root() / "pie" / "held_out.json").read_text()))
    assert {composition_key(scene) for scene in scenes} == held_out
    assert not held_out & pie
    # The training pictures are the first 30,000 of this list; its beginning is as good a sample as any.
    assert not held_out & {composition_key(scene) for scene in training_scenes(0, 4000, pie)}
    assert all(8 <= scene.elevation <= 30 and 0.93 <= scene.distance <= 1.12 for scene in scenes)


def test_the_failure_modes_have_their_three_kinds_and_licences():
    dataset = open_failure_modes(PROFILES["embedded"], None)
    kinds = {sample.tags["object"]: sample.tags["kind"] for sample in dataset.samples}
    assert set(kinds.values()) == {"transparent", "reflecting", "thin"}
    folder = data_root() / "failure_modes" / "objects"
    assert {path.stem for path in folder.glob("*.glb")} == set(kinds)
    assert {path.stem for path in (folder / "licences").iterdir()} == set(kinds)
    glass = next(sample for sample in dataset.samples if sample.tags["object"] == "beer_glass")
    alpha = glass.load_turntable().views.alpha
    assert 0.15 < np.median(alpha[alpha > 0]) < 0.35  # one sees through it
