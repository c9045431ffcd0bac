"""`piva-bench edit3d` on the tiny model: a capture, a 3D model's file, and what goes wrong."""

import numpy as np
import pytest
import trimesh
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.distillation.field_edit import FieldEdit
from piva_bench.runs import unfinished
from piva_bench.runs.views import decode_views
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.compose import NAME
from piva_bench.scene.field import RadianceField
from piva_bench.scene.models.read import read_model
from piva_bench.scene.sources import open_scene
from piva_bench.scene.transforms import write_nerf_synthetic, write_nerfstudio
from piva_bench.scene.views import PosedViews
from tests.distillation.scene_tasks import ball
from tests.scene.models.gltf_writer import Gltf

PROMPTS = ("--source-prompt", "a red ball", "--target-prompt", "a blue ball")
SHORT = ("--param", "steps=2", "--param", "fit_steps=30", "--param", "fit_resolution=12", "--frames", "5")


@pytest.fixture
def edit3d(cli, bench, monkeypatch, tmp_path):
    monkeypatch.setenv("PIVA_BENCH_FIELDS", str(tmp_path / "fields"))
    return lambda *given, short=SHORT: cli("edit3d", *given, *PROMPTS, "--model", bench / "model", *short)


@pytest.fixture
def capture(tmp_path):
    write_nerf_synthetic(ball().render_views(RIG.sphere(6, 40)), tmp_path / "ball")
    return "ball"


def test_a_capture_is_edited_and_saved(edit3d, capture, tmp_path):
    code, out, err = edit3d("--scene", capture, "-m", "dds")
    assert code == 0, err
    assert "turntable.gif" in out
    folder = tmp_path / "ball-dds"
    with Image.open(folder / "turntable.gif") as animation:
        assert animation.n_frames == 5
        assert animation.width == 2 * 192
    field = RadianceField.load(folder / "field.safetensors")
    turntable = open_scene(tmp_path / "ball", 32, 5).turntable
    views = decode_views((folder / "views.png").read_bytes(), (folder / "depth.png").read_bytes(), turntable)
    assert views.silhouettes.any(axis=(1, 2)).all()
    assert np.abs(field.render_views(turntable).alpha - views.alpha).mean() < 0.01


def test_an_opaque_capture_has_the_background_of_its_border(edit3d, tmp_path):
    views = ball().render_views(RIG.sphere(6, 32))
    opaque = views.images.copy()
    opaque[..., :3], opaque[..., 3] = views.composite((0, 1, 0)), 255
    write_nerfstudio(PosedViews(opaque, views.cameras), tmp_path / "green")
    code, _, err = edit3d("--scene", "green", "-m", "dds", "--background", "0,1,0")
    assert code == 0, err
    assert "border" not in err
    measured = edit3d("--scene", "green", "-m", "dds", "-o", "measured")[2]
    assert "the pictures' border is 0,1,0: taken for the background" in measured
    fields = [(tmp_path / name / "field.safetensors").read_bytes() for name in ("green-dds", "measured")]
    assert fields[0] == fields[1]
    wrong = edit3d("--scene", "green", "-m", "dds", "--background", "1,0,0", "-o", "wrong")[2]
    assert "the difference becomes fog" in wrong


def test_a_capture_away_from_the_origin_is_found_and_turned_about_its_own_centre(tmp_path):
    views = ball().render_views(RIG.sphere(8, 32))
    poses = views.cameras.camera_to_world.copy()
    poses[:, :3, 3] += (5, -3, 2)
    moved = Cameras(poses, views.cameras.intrinsics, 32, 32)
    write_nerfstudio(PosedViews(views.images, moved), tmp_path / "far")
    scene = open_scene(tmp_path / "far", 32, 12)
    assert scene.box.mean(axis=0) == pytest.approx([5, -3, 2], abs=1e-4)
    assert (scene.box[0] < np.array([5, -3, 2]) - 0.7).all()  # the ball fits in
    assert scene.turntable.positions.mean(axis=0)[:2] == pytest.approx([5, -3], abs=1e-3)
    away = np.linalg.norm(scene.turntable.positions - [5, -3, 2], axis=1)
    assert away == pytest.approx(RIG.distance, rel=1e-3)
    assert not scene.sided


def test_a_models_file_is_photographed_first_and_its_front_is_known(edit3d, tmp_path):
    pytest.importorskip("moderngl")
    box = trimesh.creation.box((1, 2, 3))
    box.visual.face_colors = (200, 40, 40, 255)
    box.export(tmp_path / "box.glb")
    longer = tuple(word.replace("fit_steps=30", "fit_steps=150") for word in SHORT)
    code, _, err = edit3d("--scene", "box.glb", "-m", "piva", "-o", "changed", short=longer)
    assert code == 0, err
    folder = tmp_path / "changed"
    assert (folder / "field.safetensors").is_file()
    before, after, painted = (
        trimesh.load(path, force="mesh")
        for path in (tmp_path / "box.glb", folder / "mesh.glb", folder / "mesh.ply")
    )
    # Two steps change little: the box is still one, standing as it stood, in the rig's size.
    assert after.extents / after.extents.max() == pytest.approx(before.extents / 3, abs=0.12)
    assert after.extents.max() == pytest.approx(RIG.edge, rel=0.15)
    red, green, blue = np.median(np.asarray(painted.visual.vertex_colors)[:, :3], axis=0)
    assert red > 1.5 * max(green, blue)
    assert painted.extents == pytest.approx(after.extents)
    # The file's own triangles, but for those that an edit touched; in its own coordinates.
    parts = trimesh.load_scene(folder / "model.glb", process=False).geometry
    faces = {face.tobytes() for face in np.asarray(before.triangles, np.float32)}
    kept = [mesh for name, mesh in parts.items() if name != NAME]
    assert kept
    for mesh in kept:
        assert {face.tobytes() for face in np.asarray(mesh.triangles, np.float32)} <= faces
    (surface, *_) = read_model(folder / "model.glb").surfaces  # another reader
    assert len(surface.positions) > 0
    with Image.open(folder / "normals.png") as sheet, Image.open(folder / "views.png") as pictures:
        assert sheet.size == pictures.size
    assert open_scene(tmp_path / "box.glb", 32, 4).sided


def test_a_killed_edit_goes_on_in_its_folder(edit3d, capture, tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "EVERY", 0)
    short = tuple(word.replace("steps=2", "steps=4") for word in SHORT)
    code, _, err = edit3d("--scene", capture, "-m", "dds", "-o", "whole", short=short)
    assert code == 0, err
    show, seen = FieldEdit.show, []

    def killed(self, views, step):
        seen.append(step)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return show(self, views, step)

    monkeypatch.setattr(FieldEdit, "show", killed)
    edit3d("--scene", capture, "-m", "dds", "-o", "again", short=short)
    assert (tmp_path / "again" / "unfinished.safetensors").is_file()
    code, _, err = edit3d("--scene", capture, "-m", "dds", "-o", "again", short=short)
    assert code == 0, err
    assert seen == [0, 1, 2, 2, 3]
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "again").iterdir()} == names
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_is_not_shown_of_a_model_is_said(edit3d, tmp_path):
    pytest.importorskip("moderngl")
    gltf = Gltf()
    gltf.show(gltf.pyramid(gltf.painted(1, 0, 0)) | {"extensions": {"ACME_fur": {}}})
    gltf.write(tmp_path / "fur.glb")
    code, _, err = edit3d("--scene", "fur.glb", "-m", "dds")
    assert code == 0, err
    assert "fur.glb: not shown: ACME_fur" in err.splitlines()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("--scene", "nowhere"), "nowhere"),
        (("--scene", "none.glb"), "none.glb does not exist"),
        (("--scene", "lfs.glb"), "run `git lfs pull`"),
        (("--scene", "model.fbx"), "an FBX file, which is not read: export it as GLB"),
        (("--scene", "new.glb"), "requires ACME_new, which is not read"),
        (("--scene", "ball", "-m", "identity"), "reference row"),
        (("--scene", "ball", "-m", "vae_roundtrip"), "reference row"),
        (("--scene", "ball", "--background", "white"), "give red,green,blue"),
        (("--scene", "ball", "--background", "1,1,2"), "from 0 to 1"),
        (
            ("--scene", "ball", "--param", "learning_rate=1"),
            "a parameter of edits of pictures, and these are scenes",
        ),
        (("--scene", "ball", "--param", "views=9"), "views=9"),
    ],
)
def test_mistakes_are_one_line(edit3d, capture, tmp_path, given, line):
    (tmp_path / "lfs.glb").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "model.fbx").write_bytes(b"Kaydara FBX Binary  \0")
    gltf = Gltf()
    gltf.require("ACME_new")
    gltf.write(tmp_path / "new.glb")
    code, _, err = edit3d(*given)
    assert code == EXIT_USER_ERROR
    assert line in err
    # Before it there may be notes on the capture.
    assert [each for each in err.splitlines() if each.startswith("error: ")] == err.splitlines()[-1:]
