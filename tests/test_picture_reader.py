"""Pictures of every kind that people have: the right pixels, or one line."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from piva_bench.errors import DataError
from piva_bench.paths import data_root
from piva_bench.picture_reader import decode, follows_profile, is_turned, reading_mark, to_rgb, to_rgba

RAMP = np.stack(
    [*np.meshgrid(np.linspace(0, 255, 12), np.linspace(255, 0, 8)), np.full((8, 12), 90.0)], axis=-1
).astype(np.uint8)


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return buffer.getvalue()


def read(data):
    image, notes = to_rgb(decode(data, "x"))
    assert image.mode == "RGB"
    return np.asarray(image), notes


def tagged(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


GREY = np.linspace(0, 65535, 96).reshape(8, 12)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_are_scaled(kind):
    image = Image.fromarray(GREY.astype(np.uint16))
    pixels, notes = read(saved(image, format=kind))
    assert np.abs(pixels - (GREY / 257)[..., None]).max() <= (1 if kind != "JPEG2000" else 3)
    assert notes[0] == "reduced to 8 bits"


def png(bits, kind, rows, *chunks):
    """A PNG file by hand: bit depth, colour type, raw rows, further chunks."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(
        ">IIBBBBB", len(rows[0]) // {0: 1, 2: 3, 4: 2, 6: 4}[kind], len(rows), bits, kind, 0, 0, 0
    )
    raw = b"".join(b"\0" + np.asarray(row, ">u2" if bits == 16 else np.uint8).tobytes() for row in rows)
    body = b"".join(chunk(*each) for each in chunks)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + body
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bits_in_colour_with_alpha_and_with_a_transparent_level():
    colour = [[65535, 0, 257 * 40, 257 * 7, 257 * 8, 257 * 9]]
    assert read(png(16, 2, colour))[0].tolist() == [[[255, 0, 40], [7, 8, 9]]]
    grey_alpha = [[257 * 100, 65535, 257 * 100, 0]]
    assert read(png(16, 4, grey_alpha))[0].tolist() == [[[100] * 3, [255] * 3]]
    grey = [[257 * 100, 257 * 200]]
    pixels, notes = read(png(16, 0, grey, (b"tRNS", struct.pack(">H", 257 * 100))))
    assert pixels.tolist() == [[[255] * 3, [200] * 3]]
    assert "laid on white where transparent" in notes


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (Image.fromarray((GREY / 65535 * 5).astype(np.float32)), "floating-point values"),
        (Image.fromarray((GREY / 65535 * 255).astype(np.float32)), "floating-point values"),
        (Image.fromarray((GREY / 65535 - 0.5).astype(np.float32)), "floating-point values"),
        (Image.fromarray(np.full((8, 8), np.nan, np.float32)), "floating-point values"),
        (Image.fromarray((GREY * 30000).astype(np.int32)), "integers of 32 bits"),
        (Image.fromarray((GREY / 257).astype(np.int32)), "integers of 32 bits"),
        (Image.fromarray((GREY / 16).astype(np.uint16)), "16-bit values that end at 4095"),
        (Image.fromarray((GREY / 4.001).astype(np.uint16)), "16-bit values that end at"),
        (Image.fromarray((GREY / 257).astype(np.uint16)), "16-bit values that end at 255"),
    ],
)
def test_values_without_a_known_white_are_refused(image, line):
    with pytest.raises(DataError, match=f"x has {line}"):
        read(saved(image, format="TIFF"))
    with pytest.raises(DataError, match=f"the picture has {line}"):
        to_rgb(image)


def test_floating_point_from_0_to_1_and_black_are_read():
    pixels, _ = read(saved(Image.fromarray((GREY / 65535).astype(np.float32)), format="TIFF"))
    assert np.abs(pixels - (GREY / 257)[..., None]).max() <= 1
    assert not read(saved(Image.fromarray(np.zeros((4, 4), np.uint16))))[0].any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tags_are_followed(kind, orientation):
    # As the EXIF standard defines them: where the stored picture's first row and column belong.
    turned = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p),
    }[orientation]
    data = saved(Image.fromarray(RAMP), format=kind, exif=tagged(orientation), quality=100, lossless=True)
    pixels, notes = read(data)
    plain = read(saved(Image.fromarray(RAMP), format=kind, quality=100, lossless=True))[0]
    assert np.array_equal(pixels, turned(plain))
    assert ("turned upright by its EXIF tag" in notes) == (orientation > 1) == is_turned(decode(data, "x"))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_turn_nothing(orientation):
    pixels, notes = read(saved(Image.fromarray(RAMP), exif=tagged(orientation)))
    assert np.array_equal(pixels, RAMP)
    assert notes == []


def test_a_turned_picture_of_sixteen_bits():
    pixels, _ = read(saved(Image.fromarray(GREY.astype(np.uint16)), exif=tagged(6)))
    assert np.abs(pixels[..., 0] - np.rot90(GREY / 257, -1)).max() <= 1


def test_transparency_is_laid_on_white_in_every_mode():
    rgba = np.zeros((4, 8, 4), np.uint8)
    rgba[:, :4] = (255, 0, 0, 255)
    rgba[:, 6:] = (0, 0, 200, 128)
    expected = rgba[..., :3] * (rgba[..., 3:] / 255) + 255 - rgba[..., 3:]
    for kind in ("PNG", "WEBP", "TIFF"):
        pixels, notes = read(saved(Image.fromarray(rgba), format=kind, lossless=True))
        assert np.abs(pixels - expected).max() <= 1
        assert notes == ["laid on white where transparent"]
    grey = Image.fromarray(rgba[..., :3]).convert("L")
    keyed = saved(grey, transparency=0)
    assert read(keyed)[0][0, 5].tolist() == [255] * 3
    palette = saved(Image.fromarray(rgba[..., :3]).convert("P"), transparency=0)
    assert "laid on white where transparent" in read(palette)[1]
    colour_key = saved(Image.fromarray(rgba[..., :3]), transparency=(0, 0, 0))
    assert read(colour_key)[0][0, 5].tolist() == [255] * 3
    kept, _ = to_rgba(decode(saved(Image.fromarray(rgba)), "x"))
    assert np.array_equal(np.asarray(kept), rgba)


def swapped_profile():
    """A profile whose red and green are exchanged, made by hand of Little CMS's sRGB."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    for place in range(132, 132 + 12 * count, 12):
        name = bytes(data[place : place + 4])
        if name in (b"rXYZ", b"gXYZ"):
            data[place : place + 4] = b"gXYZ" if name == b"rXYZ" else b"rXYZ"
    return bytes(data)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_colour_profiles_are_followed():
    data = saved(Image.fromarray(RAMP), icc_profile=swapped_profile())
    pixels, notes = read(data)
    assert np.abs(pixels.astype(int) - RAMP[..., [1, 0, 2]]).max() <= 2
    assert notes == ["converted to sRGB by its colour profile"]
    assert follows_profile(data)
    # Transparency stays where it was.
    rgba = np.dstack([RAMP, np.arange(96).reshape(8, 12).astype(np.uint8)])
    kept = np.asarray(to_rgba(decode(saved(Image.fromarray(rgba), icc_profile=swapped_profile()), "x"))[0])
    assert np.array_equal(kept[..., 3], rgba[..., 3])
    assert np.abs(kept[..., :3].astype(int) - RAMP[..., [1, 0, 2]]).max() <= 2
    # Palettes carry profiles of the colours they stand for; textures of glTF have none.
    palette = saved(Image.fromarray(RAMP).convert("P"), icc_profile=swapped_profile())
    shown = np.asarray(Image.open(io.BytesIO(palette)).convert("RGB")).astype(int)
    assert np.abs(read(palette)[0] - shown[..., [1, 0, 2]]).max() <= 2
    stored = to_rgba(decode(data, "x"), as_stored=True)[0]
    assert np.array_equal(np.asarray(stored)[..., :3], RAMP)


def test_a_profile_of_srgb_leaves_every_pixel():
    for kind in ("PNG", "JPEG"):
        data = saved(Image.fromarray(RAMP), format=kind, icc_profile=SRGB)
        pixels, notes = read(data)
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))
        assert notes == []
        assert not follows_profile(data)


@pytest.mark.parametrize("profile", [b"nonsense", b"", SRGB[:200], b"\0" * 128])
def test_a_torn_profile_is_passed_over_with_a_note(profile):
    pixels, notes = read(saved(Image.fromarray(RAMP), icc_profile=profile))
    assert np.array_equal(pixels, RAMP)
    assert all("colour profile passed over" in note for note in notes)


def test_a_profile_of_another_kind_is_passed_over_or_meant_for_what_grey_becomes():
    grey = Image.fromarray(RAMP).convert("L")
    pixels, notes = read(saved(grey, icc_profile=swapped_profile()))
    assert np.abs(pixels.astype(int) - np.asarray(grey)[..., None]).max() <= 2
    assert "converted from greyscale" in notes
    cmyk = saved(Image.fromarray(RAMP).convert("CMYK"), format="TIFF", icc_profile=SRGB)
    assert np.abs(read(cmyk)[0].astype(int) - RAMP).max() <= 2


def test_animations_and_bursts_show_their_first_frame():
    frames = [Image.new("RGB", (8, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "MPO"):
        pixels, notes = read(saved(frames[0], format=kind, save_all=True, append_images=frames[1:]))
        assert pixels[0, 0, 0] > 240
        assert pixels[0, 0, 2] < 15
        assert "its first frame taken" in notes


def test_other_modes_become_rgb():
    for mode in ("L", "1", "P", "CMYK", "LAB"):
        source = Image.fromarray(RAMP)
        if mode == "LAB":
            lab = ImageCms.buildTransform(
                ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
            )
            source = ImageCms.applyTransform(source, lab)
        else:
            source = source.convert(mode)
        kind = "TIFF" if mode in ("CMYK", "LAB") else "PNG"
        pixels, _ = read(saved(source, format=kind))
        assert np.abs(pixels.astype(int) - np.asarray(source.convert("RGB"))).max() <= 2
    for mode in ("RGBa", "La"):
        premultiplied = Image.new({"RGBa": "RGBA", "La": "LA"}[mode], (2, 2)).convert(mode)
        assert (np.asarray(to_rgb(premultiplied)[0]) == 255).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "HEIC: save it as JPEG or PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(60), "raw file"),
        (b"hello", "no whole picture"),
        (saved(Image.fromarray(RAMP))[:70], "no whole picture"),
    ],
)
def test_what_is_no_picture_is_one_line_with_the_cure(data, words):
    with pytest.raises(DataError, match=words) as error:
        decode(data, "x.png")
    assert str(error.value).startswith("x.png is no whole picture")
    assert "\n" not in str(error.value)


def test_a_wrong_checksum_is_no_black_picture():
    data = bytearray(saved(Image.fromarray(RAMP)))
    data[data.index(b"IDAT") + 8] ^= 255
    with pytest.raises(DataError, match="no whole picture"):
        read(bytes(data))


def test_the_small_picture_in_a_raw_file_is_not_taken_for_the_picture():
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[50706] = b"\1\4\0\0"  # DNGVersion
    tags.tagtype[50706] = 1
    with pytest.raises(DataError, match="camera's raw file"):
        decode(saved(Image.fromarray(RAMP), format="TIFF", tiffinfo=tags), "x.dng")


def test_large_pictures_say_nothing(recwarn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)
    assert np.array_equal(read(saved(Image.fromarray(RAMP)))[0], RAMP)
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(DataError, match="exceeds limit"):
        read(saved(Image.fromarray(RAMP)))


def test_fingerprints_are_marked_where_a_plain_conversion_shows_something_else():
    plain = Image.fromarray(RAMP)
    alpha = Image.fromarray(np.dstack([RAMP, np.full((8, 12), 255, np.uint8)]))
    for data in (
        saved(plain),
        saved(plain.convert("P")),
        saved(plain, icc_profile=SRGB),
        saved(alpha),
        b"text",
    ):
        assert reading_mark(data, "RGB") == reading_mark(data, "RGBA") == ""
    alpha.putpixel((0, 0), (0, 0, 0, 0))
    deep = Image.fromarray(GREY.astype(np.uint16))
    for data in (saved(deep), saved(plain, exif=tagged(6)), saved(plain, icc_profile=swapped_profile())):
        assert reading_mark(data, "RGB")
        assert reading_mark(data, "RGBA")
    assert reading_mark(saved(alpha), "RGB")
    assert not reading_mark(saved(alpha), "RGBA")


def test_the_embedded_datasets_read_as_a_plain_conversion_reads_them():
    pictures = [
        path for name in ("pie", "pie_val") for path in sorted((data_root() / name).rglob("*.[jp][pn]g"))
    ]
    assert len(pictures) > 100
    for path in pictures[::7]:
        data = path.read_bytes()
        assert np.array_equal(read(data)[0], np.asarray(Image.open(path).convert("RGB")))
        assert reading_mark(data, "RGB") == ""


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_a_picture_or_one_line(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "MPO"]))
    whole = bytearray(saved(Image.fromarray(RAMP), format=kind, icc_profile=SRGB, exif=tagged(3)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    fault = ""
    try:
        read(bytes(whole))
    except DataError as error:
        fault = str(error)
    assert "\n" not in fault
