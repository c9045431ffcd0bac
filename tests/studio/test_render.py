import numpy as np
import pytest

from piva_bench.studio import render as camera
from piva_bench.studio import vocabulary as words
from piva_bench.studio.objects import thing
from piva_bench.studio.render import ACCESSORY, BACKDROP, FLOOR, OBJECT, SECOND, Renderer
from piva_bench.studio.scene import Scene

SCENE = Scene("teddy_bear", "blue", floor="sand", backdrop="brick")


@pytest.fixture(scope="module")
def renderer():
    return Renderer(48)


def test_equal_scenes_give_equal_pixels(renderer):
    first = renderer.render(SCENE)
    renderer.render(Scene("cup", material="metal", backdrop="night"))
    again = renderer.render(SCENE)
    for field in ("image", "ids", "depth"):
        assert np.array_equal(getattr(first, field), getattr(again, field))


def test_a_new_context_gives_the_same_pixels(renderer):
    assert np.array_equal(renderer.render(SCENE).image, Renderer(48).render(SCENE).image)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, OBJECT),
        ({"accessory": "top_hat"}, ACCESSORY),
        ({"accessory": "balloon"}, ACCESSORY),
        ({"second": "ball", "second_color": "red"}, SECOND),
    ],
)
def test_ids_show_what_is_there(renderer, changes, part):
    ids = renderer.render(SCENE.replace(**changes)).ids
    assert (ids == part).sum() >= 12
    present = {BACKDROP, FLOOR, OBJECT, part}
    assert set(np.unique(ids)) == present


@pytest.mark.parametrize("name", words.OBJECTS)
def test_every_object_is_in_the_picture_on_the_floor_and_of_a_fair_size(renderer, name):
    shot = renderer.render(Scene(name, "red"))
    rows, columns = np.nonzero(shot.object_mask)
    assert 0.02 < shot.object_mask.mean() < 0.40
    assert rows.min() > 0
    assert columns.min() > 0
    assert columns.max() < 47
    # It stands on the floor: under its lowest pixel there is floor, not backdrop.
    assert shot.ids[min(rows.max() + 1, 47), columns[rows.argmax()]] == FLOOR


def test_paint_shows_its_colour_and_leaves_the_set_alone(renderer):
    red, blue = (renderer.render(Scene("ball", color)) for color in ("red", "blue"))
    inside = red.object_mask
    assert np.array_equal(inside, blue.object_mask)
    assert red.image[inside].mean(0).argmax() == 0
    assert blue.image[inside].mean(0).argmax() == 2
    # One pixel of edge is shared by the object and the set.
    near = np.zeros_like(inside)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near |= np.roll(inside, (dy, dx), (0, 1))
    assert np.array_equal(red.image[~near], blue.image[~near])


def test_depth_is_the_distance_to_the_eye(renderer):
    """The centre of a ball's visible side is one radius nearer than its centre."""
    shot = renderer.render(Scene("ball", elevation=0.0))
    size = camera._shown_size(thing("ball"))
    centre = np.array([0.0, size / 2, 0.0])
    eye = camera.TARGET + np.array([0, 0, camera.CAMERA_DISTANCE])
    expected = np.linalg.norm(eye - centre) - size / 2
    assert shot.depth[shot.object_mask].min() == pytest.approx(expected, abs=0.01)


def test_the_object_throws_a_shadow(renderer):
    lit = renderer.render(Scene("ball", floor="sand"))
    floor = lit.ids == FLOOR
    light = lit.image.mean(-1)
    assert light[floor].min() < 0.6 * np.median(light[floor])


@pytest.mark.parametrize("style", [name for name in words.STYLES if name != "photo"])
def test_styles_change_the_whole_picture(renderer, style):
    photo, drawn = renderer.render(SCENE), renderer.render(SCENE.replace(style=style))
    assert np.array_equal(photo.ids, drawn.ids)
    change = np.abs(photo.image.astype(int) - drawn.image.astype(int)).max(-1)
    assert (change > 8).mean() > 0.5


def test_all_surfaces_differ(renderer):
    pictures = [renderer.render(Scene("ball", "green", **kind)).image for kind in (
        {}, {"material": "wood"}, {"material": "metal"}, {"material": "marble"},
        {"print": "stripes"}, {"print": "dots"}, {"print": "checks"},
    )]  # fmt: skip
    for i, one in enumerate(pictures):
        for other in pictures[i + 1 :]:
            assert np.abs(one.astype(int) - other.astype(int)).max() > 40


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accessory": "balloon", "pose": "upside_down"},
        {"second": "ball", "second_color": "red", "yaw": 70.0},
    ],
)
def test_depth_alone_is_the_pictures_distance_along_the_axis(renderer, changes):
    scene = SCENE.replace(elevation=25.0, distance=0.95, shift=0.05, **changes)
    shot, depth = renderer.render(scene), renderer.depth(scene)
    things = depth > 0
    assert np.mean(things == (shot.ids >= OBJECT)) > 0.99  # ids are by majority, depth is at the centre
    # The cosine of each pixel's ray with the axis, from the field of view alone.
    rise = ((np.arange(48) + 0.5) / 24 - 1) * np.tan(np.radians(camera.FIELD_OF_VIEW / 2))
    cosine = 1 / np.sqrt(1 + rise[:, None] ** 2 + rise[None] ** 2)
    assert np.abs(depth - shot.depth * cosine)[things].max() < 1e-3
