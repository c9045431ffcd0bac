import numpy as np
import pytest
import trimesh

from piva_bench.scene.cameras import RIG, Cameras, orbit
from piva_bench.scene.renderer import ViewRenderer
from piva_bench.scene.subject import Frame, Subject, load_model
from piva_bench.studio.render import place
from piva_bench.studio.scene import Scene

BEAR = Scene("teddy_bear")


def studio_subject(scene):
    return Subject(tuple(place(scene)))


@pytest.fixture(scope="module")
def renderer():
    return ViewRenderer()


def project(cameras, index, points):
    local = (
        np.concatenate([points, np.ones((len(points), 1))], 1)
        @ np.linalg.inv(cameras.camera_to_world[index]).T
    )
    fx, fy, cx, cy = cameras.intrinsics[index]
    return fx * local[:, 0] / -local[:, 2] + cx, -fy * local[:, 1] / -local[:, 2] + cy


def test_a_ball_looks_like_a_ball_from_everywhere(renderer):
    """Depth in the middle is distance minus radius; the outline is the cone that touches the ball."""
    cameras = RIG.sphere(6, 33)
    views = renderer.render(studio_subject(Scene("ball")), cameras)
    assert views.depth[:, 16, 16] == pytest.approx(4 - 1.25, abs=0.01)
    edge = cameras.intrinsics[0, 0] * 1.25 / np.sqrt(16 - 1.25**2)
    assert views.alpha.sum((1, 2)) == pytest.approx(np.pi * edge**2, rel=0.02)
    assert (views.alpha[:, 0] == 0).all()
    assert np.array_equal(views.depth > 0, views.alpha > 0) or ((views.depth > 0) <= (views.alpha > 0)).all()


def test_a_box_lies_where_its_corners_project_for_any_lens(renderer, tmp_path):
    """Poses, focal lengths and a shifted principal point against the pinhole equation."""
    trimesh.creation.box((1.0, 0.5, 0.25)).export(tmp_path / "box.glb")
    poses = orbit(np.array([0.0, 70.0]), np.array([10.0, 40.0]), 4.0, 50, 80, 90).camera_to_world
    cameras = Cameras(poses, np.array([[70.0, 65, 45, 42], [60, 80, 35, 47]]), 80, 90)
    views = renderer.render(load_model(tmp_path / "box.glb"), cameras)
    # y up in the file: 0.5 is its height in the world; the largest edge becomes 2.5.
    corners = np.array([[x, y, z] for x in (-1.25, 1.25) for y in (-0.3125, 0.3125) for z in (-0.625, 0.625)])
    for index in range(2):
        x, y = project(cameras, index, corners)
        rows, columns = np.nonzero(views.alpha[index] > 0)
        found = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
        assert found == pytest.approx((x.min(), x.max(), y.min(), y.max()), abs=1.01)


def test_the_front_is_at_azimuth_zero_and_right_is_right(renderer, tmp_path):
    """Red before green, blue right, grey left, in the file's frame: +z is its front, +x its right."""
    scene = trimesh.Scene()
    red, green, blue, grey = (255, 0, 0), (0, 255, 0), (0, 0, 255), (120, 120, 120)
    for colour, at in ((red, (0, 0, 1)), (green, (0, 0, -1)), (blue, (1, 0, 0)), (grey, (-1, 0, 0))):
        box = trimesh.creation.box((0.4, 0.4, 0.4)).apply_translation(at)
        box.visual.face_colors = [*colour, 255]
        scene.add_geometry(box)
    scene.export(tmp_path / "boxes.glb")
    views = renderer.render(load_model(tmp_path / "boxes.glb"), RIG.turntable(2, 32, elevation=0.0))
    assert views.images[0, 16, 16, :3].argmax() == 0
    assert views.images[1, 16, 16, :3].argmax() == 1
    blue = [
        np.nonzero(view[..., 2] > view[..., :2].max(-1) + 40)[1].mean() for view in views.images.astype(int)
    ]
    assert blue[0] > 20
    assert blue[1] < 12


def test_equal_input_gives_equal_pixels_and_lights_stand_still(renderer):
    cameras = RIG.random(3, 32)
    first = renderer.render(studio_subject(BEAR), cameras)
    renderer.render(studio_subject(Scene("cup", material="metal")), cameras)
    again = ViewRenderer().render(studio_subject(BEAR), cameras)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.depth, again.depth)
    # The ball's top is lit alike whichever side it is seen from: light belongs to the world.
    ball = renderer.render(studio_subject(Scene("ball", "white")), RIG.turntable(4, 33)).images[:, 8, 16, :3]
    assert np.ptp(ball.astype(int), axis=0).max() <= 3


@pytest.mark.parametrize(
    "changes", [{"color": "blue"}, {"material": "marble"}, {"material": "metal"}, {"print": "dots"}]
)
def test_a_surface_edit_keeps_shape_and_depth_from_all_sides(renderer, changes):
    source, edit = studio_subject(BEAR), studio_subject(BEAR.replace(**changes))
    frame = Frame.around([source, edit])
    before, after = (renderer.render(one, RIG.turntable(4, 32), frame) for one in (source, edit))
    assert np.array_equal(before.images[..., 3], after.images[..., 3])
    assert np.array_equal(before.depth, after.depth)
    change = np.abs(before.composite().astype(int) - after.composite()).mean((1, 2, 3))
    assert change.min() > 2


def test_an_added_part_shows_from_all_sides_and_moves_nothing(renderer):
    source, edit = studio_subject(BEAR), studio_subject(BEAR.replace(accessory="top_hat"))
    frame = Frame.around([source, edit])
    before, after = (renderer.render(one, RIG.turntable(4, 48), frame) for one in (source, edit))
    added = after.silhouettes & ~before.silhouettes
    assert (added.sum((1, 2)) > 20).all()
    lower = before.silhouettes & (np.arange(48)[:, None] > 28)
    assert np.array_equal(before.images[lower], after.images[lower])
    assert (after.alpha[:, 0] == 0).all()
