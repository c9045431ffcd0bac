"""One frame of a transforms file: its picture, mask and depth on the disk, its pose and its lens."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.files import safe_join
from piva_bench.mask_reader import to_mask
from piva_bench.picture_reader import decode, is_turned, reading_mark, to_rgba
from piva_bench.scene.lens import Lens, read_lens

DEPTH_UNIT = 1e-3
"""World units a level of a 16-bit depth picture, nerfstudio's default."""

SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif")
"""What a picture's name may lack, in any case."""

Note = Callable[[str], None]


class CaptureFrame:
    """One frame of a transforms file, with the file's values where it has none of its own.

    Args:
        file: the transforms file; pictures lie below its folder.
        number: of the frame, from 0.
        frame: its values.
        meta: those of the file.
        note: told what a user should know of how it is read.

    Raises:
        DataError: it names no picture.
    """

    def __init__(
        self, file: Path, number: int, frame: Mapping[str, Any], meta: Mapping[str, Any], note: Note
    ) -> None:
        self.file, self.number, self.values, self._note = file, number, {**meta, **frame}, note
        path = frame.get("file_path")
        if not isinstance(path, str):
            raise self.fault("has no file_path")
        self.name = path.removeprefix("./")

    def fault(self, what: str) -> DataError:
        """The error that says what is wrong with this frame."""
        return DataError(f"{self.file}: frame {self.number} {what}")

    def pose(self) -> npt.NDArray[np.float64]:
        """Camera to world [4, 4].

        Raises:
            DataError: it is none.
        """
        try:
            pose = np.array(self.values.get("transform_matrix"), dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            pose = np.zeros(0)
        if pose.shape == (3, 4):  # the last row says nothing
            pose = np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
        if pose.shape != (4, 4):
            raise self.fault("has no 4x4 transform_matrix of numbers")
        return pose

    def lens(self) -> Lens:
        """For its picture as it is on disk.

        Raises:
            DataError: see `read_lens`; the picture is no picture.
        """
        width, height = self.size()
        try:
            return read_lens(self.values, self._number, width, height)
        except DataError as error:
            raise self.fault(str(error)) from error

    def _number(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, bool | list | dict) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) < 1e9:
            raise DataError(f"has a {key} that is no number of a camera: {value!r:.40}")
        return number

    def files(self) -> list[Path]:
        """Picture, mask and depth, as far as it has them.

        Raises:
            DataError: one is missing or lies elsewhere.
        """
        others = [name for key in ("mask_path", "depth_file_path") if (name := self.values.get(key))]
        return [self._picture(), *map(self._find, others)]

    def size(self) -> tuple[int, int]:
        """Width and height of the picture, without decoding it.

        Raises:
            DataError: it is missing or no picture.
        """
        path = self._picture()
        try:
            with Image.open(path) as image:
                return image.size
        except Exception:  # whatever Pillow meets; the reader says it in words
            return self._open(path).size

    def image(self) -> npt.NDArray[np.uint8]:
        """The picture as a pinhole takes it, uint8 [H, W, 4], its mask as alpha.

        Raises:
            DataError: picture or mask cannot be read.
        """
        opened = self._open(self._picture())
        self._refuse_turned(opened)
        try:
            pixels = np.array(to_rgba(opened)[0])
        except DataError as error:
            raise self.fault(f"names a picture that cannot be used: {error}") from error
        if name := self.values.get("mask_path"):
            mask = self._open(self._find(name))
            self._refuse_turned(mask)
            try:
                shown = to_mask(mask)
            except DataError as error:
                raise self.fault(f"names a mask that cannot be used: {error}") from error
            if shown.shape != pixels.shape[:2]:
                raise self.fault(f"has a mask of another size than its picture: {name}")
            pixels[..., 3] = np.minimum(pixels[..., 3], np.where(shown, 255, 0))
        return np.asarray(self.lens().undistorted(pixels), np.uint8)

    def depth(self) -> npt.NDArray[np.float32] | None:
        """Its depth in world units, float32 [H, W], if it has one.

        Raises:
            DataError: it cannot be read or is of another size.
        """
        name = self.values.get("depth_file_path")
        if not name:
            return None
        path = self._find(name)
        if path.suffix == ".npy":
            try:
                levels = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise self.fault(f"names {path}, which is no array: {error}") from error
        else:
            levels = np.array(self._open(path))
        width, height = self.size()
        if levels.shape != (height, width):
            raise self.fault(f"has depth of another size than its picture: {name}")
        unit = self.values.get("depth_unit_scale_factor", DEPTH_UNIT)
        if isinstance(unit, bool) or not isinstance(unit, int | float) or not abs(unit) < 1e300:
            raise self.fault(f"has a depth_unit_scale_factor that is no number: {unit!r}")
        return self.lens().undistorted((levels * float(unit)).astype(np.float32))

    def marks(self) -> str:
        """What a fingerprint over files' bytes adds for this frame; see `reading_mark`."""
        mark = reading_mark(self._picture().read_bytes(), "RGBA")
        if name := self.values.get("mask_path"):
            try:
                image = self._open(self._find(name))
                plain = np.array(image.convert("L")) > 127
                mark += "" if np.array_equal(to_mask(image), plain) else " mask"
            except (DataError, ValueError, OSError):
                pass  # whoever reads it is told
        return mark

    def _refuse_turned(self, image: Image.Image) -> None:
        if is_turned(image):
            raise self.fault(
                f"names {image.filename}, which an EXIF tag turns"  # type: ignore[attr-defined]
                ": nobody knows whether its camera was computed with it turned or not. COLMAP passes the tag over: if "
                "it was COLMAP, remove the tag (`exiftool -Orientation= -overwrite_original`); else turn the pixels"
            )

    def _open(self, path: Path) -> Image.Image:
        try:
            return decode(path.read_bytes(), str(path))
        except (DataError, OSError) as error:
            raise self.fault(f"names {path}, which is no readable picture: {error}") from error

    def _picture(self) -> Path:
        return self._find(self.name, SUFFIXES)

    def _find(self, name: object, suffixes: Sequence[str] = ("",)) -> Path:
        folder = self.file.parent
        for inside in self._below(str(name)):
            try:
                path = safe_join(folder, inside)
            except ValueError as error:
                raise self.fault(f"names the file {name!r}, which {error}") from error
            try:
                if found := on_disk(path, suffixes):
                    return found
            except OSError:  # a name too long for the file system
                break
        raise self.fault(f"names {folder / str(name)}, which is missing")

    def _below(self, name: str) -> list[str]:
        """How the name may be meant as a path below the capture's folder, which it never leaves."""
        written = name.replace("\\", "/")
        if written.startswith("/") or re.match(r"[A-Za-z]:/", written):
            parts = [part for part in re.sub("^[A-Za-z]:", "", written).split("/") if part not in ("", ".")]
            if ".." not in parts:
                self._note(
                    f"{self.file}: absolute paths are of the machine that wrote them: their ends are looked for below "
                    f"{self.file.parent}"
                )
                return ["/".join(parts[first:]) for first in range(len(parts))]
        if ".." not in written.split("/"):
            return [written]
        base = os.path.abspath(self.file.parent)  # noqa: PTH100 - Path has no lexical form of this
        end = os.path.relpath(os.path.normpath(os.path.join(base, written)), base)  # noqa: PTH118
        if end.startswith(".."):
            raise self.fault(
                f"names the file {name!r}, which is outside the capture's folder {self.file.parent} and not read: "
                "move the transforms file to a folder above its pictures, and shorten the paths in it"
            )
        return [end]


def on_disk(path: Path, suffixes: Sequence[str]) -> Path | None:
    """The file of that name with one of the suffixes; else the only one that differs in case or accents' spelling."""
    for suffix in suffixes:
        candidate = path.with_name(path.name + suffix)
        if candidate.is_file():
            return candidate
    if not path.parent.is_dir():
        return None
    wanted = [_folded(path.name + suffix) for suffix in suffixes]
    alike = [other for other in path.parent.iterdir() if _folded(other.name) in wanted and other.is_file()]
    return alike[0] if len(alike) == 1 else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
