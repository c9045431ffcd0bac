import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Cameras, look_at, orbit

angles = st.floats(-180, 180)


def project(cameras, index, point):
    """Pixel (x, y) and depth of a world point, written out."""
    local = np.linalg.inv(cameras.camera_to_world[index]) @ [*point, 1.0]
    fx, fy, cx, cy = cameras.intrinsics[index]
    depth = -local[2]
    return fx * local[0] / depth + cx, -fy * local[1] / depth + cy, depth


@given(azimuth=angles, elevation=st.floats(-89, 89), distance=st.floats(0.5, 10))
def test_an_orbiting_camera_sees_the_origin_in_its_middle_and_up_above_it(azimuth, elevation, distance):
    cameras = orbit(np.array([azimuth]), np.array([elevation]), distance, 50.0, 40, 30)
    x, y, depth = project(cameras, 0, (0, 0, 0))
    assert (x, y, depth) == pytest.approx((20, 15, distance), abs=1e-6)
    assert project(cameras, 0, (0, 0, 0.1))[1] < y
    assert np.linalg.det(cameras.camera_to_world[0, :3, :3]) == pytest.approx(1)
    assert (cameras.azimuths[0] - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


def test_the_default_rig_is_the_first_authors():
    cameras = RIG.author(300, 800)
    assert np.degrees(2 * np.arctan(400 / cameras.intrinsics[0, 0])) == pytest.approx(49.134)
    assert 2 * np.arctan(32 / 35 / 2) == pytest.approx(np.radians(RIG.fov), abs=1e-4)
    assert np.linalg.norm(cameras.positions, axis=1) == pytest.approx(4.0)
    elevations = np.degrees(np.arcsin(cameras.positions[:, 2] / 4))
    assert np.allclose(elevations, np.rint(elevations))
    assert elevations.min() >= 0
    assert elevations.max() <= 55
    assert sorted(RIG.lights) == sorted({(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-3, 3)})


def test_a_turntable_goes_once_round_from_the_front():
    cameras = RIG.turntable(120)
    assert len(cameras) == 120
    assert cameras.azimuths[0] == 0
    assert cameras.positions[0, 1] < 0
    assert np.allclose(np.diff(np.unwrap(np.radians(cameras.azimuths))), np.radians(3))
    names = cameras.view_names
    assert (names[0], names[30], names[60]) == ("front", "side", "back")


def test_a_sphere_path_covers_its_band_evenly():
    cameras = RIG.sphere(400)
    height = np.sort(cameras.positions[:, 2] / 4)
    assert np.allclose(np.diff(height), np.diff(height)[0])
    assert np.histogram(cameras.azimuths, 8, (-180, 180))[0].min() > 40


def test_random_views_are_a_function_of_the_seed():
    assert np.array_equal(RIG.random(5, seed=3).camera_to_world, RIG.random(5, seed=3).camera_to_world)
    assert not np.array_equal(RIG.random(5, seed=3).camera_to_world, RIG.random(5, seed=4).camera_to_world)


def test_looking_straight_down_is_a_pose_too():
    pose = look_at(np.array([0.0, 0.0, 2.0]), np.zeros(3))
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3))


def test_a_resized_camera_sees_the_same():
    small, large = RIG.turntable(3, 32), RIG.turntable(3, 32).resized(64, 64)
    assert np.allclose(large.intrinsics, RIG.turntable(3, 64).intrinsics)
    x, y, _ = project(small, 1, (0.3, -0.2, 0.5))
    assert project(large, 1, (0.3, -0.2, 0.5))[:2] == pytest.approx((2 * x, 2 * y))


def broken(change):
    cameras = RIG.turntable(3, 8)
    poses, intrinsics = cameras.camera_to_world.copy(), cameras.intrinsics.copy()
    change(poses, intrinsics)
    return Cameras(poses, intrinsics, 8, 8)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda p, i: p.__setitem__((1, 0, 3), np.nan), "camera 1: its pose is not finite"),
        (lambda p, i: p.__setitem__(2, p[2] @ np.diag([1, 1, -1, 1])), "camera 2: .*mirrored"),
        (lambda p, i: p.__setitem__((0, slice(3), slice(3)), 2 * np.eye(3)), "camera 0: .*scaled"),
        (lambda p, i: i.__setitem__((0, 0), 0.0), "camera 0: its focal length"),
        (lambda p, i: i.__setitem__((0, 2), np.inf), "camera 0: its focal length"),
        (lambda p, i: p.__setitem__((0, 3, 3), 2.0), "last row"),
    ],
)
def test_impossible_cameras_are_one_line(change, line):
    with pytest.raises(DataError, match=line) as error:
        broken(change)
    assert "\n" not in str(error.value)
