"""Balls of known colours, photographed: what is light in a file is light in the picture, whichever file it is."""

import numpy as np
import pytest
import trimesh

from piva_bench.scene.cameras import RIG
from piva_bench.scene.renderer import ViewRenderer
from piva_bench.scene.subject import load_model
from tests.scene.models.gltf_writer import QUARTERS, Gltf, picture

BALL = trimesh.creation.icosphere(4)
CORNERS = BALL.vertices[BALL.faces.reshape(-1)]
SIZE = 65


@pytest.fixture(scope="module")
def renderer():
    return ViewRenderer()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ball.glb"


def shot(renderer, path, size=SIZE, views=1):
    """The first view from the front, float [H, W, 4] in 255ths."""
    return (
        renderer.render(load_model(path), RIG.turntable(views, size, elevation=0.0)).images[0].astype(float)
    )


def ball(gltf, material=None, **attributes):
    primitive = {"attributes": {"POSITION": gltf.accessor(CORNERS), **attributes}}
    gltf.show(primitive if material is None else primitive | {"material": material})


def display(light):
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def light_from(normals):
    """What the rig throws on a surface: its eight lights, wrapped by a half; the brightest side has 1."""
    directions = np.array(RIG.lights) / np.linalg.norm(RIG.lights, axis=1, keepdims=True)
    sides = trimesh.creation.icosphere(5).vertices
    on, most = (np.maximum((at @ directions.T + 0.5) / 1.5, 0).sum(-1) for at in (normals, sides))
    return on / most.max()


def middle(image):
    return image[SIZE // 2, SIZE // 2, :3]


FRONT = light_from(RIG.turntable(1, SIZE, elevation=0.0).camera_to_world[0, :3, 2])
"""The light in the middle of the ball."""


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.18, 0.02])
def test_a_balls_middle_is_the_display_value_of_factor_times_light(renderer, path, factor):
    gltf = Gltf()
    ball(gltf, gltf.painted(factor, factor, factor))
    assert middle(shot(renderer, gltf.write(path))) == pytest.approx(display(factor * FRONT), abs=1.5)


def test_half_the_light_shows_as_188_on_the_brightest_side_and_white_as_white(renderer, path):
    for factor, most in ((0.5, 188), (1.0, 255)):
        gltf = Gltf()
        ball(gltf, gltf.painted(factor, factor, factor))
        path.write_bytes(gltf.glb())
        views = renderer.render(load_model(path), RIG.sphere(12, SIZE)).images
        solid = views[views[..., 3] == 255][:, 0]
        assert most - 2 <= solid.max() <= most
        if factor == 1:
            assert np.median(solid) > 190  # a white mug is white


def test_one_colour_is_one_picture_however_a_file_states_it(renderer, tmp_path, path):
    """Display value 128 is linear 0.2158: as glTF factor, texture and vertex colour, as OBJ's Kd, texture and
    vertex colour, and in PLY.
    """
    linear = ((128 / 255 + 0.055) / 1.055) ** 2.4
    pictures = {}
    gltf = Gltf()
    ball(gltf, gltf.painted(linear, linear, linear))
    pictures["factor"] = shot(renderer, gltf.write(path))
    gltf, uv = Gltf(), np.full((len(CORNERS), 2), 0.5)
    flat = gltf.texture(picture(np.full((4, 4, 3), 128)))
    ball(gltf, gltf.material(pbrMetallicRoughness={"baseColorTexture": flat}), TEXCOORD_0=gltf.accessor(uv))
    pictures["texture"] = shot(renderer, gltf.write(path))
    gltf = Gltf()
    ball(gltf, COLOR_0=gltf.accessor(np.full((len(CORNERS), 3), linear)))
    pictures["vertex colours"] = shot(renderer, gltf.write(path))
    faces = "\n".join(f"f {3 * i + 1}/1 {3 * i + 2}/1 {3 * i + 3}/1" for i in range(len(BALL.faces)))
    rows = [" ".join(map(str, corner)) for corner in CORNERS.tolist()]
    (tmp_path / "grey.png").write_bytes(picture(np.full((4, 4, 3), 128)))
    for name, mtl, colour in (("Kd", "Kd .50196 .50196 .50196", ""), ("map_Kd", "map_Kd grey.png", ""),
                              ("colours", "Kd 1 1 1", " .50196 .50196 .50196")):  # fmt: skip
        (tmp_path / "ball.mtl").write_text(f"newmtl a\n{mtl}\n")
        vertices = "\n".join(f"v {row}{colour}" for row in rows)
        (tmp_path / "ball.obj").write_text(f"mtllib ball.mtl\nvt .5 .5\n{vertices}\nusemtl a\n{faces}\n")
        pictures[f"OBJ {name}"] = shot(renderer, tmp_path / "ball.obj")
    shape = BALL.copy()
    shape.visual.vertex_colors = np.tile([128, 128, 128, 255], (len(shape.vertices), 1))
    shape.export(tmp_path / "ball.ply")
    pictures["PLY"] = shot(renderer, tmp_path / "ball.ply")
    for name, image in pictures.items():
        assert middle(image) == pytest.approx(display(linear * FRONT), abs=1.5), name
        assert np.abs(image - pictures["factor"]).max() <= 3, name


def test_textures_seen_from_afar_are_averaged_as_light(renderer, path):
    """Black and white pixels in equal number give half the light, 188 and not 128."""
    gltf = Gltf()
    rng = np.random.default_rng(0)
    noise = np.repeat(rng.permutation(np.repeat([0, 255], 256 * 128)).reshape(256, 256, 1), 3, axis=2)
    texture = gltf.texture(picture(noise))
    unlit = {"KHR_materials_unlit": {}}
    material = gltf.material(pbrMetallicRoughness={"baseColorTexture": texture}, extensions=unlit)
    spread = np.stack([CORNERS[:, 0], CORNERS[:, 1]], 1) * 3
    ball(gltf, material, TEXCOORD_0=gltf.accessor(spread))
    image = shot(renderer, gltf.write(path))
    inner = image[SIZE // 2 - 8 : SIZE // 2 + 8, SIZE // 2 - 8 : SIZE // 2 + 8, :3]
    assert inner.mean() == pytest.approx(188, abs=6)


def test_vertex_colours_go_over_into_each_other_as_light(renderer, path):
    """From black at the bottom to white at the top: half the light in the middle, without steps by face."""
    gltf = Gltf()
    grey = np.tile((CORNERS[:, 1:2] + 1) / 2, (1, 3))
    material = gltf.material(extensions={"KHR_materials_unlit": {}})
    ball(gltf, material, COLOR_0=gltf.accessor(grey))
    image = shot(renderer, gltf.write(path))
    assert middle(image) == pytest.approx([188] * 3, abs=3)
    column = image[:, SIZE // 2][image[:, SIZE // 2, 3] == 255][:, 0]
    assert (np.diff(column) <= 0).all()


def test_glow_shows_without_light_and_adds_to_what_is_lit(renderer, path):
    gltf = Gltf()
    black = {"baseColorFactor": [0, 0, 0, 1]}
    ball(gltf, gltf.material(pbrMetallicRoughness=black, emissiveFactor=[0.5, 0.1, 0]))
    image = shot(renderer, gltf.write(path))
    solid = image[image[..., 3] == 255][:, :3]
    assert np.abs(solid - display(np.array([0.5, 0.1, 0]))).max() <= 1
    gltf = Gltf()
    ball(
        gltf,
        gltf.material(pbrMetallicRoughness={"baseColorFactor": [0.3, 0, 0, 1]}, emissiveFactor=[0.2, 0, 0]),
    )
    assert middle(shot(renderer, gltf.write(path)))[0] == pytest.approx(display(0.3 * FRONT + 0.2), abs=1.5)


def test_masks_cut_holes_and_blends_cover_their_share(renderer, path):
    gltf = Gltf()
    holes = np.zeros((2, 2, 4), np.uint8)
    holes[..., :3], holes[..., 3] = QUARTERS, [[255, 0], [255, 0]]
    mask = gltf.material(
        pbrMetallicRoughness={"baseColorTexture": gltf.texture(picture(holes), magFilter=9728)},
        alphaMode="MASK",
    )
    ball(gltf, mask, TEXCOORD_0=gltf.accessor((CORNERS[:, :2] + 1) / 2))
    alpha = shot(renderer, gltf.write(path))[..., 3] / 255
    assert alpha[SIZE // 2, SIZE // 4 : SIZE // 2 - 2].min() == 1  # u below a half
    assert alpha[SIZE // 2, SIZE // 2 + 2 :].max() == 0
    for share in (1 / 3, 2 / 3):
        gltf = Gltf()
        blend = {"baseColorFactor": [1, 0, 0, share]}
        ball(gltf, gltf.material(pbrMetallicRoughness=blend, alphaMode="BLEND"))
        assert shot(renderer, gltf.write(path))[SIZE // 2, SIZE // 2, 3] / 255 == pytest.approx(
            share, abs=0.06
        )


def test_textures_lie_as_the_file_says_also_clamped_and_mirrored(renderer, path):
    """The ball's front is the square [0, 1] of u and v, v from above: red and green above blue and yellow."""
    at = np.stack([(CORNERS[:, 0] + 1) / 2, (1 - CORNERS[:, 1]) / 2], 1)
    expected = {
        "plain": (at, {}),
        "mirrored": (2 - at, {"wrapS": 33648, "wrapT": 33648}),
        "again": (at - 3, {}),
    }
    seen = {}
    for name, (uv, sampler) in expected.items():
        gltf = Gltf()
        material = gltf.material(
            pbrMetallicRoughness={
                "baseColorTexture": gltf.texture(picture(QUARTERS), magFilter=9728, **sampler)
            },
            extensions={"KHR_materials_unlit": {}},
        )
        ball(gltf, material, TEXCOORD_0=gltf.accessor(uv))
        image = shot(renderer, gltf.write(path))
        near, far = SIZE // 2 - 10, SIZE // 2 + 10
        seen[name] = np.array(
            [[image[near, near, :3], image[near, far, :3]], [image[far, near, :3], image[far, far, :3]]]
        )
    for name, corners in seen.items():
        assert np.abs(corners - QUARTERS).max() <= 2, name
