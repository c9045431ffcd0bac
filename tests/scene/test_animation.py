import sys

import numpy as np
import pytest
from PIL import Image

from piva_bench.errors import UserError
from piva_bench.scene.animation import LABEL, side_by_side, write_turntable


def turning(shade, count=12, size=64):
    frames = np.full((count, size, size, 3), 255, np.uint8)
    for index in range(count):
        frames[index, 20:40, 4 * index : 4 * index + 10] = shade
    return frames


COLUMNS = {
    "source": turning((200, 30, 30)),
    "an edit with a name that is far too long": turning((20, 40, 220)),
}


def test_columns_lie_side_by_side_enlarged_with_names_above():
    frames = side_by_side(COLUMNS)
    assert frames.shape == (12, 3 * 64 + LABEL, 2 * 3 * 64, 3)
    assert np.array_equal(frames[3, LABEL::3, : 3 * 64 : 3], COLUMNS["source"][3])
    assert np.array_equal(frames[3, LABEL + 1 :: 3, 3 * 64 + 2 :: 3], list(COLUMNS.values())[1][3])
    for half in (frames[0, :LABEL, :192], frames[0, :LABEL, 192:]):
        assert (half < 128).any()


def test_a_gif_keeps_frames_colours_and_time(tmp_path):
    path = write_turntable(tmp_path / "new" / "turn.gif", COLUMNS, seconds=1.2)
    expected = side_by_side(COLUMNS)
    with Image.open(path) as gif:
        assert gif.n_frames == 12
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 100
        for index in (0, 7):
            gif.seek(index)
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - expected[index]).mean() < 2


def test_an_mp4_keeps_frames_and_colours(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = write_turntable(tmp_path / "turn.mp4", COLUMNS, seconds=1.0)
    reader = ffmpeg.read_frames(str(path))
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(*meta["size"][::-1], 3) for frame in reader]
    assert len(frames) == 12
    expected = side_by_side(COLUMNS)
    assert np.abs(frames[7].astype(int) - expected[7]).mean() < 6


def test_no_encoder_other_suffixes_and_unequal_columns_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"piva-bench\[video\]"):
        write_turntable(tmp_path / "turn.mp4", COLUMNS)
    with pytest.raises(UserError, match="not '.avi'"):
        write_turntable(tmp_path / "turn.avi", COLUMNS)
    for columns in ({}, {"a": turning(0), "b": turning(0, count=3)}, {"a": turning(0, count=0)}):
        with pytest.raises(UserError, match="columns"):
            write_turntable(tmp_path / "turn.gif", columns)
