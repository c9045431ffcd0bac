"""Captures as people have them: read right, or one line that names the cure."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.capture_check import check_cameras
from piva_bench.scene.lens import Lens
from piva_bench.scene.sources import open_capture
from piva_bench.scene.transforms import open_transforms, read_views, write_nerfstudio
from piva_bench.scene.views import PosedViews

SIZE = 24
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def discs(cameras):
    """Pictures of a grey ball of radius 0.5 about the origin on transparent ground; shaded, so that turning shows."""
    images = np.zeros((len(cameras), cameras.height, cameras.width, 4), np.uint8)
    rows, columns = np.mgrid[: cameras.height, : cameras.width] + 0.5
    for image, (fx, fy, cx, cy), eye in zip(images, cameras.intrinsics, cameras.positions, strict=True):
        x, y = (columns - cx) / fx, (rows - cy) / fy
        distance = np.linalg.norm(eye)
        inside = (x * x + y * y) / (1 + x * x + y * y) < (0.5 / distance) ** 2
        image[..., 0], image[..., 1], image[..., 2] = 40 + 8 * columns, 40 + 8 * rows, 90
        image[..., 3] = 255 * inside
    return images


@pytest.fixture
def capture(tmp_path):
    """A capture of 18 views; call it with a change of its meta to write that."""
    cameras = RIG.sphere(18, SIZE)
    folder = tmp_path / "fox"
    file = write_nerfstudio(PosedViews(discs(cameras), cameras), folder)
    meta = json.loads(file.read_text())
    # One lens for all, as COLMAP's converters write it.
    lens = {key: meta["frames"][0][key] for key in ("fl_x", "fl_y", "cx", "cy")}
    frames = [{key: frame[key] for key in ("file_path", "transform_matrix")} for frame in meta["frames"]]

    def write(change=lambda meta: None):
        meta = {
            "camera_model": "OPENCV",
            "w": SIZE,
            "h": SIZE,
            **lens,
            "frames": json.loads(json.dumps(frames)),
        }
        change(meta)
        file.write_text(json.dumps(meta))
        return folder

    write()
    return write


def refused(folder, *words):
    with pytest.raises(DataError) as error:
        open_capture(folder, 16, 4, square=True)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value), error.value


def same(folder, expected):
    views = read_views(folder)
    assert np.array_equal(views.images, expected.images)
    assert np.allclose(views.cameras.intrinsics, expected.cameras.intrinsics)
    open_capture(folder, 16, 4)


def poses(change):
    def apply(meta):
        for frame in meta["frames"]:
            frame["transform_matrix"] = change(np.array(frame["transform_matrix"])).tolist()

    return apply


def test_a_whole_capture_is_read_without_a_word(capture):
    scene = open_capture(capture(), 16, 4, square=True)
    assert scene.notes == ()
    assert scene.background is None
    assert np.allclose(scene.box.mean(axis=0), 0, atol=1e-6)


# Cameras


def outwards(pose):
    turned = pose.copy()
    turned[:3, [0, 2]] *= -1  # about its own up
    return turned


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pose: pose @ FLIP, "OpenCV's axes"),
        (np.linalg.inv, "world-to-camera where camera-to-world is wanted"),
        (lambda pose: np.linalg.inv(pose @ FLIP), "OpenCV's axes: flip y and z then"),
        (outwards, "look outwards"),
        (lambda pose: np.vstack([np.c_[np.eye(3), pose[:3, 3]], [0, 0, 0, 1]]), "forward-facing"),
        (lambda pose: np.vstack([np.c_[pose[:3, :3], [0, 0, 0]], [0, 0, 0, 1]]), "objects seen from around"),
    ],
)
def test_poses_of_other_kinds_are_named(capture, change, words):
    refused(capture(poses(change)), words)


@pytest.mark.parametrize("seed", range(8))
def test_world_to_camera_is_named_for_cameras_held_by_hand(seed):
    rng = np.random.default_rng(seed)
    orbit = RIG.random(40, 32, seed)
    moved = orbit.camera_to_world.copy()
    moved[:, :3, 3] *= rng.uniform(0.6, 1.4, (40, 1))
    moved[:, :3, 3] += rng.normal(0, 0.15, (40, 3)) + rng.uniform(-20, 20, 3)
    notes = []
    check_cameras(Cameras(moved, orbit.intrinsics, 32, 32), notes.append)
    assert notes == []
    for flipped, words in ((np.eye(4), "world-to-camera"), (FLIP, "flip y and z")):
        with pytest.raises(DataError, match=words):
            check_cameras(Cameras(np.linalg.inv(moved @ flipped), orbit.intrinsics, 32, 32), notes.append)
    with pytest.raises(DataError, match="OpenCV's axes .y down"):
        check_cameras(Cameras(moved @ FLIP, orbit.intrinsics, 32, 32), notes.append)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_views_are_refused(capture, count):
    refused(capture(lambda meta: meta.update(frames=meta["frames"][:count])), f"{count} views are too few")


def test_few_views_stray_views_and_another_up_are_said(capture):
    scene = open_capture(capture(lambda meta: meta.update(frames=meta["frames"][:6])), 16, 4)
    assert "6 views are few" in " ".join(scene.notes)

    def stray(meta):
        turned = outwards(np.array(meta["frames"][0]["transform_matrix"]))
        meta["frames"][0]["transform_matrix"] = turned.tolist()

    assert "1 of 18 views do not show the point" in " ".join(open_capture(capture(stray), 16, 4).notes)
    y_up = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    assert "up is (0.0, 1.0" in " ".join(open_capture(capture(poses(lambda pose: y_up @ pose)), 16, 4).notes)


def test_poses_of_three_rows_and_of_text_are_read(capture):
    expected = read_views(capture())
    same(capture(poses(lambda pose: pose[:3])), expected)
    same(capture(lambda meta: [f.update(transform_matrix=[[*map(str, r)] for r in f["transform_matrix"]])
                               for f in meta["frames"]]), expected)  # fmt: skip


def test_a_frame_listed_twice_is_one_and_with_another_pose_a_fault(capture):
    expected = read_views(capture())
    twice = capture(lambda meta: meta["frames"].extend(meta["frames"][:2]))
    same(twice, expected)
    assert "2 of 20 frames repeat others" in " ".join(open_capture(twice, 16, 4).notes)

    def moved(meta):
        meta["frames"].append(meta["frames"][0] | {"transform_matrix": meta["frames"][1]["transform_matrix"]})

    refused(capture(moved), "frame 18 names images/000.png, as frame 0 does, with another pose")


# Lenses


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(is_fisheye=True), "no pinhole (is_fisheye)"),
        (lambda m: m.update(is_fisheye=1), "no pinhole (is_fisheye)"),
        (lambda m: m.update(is_fisheye="true"), "no pinhole (is_fisheye)"),
        (lambda m: m["frames"][0].update(is_fisheye=True), "frame 0 has a camera that is no pinhole"),
        (lambda m: m.update(camera_model="OPENCV_FISHEYE"), "no pinhole (OPENCV_FISHEYE)"),
        (lambda m: m.update(camera_model="EQUIRECTANGULAR"), "no pinhole"),
        (lambda m: m.update(camera_model=7), "no pinhole (7)"),
        (lambda m: m.update(k1=-0.9), "distorting lens (k1)"),
        (lambda m: m.update(k1=0.01, k4=0.01), "distorting lens (k1, k4)"),
        (lambda m: (m.pop("w"), m.pop("h"), m.update(cx=SIZE, cy=SIZE)), "principal point"),
        (
            lambda m: (m.pop("w"), m.pop("h"), m.update(cx=0.75 * SIZE, cy=0.75 * SIZE)),
            "name that size as w and h",
        ),
        (
            lambda m: (m.pop("w"), m.pop("h"), m.update(camera_angle_x=0.4)),
            "fl_x and camera_angle_x that disagree",
        ),
        (lambda m: m.update(w=2 * SIZE), "another shape: was it turned or cropped"),
        (lambda m: m.update(fl_x=1.1, fl_y=1.1, cx=0.5, cy=0.5), "are in pixels"),
        (lambda m: m.update(cx="middle"), "a cx that is no number"),
        (lambda m: m.update(fl_y=True), "a fl_y that is no number"),
        (lambda m: m.update(k1=float("nan")), "a k1 that is no number"),
        (lambda m: (m.pop("fl_x"), m.update(camera_angle_x=49.1)), "49.1 degrees would be 0.8569"),
    ],
)
def test_lenses_that_do_not_fit_are_named(capture, change, words):
    refused(capture(change), words)


def test_intrinsics_of_another_size_angles_and_text_are_read(capture):
    expected = read_views(capture())
    names = ("fl_x", "fl_y", "cx", "cy", "w", "h")
    same(capture(lambda m: m.update({name: 4 * m[name] for name in names})), expected)
    same(capture(lambda m: m.update({name: str(m[name]) for name in names})), expected)
    angle = 2 * math.atan(0.5 * SIZE / expected.cameras.intrinsics[0, 0])
    for key in ("camera_angle_x", "camera_angle_y"):
        same(capture(lambda m, key=key: ([m.pop(name) for name in names], m.update({key: angle}))), expected)
    same(capture(lambda m: m.update(is_fisheye=False, k1=0, k2=0.0, p1=None)), expected)


def test_a_principal_point_off_the_middle_is_read_where_the_size_is_named(capture):
    views = read_views(capture(lambda m: m.update(cx=9.0)))
    assert np.allclose(views.cameras.intrinsics[:, 2], 9)


LENS = Lens((30.0, 28.0, 19.0, 17.5), (0.15, -0.02, 0.004, -0.003, 0.01), 40, 36)


def distorted(x, y, k1, k2, p1, p2, k3):
    """The formula of OpenCV's documentation, point by point."""
    square = x**2 + y**2
    radial = 1 + k1 * square + k2 * square**2 + k3 * square**3
    return (
        x * radial + 2 * p1 * x * y + p2 * (square + 2 * x**2),
        y * radial + p1 * (square + 2 * y**2) + 2 * p2 * x * y,
    )


def test_a_small_distortion_is_taken_out():
    """A distorted picture of a plane's colours, which are linear in its place, becomes the pinhole's picture of it."""
    fx, fy, cx, cy = LENS.intrinsics

    def colours(x, y):
        return [128 + 160 * x, 128 + 160 * y, 90 + 40 * x - 30 * y, 255]

    truth, picture = np.zeros((2, 36, 40, 4))
    largest = 0.0
    for row in range(36):
        for column in range(40):
            x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
            truth[row, column] = colours(x, y)
            ideal = np.array([x, y])
            for _ in range(60):  # where the ray of this pixel of the distorted picture comes from
                ideal += np.array([x, y]) - distorted(*ideal, *LENS.distortion)
            picture[row, column] = colours(*ideal)
    for x, y in ((-cx / fx, -cy / fy), (-cx / fx, (36 - cy) / fy), ((40 - cx) / fx, -cy / fy),
                 ((40 - cx) / fx, (36 - cy) / fy)):  # fmt: skip
        moved = np.array(distorted(x, y, *LENS.distortion)) - (x, y)
        largest = max(largest, math.hypot(*(moved * (fx, fy))))
    assert LENS.shift == pytest.approx(largest, rel=1e-6)
    result = LENS.undistorted(picture.round().astype(np.uint8))
    inside = (slice(4, -4), slice(4, -4))
    assert np.abs(picture - truth)[inside].max() > 5
    assert np.abs(result[inside] - truth[inside]).max() < 1.6
    assert (result[..., 3] == 255).all()


def test_a_distortion_of_nothing_leaves_every_pixel_and_a_small_one_is_said(capture):
    expected = read_views(capture())
    folder = capture(lambda m: m.update(k1=1e-5, k2=0, p1=1e-7, p2=0, camera_model="SIMPLE_RADIAL"))
    same(folder, expected)
    assert open_capture(folder, 16, 4).notes == ()
    bent = capture(lambda m: m.update(k1=0.08, k2=-0.01, p1=1e-4, p2=1e-4))
    assert "distortion is taken out of the pictures (up to 0." in " ".join(open_capture(bent, 16, 4).notes)
    assert not np.array_equal(read_views(bent).images, expected.images)


# Files


def rename(suffix, kind=None):
    """Pictures under another ending, in another format."""

    def apply(folder):
        for path in sorted((folder / "images").glob("*.png")):
            Image.open(path).convert("RGBA" if kind != "JPEG" else "RGB").save(
                path.with_suffix(suffix), format=kind or "PNG", lossless=True
            )
            path.unlink()

    return apply


def names(change):
    def apply(meta):
        for frame in meta["frames"]:
            frame["file_path"] = change(frame["file_path"])

    return apply


@pytest.mark.parametrize("suffix", [".jpeg", ".JPG", ".JPEG", ".webp", ".WEBP", ".PNG", ".tiff"])
def test_names_without_an_ending(capture, suffix):
    expected = read_views(capture())
    kind = {".jpeg": "JPEG", ".jpg": "JPEG", ".webp": "WEBP", ".png": "PNG", ".tiff": "TIFF"}[suffix.lower()]
    folder = capture(names(lambda name: name.removesuffix(".png")))
    rename(suffix, kind)(folder)
    views = read_views(folder)
    assert views.images.shape == expected.images.shape
    if kind != "JPEG":
        assert np.array_equal(views.silhouettes, expected.silhouettes)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: f".\\{name}".replace("/", "\\"),
        lambda name: f"./{name}",
        lambda name: f"images/../{name}",
        lambda name: f"../fox/{name}",
        lambda name: name.replace(".png", ".PNG"),
        lambda name: f"/home/somebody/data/fox/{name}",
        lambda name: f"C:\\Users\\somebody\\fox\\{name}".replace("/", "\\"),
        lambda name: f"D:/fox/{name}",
    ],
)
def test_names_as_other_systems_write_them(capture, change):
    expected = read_views(capture())
    same(capture(names(change)), expected)


def test_an_absolute_name_of_this_machine_is_read_below_the_folder(capture, tmp_path):
    expected = read_views(capture())
    folder = capture(names(lambda name: str(tmp_path / "fox" / name)))
    same(folder, expected)
    assert "absolute paths are of the machine that wrote them" in " ".join(open_capture(folder, 16, 4).notes)


@pytest.mark.parametrize(
    "name", ["../images/000.png", "../../etc/passwd", "..\\secret\\000.png", "images/../../x.png"]
)
def test_names_that_leave_the_folder_are_refused_with_the_cure(capture, tmp_path, name):
    folder = capture(lambda meta: meta["frames"][0].update(file_path=name))
    (tmp_path / "images").mkdir()
    shutil.copy(folder / "images" / "000.png", tmp_path / "images")
    shutil.copy(folder / "images" / "000.png", tmp_path / "x.png")
    refused(folder, "outside the capture's folder", "move the transforms file")


def test_an_absolute_name_never_leaves_the_folder(capture, tmp_path):
    secret = tmp_path / "secret.png"
    folder = capture()
    shutil.copy(folder / "images" / "000.png", secret)
    refused(capture(lambda meta: meta["frames"][0].update(file_path=str(secret))), "which is missing")
    refused(capture(lambda meta: meta["frames"][0].update(file_path="/../secret.png")), "outside")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_and_encodings(capture, encoding):
    expected = read_views(capture())
    folder = capture(lambda meta: meta.update(note="水"))
    file = folder / "transforms.json"
    file.write_bytes(json.dumps(json.loads(file.read_text()), ensure_ascii=False).encode(encoding))
    same(folder, expected)


def test_what_lies_beside_is_named(tmp_path):
    (tmp_path / "a" / "sparse").mkdir(parents=True)
    refused(tmp_path / "a", "ns-process-data")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "transforms_test.json").write_text("{}")
    refused(tmp_path / "b", "name transforms_test.json itself")


# Pictures and masks


def test_a_picture_that_is_turned_by_a_tag_is_refused_with_the_cure(capture):
    folder = capture()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = folder / "images" / "003.png"
    Image.open(path).save(path, exif=exif)
    refused(folder, "frame 3 names", "an EXIF tag turns", "exiftool -Orientation=")


def test_sixteen_bits_are_scaled_and_what_has_no_white_is_refused(capture):
    folder = capture()
    for path in (folder / "images").glob("*.png"):
        Image.fromarray(np.full((SIZE, SIZE), 40000, np.uint16)).save(path)
    assert (read_views(folder).images[..., :3] == round(40000 / 257)).all()
    Image.fromarray(np.full((SIZE, SIZE), 3000, np.uint16)).save(folder / "images" / "002.png")
    refused(folder, "frame 2", "16-bit values that end at 3000")


@pytest.mark.parametrize("white", [1, 255])
def test_masks_of_0_and_1_are_read(capture, white):
    folder = capture()
    expected = read_views(folder)
    folder = with_masks(capture, expected.silhouettes, white)
    assert np.array_equal(read_views(folder).silhouettes, expected.silhouettes)
    open_capture(folder, 16, 4)


def with_masks(capture, regions, white=255):
    folder = capture(
        lambda meta: [frame.update(mask_path=f"masks/{n}.png") for n, frame in enumerate(meta["frames"])]
    )
    (folder / "masks").mkdir(exist_ok=True)
    for number, region in enumerate(regions):
        Image.fromarray((region * white).astype(np.uint8)).save(folder / "masks" / f"{number}.png")
        path = folder / "images" / f"{number:03d}.png"
        Image.open(path).convert("RGB").save(path)
    return folder


def test_masks_that_are_empty_the_other_way_round_or_of_another_size_are_refused(capture):
    silhouettes = read_views(capture()).silhouettes
    refused(with_masks(capture, ~silhouettes), "the other way round")
    refused(with_masks(capture, silhouettes & False), "frame 0", "marks nothing")
    refused(with_masks(capture, silhouettes[:, :12]), "another size than its picture")


def test_the_background_is_the_colour_at_the_border(capture):
    folder = capture()

    def lay_on(behind):
        views = read_views(capture())
        for image, path in zip(discs(views.cameras), sorted((folder / "images").glob("*.png")), strict=True):
            shown = np.where(image[..., 3:] > 0, image[..., :3], behind).astype(np.uint8)
            Image.fromarray(shown).save(path)
        return open_capture(folder, 16, 4, square=True)

    assert lay_on(np.array([0, 0, 0])).background == (0, 0, 0)
    assert lay_on(np.array([255, 254, 253])).background == (1, 1, 1)
    assert lay_on(np.array([30, 60, 90])).background == pytest.approx((30 / 255, 60 / 255, 90 / 255))
    room = lay_on(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)))
    assert room.background is None
    assert "silhouettes mean nothing" in " ".join(room.notes)


def test_files_and_cameras_are_looked_through_without_decoding_a_picture(capture, monkeypatch):
    folder = capture()
    monkeypatch.setattr("piva_bench.scene.capture_frame.decode", lambda *given: pytest.fail("decoded"))
    opened = open_transforms(folder)
    assert len(opened.files()) == 19
    assert len(opened.cameras) == 18
