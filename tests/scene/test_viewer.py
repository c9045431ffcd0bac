"""The viewer: cameras of a browser as ours, what pages are sent, and a page in a real browser."""

import importlib.util
import io
import socket
import sys
import threading
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from piva_bench.errors import UserError
from piva_bench.scene.cameras import RIG, Cameras, look_at, orbit
from piva_bench.scene.field import Grid, RadianceField
from piva_bench.scene.viewer import Show, Viewer, _Page, browser_camera, picture
from tests.report.browser import open_browser

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
needs_viser = pytest.mark.skipif(
    importlib.util.find_spec("viser") is None,
    reason="the extra is not installed: pip install 'piva-bench[viewer]'",
)


def ball(front, back, radius=0.7, resolution=24):
    """An opaque ball with a cyan cap and one side (+x) green, so that no two views of it are alike."""
    field = RadianceField(Grid(BOX, resolution))
    x, y, z = field.nodes().unbind(-1)
    with torch.no_grad():
        field.raw[0, 0] = (radius - field.nodes().norm(dim=-1)) * 4 * resolution
        halves = torch.where(y < 0, torch.tensor(front).view(3, 1, 1, 1), torch.tensor(back).view(3, 1, 1, 1))
        halves = torch.where(x > 0.35, torch.tensor((0.1, 0.8, 0.1)).view(3, 1, 1, 1), halves)
        halves = torch.where(z > 0.45, torch.tensor((0.0, 0.9, 0.9)).view(3, 1, 1, 1), halves)
        field.raw[0, 1:] = halves.clamp(0.01, 0.99).logit()
    return field


RED, YELLOW = (0.9, 0.1, 0.1), (0.9, 0.8, 0.1)
BALL = ball(RED, (0.1, 0.2, 0.9))
EDITED = ball(YELLOW, (0.1, 0.2, 0.9))


def on_white(field, camera):
    with torch.no_grad():
        shown = field.render(camera).over((1.0, 1.0, 1.0))[0]
    return (shown.permute(1, 2, 0).numpy() * 255).round().astype(int)


def as_browser(camera):
    """What a browser reports where one of our cameras stands: x right, y down, z ahead; quaternion w first."""
    pose = camera.camera_to_world[0]
    right, up, back = pose[:3, 0], pose[:3, 1], pose[:3, 2]
    turn = np.stack([right, -up, -back], axis=1)
    # The quaternion is the eigenvector of the largest eigenvalue of this symmetric matrix (Bar-Itzhack 2000).
    (a, b, c), (d, e, f), (g, h, i) = turn
    symmetric = np.array(
        [[a + e + i, h - f, c - g, d - b], [h - f, a - e - i, b + d, c + g],
         [c - g, b + d, e - a - i, f + h], [d - b, c + g, f + h, i - a - e]]
    )  # fmt: skip
    wxyz = np.linalg.eigh(symmetric)[1][:, -1]
    fov = 2 * np.arctan(camera.height / 2 / camera.intrinsics[0, 1])
    return wxyz, pose[:3, 3], fov, camera.width / camera.height, camera.height


@pytest.mark.parametrize("azimuth", [0, 35, 160, -90])
@pytest.mark.parametrize("size", [(41, 41), (64, 31)])
def test_a_browsers_camera_sees_what_ours_sees_from_there(azimuth, size):
    camera = orbit(np.array([azimuth]), np.array([25.0]), 3.5, 50.0, *size)
    seen = browser_camera(*as_browser(camera))
    assert (seen.width, seen.height) == size
    assert seen.camera_to_world == pytest.approx(camera.camera_to_world, abs=1e-9)
    assert seen.intrinsics == pytest.approx(camera.intrinsics)
    shown, expected = picture(BALL, seen), on_white(BALL, camera)
    assert shown.shape == (size[1], size[0], 3)
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 20
    assert np.abs(shown - expected).max() <= 1


def test_a_rounded_width_leaves_the_field_of_view_as_it_is():
    """The browser stretches what it gets over a window of exactly this aspect."""
    wxyz, position, fov, _, _ = as_browser(orbit(np.zeros(1), np.zeros(1), 3.5, 50.0, 9, 9))
    camera = browser_camera(wxyz, position, fov, 1.234, 10)
    assert camera.width == 12
    reach = np.array([camera.width, camera.height]) / 2 / camera.intrinsics[0, :2]
    assert reach == pytest.approx(np.tan(fov / 2) * np.array([1.234, 1.0]))


def test_a_picture_rendered_in_strips_is_the_whole_one_and_can_be_stopped():
    camera = RIG.turntable(1, 131)  # 8192 rays are 62 rows of it
    assert np.abs(picture(BALL, camera) - on_white(BALL, camera)).max() <= 1
    looks = iter([False, True])
    assert picture(BALL, camera, stopped=lambda: next(looks)) is None
    assert next(looks, None) is None


def test_depth_goes_from_black_to_white_and_alpha_from_empty_to_opaque():
    camera = RIG.turntable(1, 33, elevation=0.0)
    depth, alpha = picture(BALL, camera, Show.depth), picture(BALL, camera, Show.alpha)
    # The box reaches from 3 to 5 before the camera; the ball's nearest point is at 4 - 0.7.
    assert depth[16, 16] == pytest.approx(255 * (3.3 - 3) / 2, abs=8)
    assert depth[16, 8, 0] > depth[16, 16, 0] + 5
    assert (depth[0] == 255).all()
    assert (alpha[16, 16] == 255).all()
    assert (alpha[0] == 0).all()
    within = Cameras(np.eye(4)[None], camera.intrinsics, 33, 33)  # inside the ball: nothing to divide by
    assert (picture(BALL, within, Show.depth) < 255).all()


class Choice:
    def __init__(self, value):
        self.value, self.callbacks = value, []

    def on_update(self, callback):
        self.callbacks.append(callback)

    def choose(self, value):
        self.value = value
        for callback in self.callbacks:
            callback(None)


@pytest.fixture
def page(request, monkeypatch):
    """A page of which the window is played by the test: what it was sent, and its choices."""
    wxyz, position, fov, aspect, _ = as_browser(orbit(np.zeros(1), np.array([20.0]), 3.5, 49.0, 60, 40))
    sent, choices = [], {}
    # Seconds a picture may take in a move: by default so few that it has the fewest rows.
    monkeypatch.setattr("piva_bench.scene.viewer.MOVING", getattr(request, "param", 0.0))

    def add_dropdown(name, options):
        return choices.setdefault(name, Choice(options[0]))

    camera = Choice(None)
    camera.wxyz, camera.position, camera.fov, camera.aspect = wxyz, position, fov, aspect
    client = SimpleNamespace(
        client_id=0, camera=camera, gui=SimpleNamespace(add_dropdown=add_dropdown),
        scene=SimpleNamespace(set_background_image=lambda image, **_: sent.append(image)),
    )  # fmt: skip
    thread = _Page(client, {"source": BALL, "edit": EDITED}, 120, threading.Lock())
    thread.start()
    yield SimpleNamespace(sent=sent, camera=camera, thread=thread, **choices)
    thread.close()
    thread.join(30)
    assert not thread.is_alive()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_page_gets_a_coarse_picture_on_a_move_and_a_full_one_at_rest(page):
    wait_for(lambda: page.sent and page.sent[-1].shape == (120, 180, 3))
    assert page.sent[0].shape == (32, 48, 3)
    count = len(page.sent)
    time.sleep(0.5)
    assert len(page.sent) == count  # nothing moves, nothing is rendered
    front = on_white(BALL, orbit(np.zeros(1), np.array([20.0]), 3.5, 49.0, 180, 120))
    assert np.abs(page.sent[-1] - front).max() <= 1
    there = orbit(np.array([90.0]), np.array([20.0]), 3.5, 49.0, 180, 120)
    page.camera.wxyz, page.camera.position, *_ = as_browser(there)
    page.camera.choose(None)
    wait_for(lambda: len(page.sent) >= count + 2 and len(page.sent[-1]) == 120)
    assert len(page.sent[count]) == 32
    assert np.abs(page.sent[-1] - on_white(BALL, there)).max() <= 1


def test_a_page_shows_the_field_and_the_values_that_are_chosen(page):
    wait_for(lambda: page.sent and len(page.sent[-1]) == 120)
    count = len(page.sent)
    page.Field.choose("edit")
    wait_for(lambda: len(page.sent) > count and len(page.sent[-1]) == 120)
    middle = page.sent[-1][60, 90] / 255
    assert middle == pytest.approx(YELLOW, abs=0.02)
    page.Show.choose("alpha")
    wait_for(lambda: len(page.sent[-1]) == 120 and (page.sent[-1][60, 90] == 255).all())
    assert (page.sent[-1][0, 0] == 0).all()


@pytest.mark.parametrize("page", [60.0], indirect=True)
def test_a_fast_machine_has_full_pictures_in_a_move_too(page):
    wait_for(lambda: page.sent)
    assert page.sent[0].shape == (120, 180, 3)


@pytest.mark.parametrize("aspect", [0.0, float("inf"), float("nan")])
def test_a_window_without_height_ends_nothing(page, aspect):
    wait_for(lambda: page.sent)
    page.camera.aspect = aspect
    count = len(page.sent)
    page.camera.choose(None)
    wait_for(lambda: len(page.sent) > count)


def test_no_viser_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UserError, match=r"pip install 'piva-bench\[viewer\]'"):
        Viewer({"ball": BALL}, port=0)


@needs_viser
def test_a_port_in_use_and_an_address_of_another_machine_are_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"^Port {port} of 127.0.0.1 is in use: give another with --port.*$"
        ):
            Viewer({"ball": BALL}, port=port)
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(
            UserError, match=f"^Cannot listen on {host}, port 0 .*: give another --host or --port.$"
        ):
            Viewer({"ball": BALL}, host=host, port=0)


@needs_viser
def test_the_page_is_served_until_the_viewer_is_closed():
    viewer = Viewer({"ball": BALL}, port=0)
    with urllib.request.urlopen(viewer.url, timeout=30) as answer:
        assert answer.status == 200
        assert "<title>" in answer.read().decode()
    viewer.close()

    def gone():
        try:
            urllib.request.urlopen(viewer.url, timeout=5).close()
        except OSError:
            return True
        return False

    wait_for(gone)


@pytest.fixture
def viewer():
    viewer = Viewer({"source": BALL, "edit": EDITED}, port=0, size=200)
    yield viewer
    viewer.close()


@pytest.fixture
def window(tmp_path):
    # Chromium draws WebGL without a GPU only where told to.
    driver = open_browser(tmp_path / "chromium", 1000, 700, ["--enable-unsafe-swiftshader"])
    yield driver
    driver.quit()


@needs_viser
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_browser_shows_the_field_from_where_its_camera_stands(viewer, window):
    """The pixels on the screen are those of our own render of the same pose, turntable's and other."""
    window.get(viewer.url)
    wait_for(lambda: viewer._server.get_clients(), 90)
    (client,) = viewer._server.get_clients().values()
    width, height = window.execute_script(
        "const c = document.querySelector('canvas'); return [c.clientWidth, c.clientHeight]"
    )
    focal = height / 2 / np.tan(np.radians(RIG.fov) / 2)
    # The middle of the window: beside it are the panel, a notice about WebGL and the axes.
    left, top = width // 3, height // 5
    lens = np.array([[focal, focal, width / 2 - left, height / 2 - top]])

    def expect(eye):
        middle = Cameras(look_at(eye, np.zeros(3))[None], lens, width - 2 * left, height - 2 * top)
        return on_white(BALL, middle)

    def differs(expected):
        shot = np.asarray(Image.open(io.BytesIO(window.get_screenshot_as_png())).convert("RGB"))
        return np.abs(shot[top : height - top, left : width - left] - expected).mean()

    angle = np.radians(20)
    start = expect(4 * 2 / 2.5 * np.array([0, -np.cos(angle), np.sin(angle)]))
    wait_for(lambda: differs(start) < 4, 90)
    eye = RIG.turntable(12, 8).positions[4]
    turned = expect(eye)
    assert differs(turned) > 20
    client.camera.position, client.camera.look_at = eye, (0.0, 0.0, 0.0)
    wait_for(lambda: differs(turned) < 4, 90)
