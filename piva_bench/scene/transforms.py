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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.scene.cameras import Cameras
from piva_bench.scene.capture_frame import DEPTH_UNIT, CaptureFrame, Note
from piva_bench.scene.lens import SMALLEST_SHIFT
from piva_bench.scene.views import PosedViews


@dataclass(frozen=True)
class Capture:
    """A transforms file that has been looked through, no picture of it decoded yet.

    Attributes:
        file: the transforms file.
        frames: each picture once.
        cameras: theirs.
    """

    file: Path
    frames: tuple[CaptureFrame, ...]
    cameras: Cameras

    def files(self) -> list[Path]:
        """The files that its views are read from, the transforms first."""
        return [self.file, *(found for frame in self.frames for found in frame.files())]

    def views(self, only: Sequence[int] | None = None) -> PosedViews:
        """Its views, or some of them.

        Raises:
            DataError: a picture, mask or depth cannot be read; in one line.
        """
        numbers = range(len(self.frames)) if only is None else only
        frames = [self.frames[number] for number in numbers]
        images = [frame.image() for frame in frames]
        depths = [frame.depth() for frame in frames]
        having = [depth for depth in depths if depth is not None]
        if having and len(having) < len(depths):
            raise DataError(f"{self.file}: {len(depths) - len(having)} of {len(depths)} frames have no depth")
        names = tuple(frame.name for frame in frames)
        try:
            cameras = self.cameras[np.array(numbers)]
            return PosedViews(np.stack(images), cameras, np.stack(having) if having else None, names)
        except DataError as error:
            raise DataError(f"{self.file}: {error}") from error


def open_transforms(path: Path, split: str | None = None, note: Note = lambda line: None) -> Capture:
    """Looks a scene's folder or one transforms file through.

    Args:
        path: a folder of either format, or a transforms file.
        split: which part of a scene that has several ("train", "val", "test"); by default "train" of a
            NeRF-synthetic folder and all frames of a capture.
        note: told what a user should know of how it is read, in one line each.

    Raises:
        DataError: a file is missing or damaged, a pose is not finite, a lens is unusable, pictures differ in size;
            in one line.
    """
    file = _transforms_file(path, split)
    meta = _read_json(file)
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            note(line)

    frames = _unique(
        [CaptureFrame(file, number, frame, meta, once) for number, frame in _listed(file, meta, split)], once
    )
    sizes = {frame.size() for frame in frames}
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise DataError(f"{file}: pictures of several sizes ({listed}); bring them to one")
    ((width, height),) = sizes
    lenses = [frame.lens() for frame in frames]
    poses = np.stack([frame.pose() for frame in frames])
    try:
        cameras = Cameras(poses, np.array([lens.intrinsics for lens in lenses]), width, height)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    shift = max(lens.shift for lens in lenses)
    if shift >= SMALLEST_SHIFT:
        once(f"{file}: the lens's distortion is taken out of the pictures (up to {shift:.1f} px)")
    return Capture(file, tuple(frames), cameras)


def read_views(path: Path, split: str | None = None) -> PosedViews:
    """The views of a scene's folder or of one transforms file; see `open_transforms`.

    Raises:
        DataError: in one line.
    """
    return open_transforms(path, split).views()


def _listed(file: Path, meta: Mapping[str, Any], split: str | None) -> list[tuple[int, Mapping[str, Any]]]:
    """Numbers and values of the frames of a split."""
    frames = meta.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise DataError(f"{file}: `frames` is not a list of frames")
    numbered = list(enumerate(frames))
    names = meta.get(f"{split or ''}_filenames")
    if file.name == "transforms.json" and split and isinstance(names, list):
        numbered = [(number, frame) for number, frame in numbered if frame.get("file_path") in names]
    elif file.name == "transforms.json" and split:
        raise DataError(f"{file} names no split {split!r}; leave the split out to read all frames")
    if not numbered:
        raise DataError(f"{file} holds no frame{f' of the split {split!r}' if split else ''}")
    return numbered


def _unique(frames: Sequence[CaptureFrame], note: Note) -> list[CaptureFrame]:
    """Each picture once: a frame that repeats another is left out."""
    first: dict[str, CaptureFrame] = {}
    repeated = []
    for frame in frames:
        before = first.setdefault(frame.name, frame)
        if before is frame:
            continue
        if not np.array_equal(before.pose(), frame.pose()):
            raise frame.fault(
                f"names {frame.name}, as frame {before.number} does, with another pose: keep one"
            )
        repeated.append(frame.name)
    if repeated:
        note(
            f"{frames[0].file}: {len(repeated)} of {len(frames)} frames repeat others and are left out "
            f"({repeated[0]}{', ...' if len(repeated) > 1 else ''})"
        )
    return list(first.values())


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
    others = sorted(other.name for other in path.glob("transforms*.json"))
    colmap = any((path / name).exists() for name in ("sparse", "colmap", "cameras.bin", "cameras.txt"))
    raise DataError(
        f"{path} holds neither {wanted.name} (NeRF-synthetic) nor transforms.json (nerfstudio)"
        + (f"; name {others[0]} itself to read that" if others else "")
        + ("; of COLMAP's files nerfstudio's `ns-process-data` makes a transforms.json" if colmap else "")
    )


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        meta = json.loads(file.read_bytes())  # in UTF-8, -16 or -32, with or without a byte order mark
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(meta, dict):
        raise DataError(f"{file} is no transforms file: an object was expected")
    return meta
