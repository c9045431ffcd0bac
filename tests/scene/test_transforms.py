import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.transforms import read_views, write_nerf_synthetic, write_nerfstudio
from piva_bench.scene.views import PosedViews


def made_up(count=3, size=8, *, depth=True):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 4)).astype(np.uint8)
    z = rng.uniform(1, 5, (count, size, size)).astype(np.float32) if depth else None
    return PosedViews(images, RIG.turntable(count, size), z)


def same(first, second, *, depth=True):
    assert np.array_equal(first.images, second.images)
    assert np.allclose(first.cameras.camera_to_world, second.cameras.camera_to_world)
    assert np.allclose(first.cameras.intrinsics, second.cameras.intrinsics)
    if depth:
        assert np.allclose(first.depth, second.depth, atol=6e-4)
    else:
        assert second.depth is None


@pytest.mark.parametrize("write", [write_nerf_synthetic, write_nerfstudio])
@pytest.mark.parametrize("depth", [True, False])
def test_what_is_written_is_read_again(tmp_path, write, depth):
    views = made_up(depth=depth)
    file = write(views, tmp_path)
    same(views, read_views(tmp_path), depth=depth)
    same(views, read_views(file), depth=depth)


def test_a_scene_in_the_original_layout(tmp_path):
    """As the NeRF-synthetic archive has it: ./test/r_0 without extension, a rotation key, Lego's field of view."""
    (tmp_path / "test").mkdir()
    Image.fromarray(np.full((8, 8, 4), 200, np.uint8)).save(tmp_path / "test" / "r_0.png")
    pose = [
        [1, 0, 0, 0],
        [0, 0.7341099, -0.6790305, -2.7373791],
        [0, 0.6790305, 0.7341099, 2.9593944],
        [0, 0, 0, 1],
    ]
    frame = {"file_path": "./test/r_0", "rotation": 0.0314, "transform_matrix": pose}
    (tmp_path / "transforms_test.json").write_text(
        json.dumps({"camera_angle_x": 0.6911112070083618, "frames": [frame]})
    )
    views = read_views(tmp_path, "test")
    assert views.names == ("test/r_0",)
    # load_blender.py: focal = .5 * W / np.tan(.5 * camera_angle_x)
    assert views.cameras.intrinsics[0] == pytest.approx([11.1111, 11.1111, 4, 4], abs=1e-3)
    with pytest.raises(DataError, match="transforms_val"):
        read_views(tmp_path, "val")


def test_a_capture_with_a_lens_for_each_frame_scaled_pictures_masks_and_splits(tmp_path):
    views = made_up(2, depth=False)
    file = write_nerfstudio(views, tmp_path)
    meta = json.loads(file.read_text())
    meta["frames"][1] |= {
        "fl_x": 30.0,
        "fl_y": 20.0,
        "cx": 6.0,
        "cy": 5.0,
        "w": 16,
        "h": 16,
        "mask_path": "m.png",
    }
    meta["train_filenames"], meta["val_filenames"] = ["images/001.png"], ["images/000.png"]
    file.write_text(json.dumps(meta))
    mask = np.zeros((8, 8), np.uint8)
    mask[2:] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    again = read_views(tmp_path)
    assert again.cameras.intrinsics[1] == pytest.approx([15, 10, 3, 2.5])
    assert again.cameras.intrinsics[0] == pytest.approx(views.cameras.intrinsics[0])
    assert (again.images[1, :2, :, 3] == 0).all()
    assert np.array_equal(again.images[1, 2:], views.images[1, 2:])
    assert read_views(tmp_path, "val").names == ("images/000.png",)
    assert read_views(tmp_path, "train").names == ("images/001.png",)


def test_nerf_synthetic_refuses_lenses_it_cannot_hold(tmp_path):
    views = made_up()
    lenses = views.cameras.intrinsics.copy()
    lenses[1, 0] *= 2
    other = PosedViews(views.images, Cameras(views.cameras.camera_to_world, lenses, 8, 8))
    with pytest.raises(DataError, match="nerfstudio capture"):
        write_nerf_synthetic(other, tmp_path)


def edit(folder, change):
    file = folder / "transforms.json"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda m: m["frames"][1]["transform_matrix"][0].__setitem__(3, float("nan")),
            "camera 1: .*not finite",
        ),
        (lambda m: m["frames"][1].__setitem__("file_path", "images/none.png"), "frame 1 names .*missing"),
        (
            lambda m: m["frames"][1].__setitem__("file_path", "../../etc/passwd"),
            "frame 1 names .*outside the capture",
        ),
        (lambda m: m["frames"][0].pop("transform_matrix"), "frame 0 has no 4x4"),
        (lambda m: m["frames"][0].pop("fl_x"), "neither fl_x nor a camera_angle_x"),
        (lambda m: m["frames"][0].pop("file_path"), "frame 0 has no file_path"),
        (lambda m: m["frames"][0].pop("depth_file_path"), "1 of 3 frames have no depth"),
        (lambda m: m.__setitem__("frames", []), "no frame"),
        (lambda m: m.__setitem__("frames", 5), "not a list"),
        (lambda m: m.__setitem__("k1", 3), "distorting lens .k1."),
        (lambda m: m.__setitem__("camera_model", "OPENCV_FISHEYE"), "FISHEYE"),
    ],
)
def test_faulty_captures_are_one_line(tmp_path, change, line):
    write_nerfstudio(made_up(), tmp_path)
    edit(tmp_path, change)
    with pytest.raises(DataError, match=line) as error:
        read_views(tmp_path)
    assert "\n" not in str(error.value)


def test_torn_pictures_other_sizes_and_no_scene_are_one_line(tmp_path):
    write_nerfstudio(made_up(), tmp_path)
    with pytest.raises(DataError, match="no split 'val'"):
        read_views(tmp_path, "val")
    picture = tmp_path / "images" / "001.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:60])
    with pytest.raises(DataError, match="no readable picture"):
        read_views(tmp_path)
    Image.fromarray(np.zeros((4, 8, 4), np.uint8)).save(picture)
    with pytest.raises(DataError, match="several sizes .8x4, 8x8."):
        read_views(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_views(tmp_path / "nowhere")
    with pytest.raises(DataError, match="neither transforms_train.json"):
        read_views(tmp_path / "images")


json_values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_gives_views_or_one_line(tmp_path, data):
    write_nerfstudio(made_up(2, 4), tmp_path)
    file = tmp_path / "transforms.json"
    meta = json.loads(file.read_text())
    place = data.draw(st.sampled_from([meta, meta["frames"][0], meta["frames"][1]["transform_matrix"][1]]))
    key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(4)))
    place[key] = data.draw(json_values)
    file.write_text(json.dumps(meta))
    fault = ""
    try:
        assert len(read_views(tmp_path)) >= 1
    except DataError as error:
        fault = str(error)
    assert "\n" not in fault


def test_views_check_what_they_are_made_of():
    views = made_up()
    with pytest.raises(DataError, match="cameras ask for"):
        PosedViews(views.images[:, :4], views.cameras)
    with pytest.raises(DataError, match="depth"):
        PosedViews(views.images, views.cameras, views.depth[:2])
    with pytest.raises(DataError, match="not finite"):
        PosedViews(views.images, views.cameras, np.full_like(views.depth, np.nan))
    with pytest.raises(DataError, match="names"):
        PosedViews(views.images, views.cameras, names=("a", "a", "b"))
    with pytest.raises(DataError, match="multi-view consistency needs depth"):
        views.without_depth().need_depth("multi-view consistency")
    assert views[[2, 0]].names == ("002", "000")
    assert len(views[1:]) == 2


def test_compositing_is_the_over_operator():
    views = made_up(1)
    alpha = views.images[..., 3:] / 255
    expected = views.images[..., :3] * alpha + 255 * np.array([0.2, 0.4, 0.6]) * (1 - alpha)
    assert np.abs(views.composite((0.2, 0.4, 0.6)) - expected).max() <= 0.51
