"""Radiance fields in a browser, through viser: of every camera move a picture, rendered here and shown there.

As in nerfstudio's viewer a picture is coarse while the camera moves and full once it rests. Every open page has
its own camera and its own choice of field, so two windows compare a source and its edit.
"""

from __future__ import annotations

import contextlib
import errno
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation

from piva_bench.errors import UserError
from piva_bench.scene.cameras import RIG, Cameras, Floats
from piva_bench.scene.export import field_of_normals
from piva_bench.scene.field import RadianceField, Rendered

if TYPE_CHECKING:
    import viser

REST = 0.2
"""Seconds without a move after which the full picture is rendered; nerfstudio's viewer waits as long."""
MOVING = 0.1
"""Seconds that a picture may take while the camera moves: it has as many pixels as that allows."""
FEWEST = 32
"""Rows of a picture, however slow the machine."""
STRIP = 1 << 13
"""Rays between two looks at whether a picture is still wanted."""
MOVING_QUALITY, STILL_QUALITY = 60, 95
"""Of the JPEGs that are sent; the second is next to lossless."""
ELEVATION = 20.0
"""Degrees above the horizon where a page's camera begins, as on a turntable."""
OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0])
"""viser's cameras have x right, y down and look along +z; ours have y up and look along -z."""


class Show(StrEnum):
    """What of a field is shown."""

    colour = "colour"
    """On white."""
    depth = "depth"
    """From black, the nearest that the field's box can hold, to white, the farthest; on white."""
    alpha = "alpha"
    """From black, empty, to white, opaque."""
    normals = "normals"
    """Of its surface, in the world's axes, (n + 1) / 2 as red, green and blue; on white."""


def browser_camera(wxyz: Floats, position: Floats, fov: float, aspect: float, height: int) -> Cameras:
    """A browser's camera, as viser reports it, as one of ours.

    Args:
        wxyz: [4] quaternion of the rotation from the camera's OpenCV axes to the world.
        position: [3] in the world.
        fov: vertical field of view in radians.
        aspect: the window's width by its height.
        height: of the picture; its width follows.
    """
    width = max(round(height * aspect), 1)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(np.roll(wxyz, -1)).as_matrix() @ OPENCV_TO_OPENGL
    pose[:3, 3] = position
    reach = np.tan(fov / 2)
    # The browser stretches the picture over its window: a rounded width makes pixels that are not quite square.
    lens = [width / (2 * reach * aspect), height / (2 * reach), width / 2, height / 2]
    return Cameras(pose[None], np.array([lens]), width, height)


@torch.no_grad()
def picture(
    field: RadianceField,
    camera: Cameras,
    show: Show = Show.colour,
    stopped: Callable[[], bool] = lambda: False,
) -> npt.NDArray[np.uint8] | None:
    """What one camera sees of a field.

    Args:
        field: what is rendered, where it lies.
        camera: a single one.
        show: colour, depth or alpha.
        stopped: asked after every few rows; true where the picture is wanted no more.

    Returns:
        [H, W, 3], or None if it was stopped.
    """
    if show is Show.normals:
        field = field_of_normals(field)
    strips = []
    for strip in _strips(camera):
        strips.append(field.render(strip))
        if stopped():
            return None
    shown = Rendered(*(torch.cat(parts, dim=2) for parts in zip(*strips, strict=True)))
    if show in (Show.colour, Show.normals):
        values = shown.over((1.0, 1.0, 1.0))
    elif show is Show.depth:
        near, far = _depths(field, camera)
        values = 1 - shown.alpha * (1 - ((shown.depth - near) / (far - near)).clamp(0, 1))
    else:
        values = shown.alpha
    pixels = (values[0].expand(3, -1, -1).clamp(0, 1) * 255).round().byte()
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


def pictures(field: RadianceField, cameras: Cameras, show: Show = Show.colour) -> npt.NDArray[np.uint8]:
    """What each of the cameras sees of a field, [N, H, W, 3]; see ``picture``."""
    if show is Show.normals:
        field, show = field_of_normals(field), Show.colour
    shots = [picture(field, cameras[index : index + 1], show) for index in range(len(cameras))]
    return np.stack([shot for shot in shots if shot is not None])


def _strips(camera: Cameras) -> Iterator[Cameras]:
    """The camera's picture in strips of a few rows, from the top."""
    rows = max(STRIP // camera.width, 1)
    for top in range(0, camera.height, rows):
        lens = camera.intrinsics - np.array([0, 0, 0, top])
        yield Cameras(camera.camera_to_world, lens, camera.width, min(rows, camera.height - top))


def _depths(field: RadianceField, camera: Cameras) -> tuple[float, float]:
    """Depth of the nearest and the farthest corner of a field's box; in front of the camera."""
    corners = np.stack(np.meshgrid(*np.transpose(field.grid.box)), axis=-1).reshape(-1, 3)
    pose = camera.camera_to_world[0]
    depth = (pose[:3, 3] - corners) @ pose[:3, 2]
    near = max(float(depth.min()), 0.0)
    return near, max(float(depth.max()), near + 1e-6)


class Viewer:
    """A server that shows fields in browsers until it is closed.

    Args:
        fields: by the names under which a page offers them; at least one.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        size: height of a full picture in pixels.

    Raises:
        UserError: viser is not installed, or the address cannot be listened on.
    """

    def __init__(
        self, fields: Mapping[str, RadianceField], host: str = "127.0.0.1", port: int = 8080, size: int = 256
    ) -> None:
        try:
            import viser
        except ImportError as error:
            raise UserError("The viewer needs viser: pip install 'piva-bench[viewer]'") from error
        self._fields, self._size = fields, size
        self._pages: dict[int, _Page] = {}
        self._lock = threading.Lock()
        port = _free_port(host, port)
        # viser greets in a box of its own; the command says the same in a line.
        with contextlib.redirect_stdout(io.StringIO()):
            self._server = viser.ViserServer(host=host, port=port, label="piva-bench", verbose=False)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        """What to open in a browser."""
        if self._server.get_port() != port:  # taken between the check and now: viser goes on to the next
            self.close()
            raise _in_use(host, port)
        self._modern = hasattr(self._server, "initial_camera")  # viser 1.0.18 on
        if self._modern:
            self._place(self._server.initial_camera)  # where "Reset View" leads, too
            # Sharing leads through a server elsewhere. Of 0.2.7 the page breaks if the button is taken away.
            self._server.gui.configure_theme(show_share_button=False)
        self._server.on_client_connect(self._connect)
        self._server.on_client_disconnect(self._disconnect)

    def _place(self, camera: Any) -> None:
        """Puts a camera of viser's before the fields, as far away as the rig stands from an object of its size."""
        low, high = np.array(next(iter(self._fields.values())).grid.box)
        distance = RIG.distance * (high - low).max() / RIG.edge
        angle = np.radians(ELEVATION)
        middle = (low + high) / 2
        camera.position = tuple((middle + distance * np.array([0, -np.cos(angle), np.sin(angle)])).tolist())
        camera.look_at = tuple(middle.tolist())
        camera.fov = float(np.radians(RIG.fov))

    def _connect(self, client: viser.ClientHandle) -> None:
        if not self._modern:
            self._place(client.camera)
        page = _Page(client, self._fields, self._size, self._lock)
        self._pages[client.client_id] = page
        page.start()

    def _disconnect(self, client: viser.ClientHandle) -> None:
        if page := self._pages.pop(client.client_id, None):
            page.close()

    def close(self) -> None:
        """Ends the server and what it renders."""
        while self._pages:
            self._pages.popitem()[1].close()
        self._server.stop()


class _Page(threading.Thread):
    """One open page: its choices, and the thread that renders for it.

    Args:
        client: viser's side of it.
        fields: by name.
        size: height of a full picture.
        lock: held while rendering; pages take turns.
    """

    def __init__(
        self, client: viser.ClientHandle, fields: Mapping[str, RadianceField], size: int, lock: threading.Lock
    ) -> None:
        super().__init__(daemon=True, name=f"page {client.client_id}")
        self._client, self._fields, self._size, self._lock = client, fields, size, lock
        self._changed = threading.Event()
        self._changed.set()
        self._open = True
        self._speed = 1e5
        """Rays a second, of the last picture; at first that of a slow processor."""
        self._field = client.gui.add_dropdown("Field", tuple(fields))
        self._show = client.gui.add_dropdown("Show", tuple(show.value for show in Show))
        self._field.on_update(self._touch)
        self._show.on_update(self._touch)
        client.camera.on_update(self._touch)

    def _touch(self, _: object) -> None:
        # Called in viser's event loop or pool, many times a second: only takes note.
        self._changed.set()

    def run(self) -> None:
        """Sends a coarse picture after each change, the full one when nothing has changed for a while."""
        still = False
        while True:
            moved = self._changed.wait(None if still else REST)
            if not self._open:
                return
            if moved:
                self._changed.clear()
                coarse = int((self._speed * MOVING / self._aspect()) ** 0.5)
                self._send(min(max(coarse, FEWEST), self._size), MOVING_QUALITY)
                still = False
            else:
                still = self._send(self._size, STILL_QUALITY, self._changed.is_set)

    def _aspect(self) -> float:
        """Of the window; 1 where that has no height or no width to show anything in."""
        try:
            aspect = float(self._client.camera.aspect)
        except ZeroDivisionError:
            return 1.0
        return aspect if 0 < aspect < np.inf else 1.0

    def _send(self, height: int, quality: int, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Renders and sends a picture; false if it was stopped."""
        camera = self._client.camera
        view = browser_camera(camera.wxyz, camera.position, camera.fov, self._aspect(), height)
        with self._lock:
            start = time.monotonic()
            image = picture(self._fields[self._field.value], view, Show(self._show.value), stopped)
            seconds = time.monotonic() - start
        if image is None:
            return False
        self._speed = view.width * view.height / max(seconds, 1e-3)
        if self._open:
            self._client.scene.set_background_image(image, format="jpeg", jpeg_quality=quality)
        return True

    def close(self) -> None:
        """Ends the thread after the picture it is at."""
        self._open = False
        self._changed.set()


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0, if it can be listened on.

    viser itself tries the ports above instead, and waits for ever if no port will do.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(host, port) from error
        reason = error.strerror or str(error)
        raise UserError(
            f"Cannot listen on {host}, port {port} ({reason}): give another --host or --port."
        ) from error


def _in_use(host: str, port: int) -> UserError:
    return UserError(f"Port {port} of {host} is in use: give another with --port, or 0 for any that is free.")
