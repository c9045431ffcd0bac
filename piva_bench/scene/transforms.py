"""Reads and writes posed views as NeRF-synthetic folders and as nerfstudio captures.

NeRF-synthetic (`load_blender.py` of nerf-pytorch): ``transforms_{train,val,test}.json`` with one
``camera_angle_x`` (radians, horizontal), ``file_path`` without extension, RGBA pictures. nerfstudio: one
``transforms.json`` with ``fl_x fl_y cx cy w h`` for all frames or for each, ``file_path`` with extension, optional
``mask_path``, ``depth_file_path`` (16-bit thousandths of a unit, or ``.npy``) and ``{split}_filenames``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from piva_bench.errors import DataError
from piva_bench.files import safe_join
from piva_bench.scene.cameras import Cameras
from piva_bench.scene.views import PosedViews

DEPTH_UNIT = 1e-3
"""World units a level of a 16-bit depth picture, nerfstudio's default."""

DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
SUFFIXES = ("", ".png", ".jpg")
"""What a picture's name may lack."""
PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE")


def read_views(path: Path, split: str | None = None) -> PosedViews:
    """The views of a scene's folder or of one transforms file.

    Args:
        path: a folder of either format, or a transforms file.
        split: which part of a scene that has several ("train", "val", "test"); by default "train" of a
            NeRF-synthetic folder and all frames of a capture.

    Raises:
        DataError: a file is missing or damaged, a pose is not finite, pictures differ in size; in one line.
    """
    file = _transforms_file(path, split)
    meta = _read_json(file)
    frames = meta.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise DataError(f"{file}: `frames` is not a list of frames")
    listed = meta.get(f"{split or ''}_filenames")
    if file.name == "transforms.json" and split and isinstance(listed, list):
        frames = [frame for frame in frames if frame.get("file_path") in listed]
    elif file.name == "transforms.json" and split:
        raise DataError(f"{file} names no split {split!r}; leave the split out to read all frames")
    if not frames:
        raise DataError(f"{file} holds no frame{f' of the split {split!r}' if split else ''}")
    views = [_Frame(file, number, frame, meta) for number, frame in enumerate(frames)]
    images = [view.image() for view in views]
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        listed_sizes = ", ".join(f"{w}x{h}" for h, w in sorted(sizes))
        raise DataError(f"{file}: pictures of several sizes ({listed_sizes}); bring them to one")
    height, width = images[0].shape[:2]
    depths = [view.depth(height, width) for view in views]
    having = [depth for depth in depths if depth is not None]
    if having and len(having) < len(depths):
        raise DataError(f"{file}: {len(depths) - len(having)} of {len(depths)} frames have no depth")
    try:
        cameras = Cameras(
            np.stack([view.pose() for view in views]),
            np.stack([view.intrinsics(height, width) for view in views]),
            width,
            height,
        )
        names = tuple(view.name for view in views)
        return PosedViews(np.stack(images), cameras, np.stack(having) if having else None, names)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def capture_files(path: Path, split: str | None = None) -> list[Path]:
    """The files that `read_views` reads, the transforms first, looked at without decoding a picture.

    Raises:
        DataError: a file is missing, a pose is no finite rigid motion; in one line.
    """
    file = _transforms_file(path, split)
    meta = _read_json(file)
    frames = meta.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise DataError(f"{file}: `frames` is not a list of frames")
    views = [_Frame(file, number, frame, meta) for number, frame in enumerate(frames)]
    try:
        Cameras(np.stack([view.pose() for view in views]), np.ones((len(views), 4)), 1, 1)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    return [file, *(found for view in views for found in view.files())]


def write_nerf_synthetic(views: PosedViews, folder: Path, split: str = "train") -> Path:
    """Writes the views as one split of a NeRF-synthetic scene; returns the transforms file.

    Raises:
        DataError: cameras that the format cannot hold (different lenses, a shifted principal point).
    """
    cameras = views.cameras
    focal = cameras.intrinsics[0, 0]
    plain = [focal, focal, cameras.width / 2, cameras.height / 2]
    if not np.allclose(cameras.intrinsics, plain, rtol=1e-5):
        raise DataError(
            "NeRF-synthetic has one centred lens for all views; write a nerfstudio capture instead"
        )
    meta: dict[str, Any] = {
        "camera_angle_x": 2 * math.atan(0.5 * cameras.width / float(focal)),
        "width": cameras.width,
        "height": cameras.height,
    }
    return _write(views, folder, f"transforms_{split}.json", split, meta, lens=False)


def write_nerfstudio(views: PosedViews, folder: Path) -> Path:
    """Writes the views as a nerfstudio capture, a lens for every frame; returns the transforms file."""
    meta = {"camera_model": "OPENCV", "w": views.cameras.width, "h": views.cameras.height}
    return _write(views, folder, "transforms.json", "images", meta, lens=True)


def _write(
    views: PosedViews, folder: Path, file: str, pictures: str, meta: dict[str, Any], *, lens: bool
) -> Path:
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    frames = []
    for index in range(len(views)):
        name = f"{pictures}/{index:03d}"
        Image.fromarray(views.images[index]).save(folder / f"{name}.png")
        frame: dict[str, Any] = {"file_path": f"{name}.png" if lens else f"./{name}"}
        if lens:
            fx, fy, cx, cy = views.cameras.intrinsics[index].tolist()
            frame |= {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
        if views.depth is not None:
            frame["depth_file_path"] = f"{name}_depth.png"
            levels = np.rint(views.depth[index] / DEPTH_UNIT)
            if levels.max() > 65535:
                raise DataError(
                    f"depth beyond {65535 * DEPTH_UNIT:g} units does not fit the format's 16 bits"
                )
            Image.fromarray(levels.astype(np.uint16)).save(folder / frame["depth_file_path"])
        frame["transform_matrix"] = views.cameras.camera_to_world[index].tolist()
        frames.append(frame)
    path = folder / file
    path.write_text(json.dumps({**meta, "frames": frames}, indent=1) + "\n")
    return path


def _transforms_file(path: Path, split: str | None) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist: give a scene's folder or its transforms file")
    wanted = path / f"transforms_{split or 'train'}.json"
    capture = path / "transforms.json"
    for file in (wanted, capture):
        if file.is_file():
            return file
    raise DataError(f"{path} holds neither {wanted.name} (NeRF-synthetic) nor transforms.json (nerfstudio)")


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(meta, dict):
        raise DataError(f"{file} is no transforms file: an object was expected")
    return meta


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


class _Frame:
    """One frame of a transforms file, with the file's values where it has none of its own."""

    def __init__(self, file: Path, number: int, frame: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        self.file, self.number, self.values = file, number, {**meta, **frame}
        path = frame.get("file_path")
        if not isinstance(path, str):
            raise self._error("has no file_path")
        self.name = path.removeprefix("./")

    def _error(self, fault: str) -> DataError:
        return DataError(f"{self.file}: frame {self.number} {fault}")

    def pose(self) -> npt.NDArray[np.float64]:
        try:
            pose = np.array(self.values.get("transform_matrix"), dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            pose = np.zeros(0)
        if pose.shape != (4, 4):
            raise self._error("has no 4x4 transform_matrix of numbers")
        return pose

    def intrinsics(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """Focal lengths and principal point in pixels of the picture as it is on disk."""
        bent = [key for key in DISTORTION if _is_number(k := self.values.get(key)) and abs(k) > 1e-9]
        model = self.values.get("camera_model", "OPENCV")
        if bent or model not in PINHOLES:
            raise self._error(
                f"has a distorting lens ({', '.join(bent) or model}): undistort the pictures first"
            )
        value = {
            key: v for key in ("fl_x", "fl_y", "cx", "cy", "w", "h") if _is_number(v := self.values.get(key))
        }
        # Intrinsics belong to the size they name; the pictures may have been scaled since.
        x, y = width / (value.get("w") or width), height / (value.get("h") or height)
        if "fl_x" in value:
            fx = value["fl_x"] * x
            fy = value.get("fl_y", value["fl_x"]) * y
        else:
            angle = self.values.get("camera_angle_x")
            if not _is_number(angle) or not 0 < angle < math.pi:
                raise self._error("has neither fl_x nor a camera_angle_x between 0 and pi")
            fx = fy = 0.5 * width / math.tan(0.5 * angle)
        centre = value.get("cx", width / 2 / x) * x, value.get("cy", height / 2 / y) * y
        return np.array([fx, fy, *centre])

    def _find(self, name: object, suffixes: Sequence[str] = ("",)) -> Path:
        try:
            path = safe_join(self.file.parent, str(name))
        except ValueError as error:
            raise self._error(f"names the file {name!r}, which {error}") from error
        for suffix in suffixes:
            candidate = path.with_name(path.name + suffix)
            try:
                if candidate.is_file():
                    return candidate
            except OSError:  # a name too long for the file system
                break
        raise self._error(f"names {path}, which is missing")

    def _open(self, path: Path) -> Image.Image:
        try:
            with Image.open(path) as image:
                image.load()
                return image
        except (
            OSError,
            UnidentifiedImageError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            raise self._error(f"names {path}, which is no readable picture: {error}") from error

    def files(self) -> list[Path]:
        """Picture, mask and depth, as far as it has them."""
        others = [name for key in ("mask_path", "depth_file_path") if (name := self.values.get(key))]
        return [self._find(self.name, SUFFIXES), *map(self._find, others)]

    def image(self) -> npt.NDArray[np.uint8]:
        pixels = np.array(self._open(self._find(self.name, SUFFIXES)).convert("RGBA"))
        if mask := self.values.get("mask_path"):
            shown = np.array(self._open(self._find(mask)).convert("L"))
            if shown.shape != pixels.shape[:2]:
                raise self._error(f"has a mask of another size than its picture: {mask}")
            pixels[..., 3] = np.minimum(pixels[..., 3], np.where(shown > 127, 255, 0))
        return pixels

    def depth(self, height: int, width: int) -> npt.NDArray[np.float32] | None:
        name = self.values.get("depth_file_path")
        if not name:
            return None
        path = self._find(name)
        if path.suffix == ".npy":
            try:
                levels = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise self._error(f"names {path}, which is no array: {error}") from error
        else:
            levels = np.array(self._open(path))
        if levels.shape != (height, width):
            raise self._error(f"has depth of another size than its picture: {name}")
        unit = self.values.get("depth_unit_scale_factor", DEPTH_UNIT)
        if not _is_number(unit):
            raise self._error(f"has a depth_unit_scale_factor that is no number: {unit!r}")
        return (levels * float(unit)).astype(np.float32)
