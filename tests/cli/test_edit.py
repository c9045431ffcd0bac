"""`piva-bench edit` on the tiny model."""

import numpy as np
import pytest
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from tests.metrics.pictures import photograph

PROMPTS = ("a photo of a woman", "a photo of a robot")


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(photograph(48)[:24]).save(tmp_path / "woman.png")
    return "woman.png"


def test_an_edit_is_saved_with_a_side_by_side_and_an_animation(cli, bench, tmp_path, picture):
    code, out, err = cli(
        "edit", picture, *PROMPTS, "--model", bench / "model", "--param", "steps=6", "--animation", "way.gif"
    )
    assert code == 0, err
    assert "the picture was resized from 48x24 to 32x16; padded to 32x32" in err
    assert "woman-piva.png, woman-piva-compare.png, way.gif (32x16 px)" in out
    edited = Image.open(tmp_path / "woman-piva.png")
    assert edited.size == (32, 16)
    assert Image.open(tmp_path / "woman-piva-compare.png").size == (2 * 32 + 4, 16)
    animation = Image.open(tmp_path / "way.gif")
    assert animation.n_frames >= 6
    # Watching does not change what comes out.
    assert (
        cli("edit", picture, *PROMPTS, "--model", bench / "model", "--param", "steps=6", "-o", "again.png")[0]
        == 0
    )
    assert (np.asarray(Image.open(tmp_path / "again.png")) == np.asarray(edited)).all()


def test_pictures_as_people_have_them(cli, bench, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(photograph(32)[:20]).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64).save(tmp_path / "sixteen.png")
    Image.new("RGBA", (32, 32), (255, 0, 0, 90)).save(tmp_path / "alpha.png")
    Image.new("L", (1, 1), 9).save(tmp_path / "grey.png")
    for name, note, size in (
        ("turned.jpg", "turned upright", (20, 32)),
        ("sixteen.png", "reduced to 8 bits", (32, 32)),
        ("alpha.png", "laid on white", (32, 32)),
        ("grey.png", "greyscale", (32, 32)),
    ):
        code, _, err = cli(
            "edit",
            name,
            *PROMPTS,
            "-m",
            "dds",
            "--model",
            bench / "model",
            "--param",
            "steps=1",
            "-o",
            "x.png",
        )
        assert code == 0, err
        assert note in err
        assert Image.open(tmp_path / "x.png").size == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "a", "b"], "no picture at none.png"),
        (["woman.png", "a", "b", "-m", "pvia"], "Did you mean piva"),
        (["woman.png", "a", "b", "-m", "identity"], "reference row"),
        (["woman.png", "a", "b", "-o", "woman.png"], "the picture itself"),
        (["woman.png", "a", "b", "-o", "no/where.png"], "no folder no"),
        (["woman.png", "a", "b", "-o", "x.bmpp"], "end it in .png"),
        (["woman.png", "a", "b", "--animation", "x.mp4"], "end it in .gif"),
        (["woman.png", "a", "b", "--size", "30"], "multiples of 4"),
        (["woman.png", "a", "b", "--model", "sd-1.5"], "models fetch sd-1.5"),
        (["woman.png", "a", "b", "-m", "vae_roundtrip"], "reference row"),
        (["torn.png", "a", "b"], "torn.png is no whole picture"),
    ],
)
def test_mistakes_are_one_line(cli, bench, tmp_path, picture, arguments, message, monkeypatch):
    (tmp_path / "torn.png").write_bytes((tmp_path / picture).read_bytes()[:90])
    monkeypatch.setenv("PIVA_BENCH_MODELS", str(tmp_path))
    if "--model" not in arguments:
        arguments = [*arguments, "--model", bench / "model", "--param", "steps=1"] if "-m" not in arguments else [
            *arguments, "--model", bench / "model"]  # fmt: skip
    code, _, err = cli("edit", *arguments)
    assert code == EXIT_USER_ERROR, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_help_explains_prompts_and_models(cli):
    code, out, _ = cli("edit", "--help")
    assert code == 0
    for words in ("source prompt", "preservation_weight", "sd-1.5", "--animation"):
        assert words in out
