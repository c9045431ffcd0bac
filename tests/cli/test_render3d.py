"""`piva-bench render3d`: films that other libraries read."""

import json

import numpy as np
import pytest
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.scene.animation import LABEL
from piva_bench.scene.cameras import RIG
from tests.distillation.scene_tasks import ball


@pytest.fixture
def fields(tmp_path):
    ball().save(tmp_path / "cup" / "field.safetensors")
    ball(colour=(0.2, 0.3, 0.8)).save(tmp_path / "blue" / "field.safetensors")
    return "cup/field.safetensors", "blue/field.safetensors"


def test_a_turntable_shows_fields_side_by_side_in_all_ways(cli, fields, tmp_path):
    code, out, err = cli(
        "render3d",
        *fields,
        "--frames",
        "3",
        "--size",
        "48",
        "--show",
        "colour,depth,alpha,normals",
        "-o",
        "a.gif",
    )
    assert code == 0, err
    assert "3 frames of 48x48 px" in out
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 3
        frame = np.asarray(film.convert("RGB")).astype(int)
    side = 192  # small pictures are enlarged
    assert frame.shape == (side + LABEL, 8 * side, 3)
    middle = [frame[LABEL + side // 2, side // 2 + n * side] for n in range(8)]
    for first, colour in ((0, (204, 76, 51)), (4, (51, 76, 204))):
        shade, depth, alpha, normal = middle[first : first + 4]
        assert np.abs(shade - colour).max() < 12
        assert 0 < depth[0] < 255
        assert np.ptp(depth) <= 6
        assert alpha.min() > 245
        # From the front, which is -y, and a little from above.
        assert normal[1] < 40
        assert normal[2] > 128


def test_a_film_along_a_camera_path_is_what_the_cameras_see(cli, fields, tmp_path):
    reader = pytest.importorskip("imageio_ffmpeg")
    import cv2

    cameras = RIG.turntable(4, 64)
    path = {
        "camera_type": "perspective", "render_height": 64, "render_width": 64, "seconds": 2,
        "camera_path": [{"camera_to_world": p.flatten().tolist(), "fov": RIG.fov} for p in cameras.camera_to_world],
    }  # fmt: skip
    (tmp_path / "path.json").write_text(json.dumps(path))
    code, _, err = cli("render3d", fields[0], "--camera-path", "path.json", "-o", "a.mp4", "--size", "200")
    assert code == 0, err
    assert next(reader.read_frames(str(tmp_path / "a.mp4")))["duration"] == pytest.approx(2, abs=0.1)
    film, seen = cv2.VideoCapture(str(tmp_path / "a.mp4")), []
    while True:
        more, frame = film.read()
        if not more:
            break
        seen.append(frame[LABEL : LABEL + 200, :200, ::-1])
    expected = ball().render_views(cameras.resized(200, 200)).composite()
    assert len(seen) == 4
    assert np.abs(np.stack(seen).astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("cup/field.safetensors", "-o", "a.avi"), "not '.avi'"),
        (("cup/field.safetensors", "-o", "a.gif", "--show", "normal"), "Did you mean normals"),
        (
            ("cup/field.safetensors", "-o", "a.gif", "--camera-path", "none.json"),
            "cannot read the camera path",
        ),
        (("none", "-o", "a.gif"), "cannot read the radiance field"),
        (("cup/field.safetensors", "-o", "cup/field.safetensors/a.gif", "--frames", "2"), "Cannot write"),
    ],
)
def test_mistakes_are_one_line(cli, fields, given, line):
    code, _, err = cli("render3d", *given, "--size", "16")
    assert code == EXIT_USER_ERROR
    assert line in err.splitlines()[-1]
