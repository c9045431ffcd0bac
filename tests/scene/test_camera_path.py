"""Camera paths of nerfstudio's viewer: a point is seen where its own formula puts it; what is none is one line."""

import json

import numpy as np
import pytest

from piva_bench.errors import DataError
from piva_bench.scene.camera_path import read_camera_path, turntable
from piva_bench.scene.cameras import RIG
from tests.distillation.scene_tasks import ball


def written(tmp_path, **changes):
    pose = np.eye(4)
    pose[:3, 3] = (1, 2, 5)
    frame = {"camera_to_world": pose.flatten().tolist(), "fov": 60, "aspect": 2.0}
    path = tmp_path / "camera_path.json"
    content = {
        "camera_type": "perspective", "render_height": 40, "render_width": 80, "fps": 24, "seconds": 4.5,
        "camera_path": [frame, frame | {"fov": 90}], "keyframes": [], "smoothness_value": 0.5, "is_cycle": False,
    }  # fmt: skip
    path.write_text(json.dumps(content | changes))
    return path


@pytest.mark.parametrize(("height", "scale"), [(None, 1), (120, 3)])
def test_the_field_of_view_is_vertical_and_poses_are_rows_first(tmp_path, height, scale):
    cameras, seconds = read_camera_path(written(tmp_path), height)
    assert seconds == 4.5
    assert (cameras.width, cameras.height) == (80 * scale, 40 * scale)
    assert cameras.positions.tolist() == [[1, 2, 5]] * 2
    # nerfstudio: focal = height / 2 / tan(fov / 2). The top edge is fov / 2 above the axis.
    for (_, fy, cx, cy), fov in zip(cameras.intrinsics, (60, 90), strict=True):
        assert np.degrees(np.arctan(cy / fy)) == pytest.approx(fov / 2)
        assert (cx, cy) == (40 * scale, 20 * scale)
    assert np.array_equal(cameras.intrinsics[:, 0], cameras.intrinsics[:, 1])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"camera_type": "equirectangular"}, "only perspective"),
        ({"camera_path": []}, "no camera path"),
        ({"camera_path": [{"fov": 3}]}, "no camera path"),
        ({"camera_path": [{"camera_to_world": [1.0] * 16}]}, "no rotation"),
        ({"render_height": 0}, "no camera path"),
        ({"seconds": 0}, "no camera path"),
    ],
)
def test_what_is_no_path_is_one_line(tmp_path, changes, line):
    path = written(tmp_path, **changes)
    with pytest.raises(DataError, match=line) as error:
        read_camera_path(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_and_no_json_are_one_line(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_camera_path(tmp_path / "none.json")
    for text in ("{", "[]", "3"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match="no camera path"):
            read_camera_path(tmp_path / "a.json")


def test_a_turntable_goes_round_what_is_there():
    field = ball()
    cameras = turntable(field, 5, 40)
    assert np.allclose(cameras.positions.mean(axis=0)[:2], 0, atol=1e-6)
    away, usual = (
        c.positions / np.linalg.norm(c.positions, axis=1, keepdims=True) for c in (cameras, RIG.turntable(5))
    )
    assert np.allclose(away, usual, atol=1e-5)
    views = field.render_views(cameras)
    assert views.silhouettes.any(axis=(1, 2)).all()
    # The whole of it, and not much else.
    assert not views.alpha[:, 0].any()
    assert not views.alpha[:, :, 0].any()
    assert views.silhouettes.mean() > 0.15
