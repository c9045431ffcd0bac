"""An edited model's own file: what was not edited comes back to the bit, what was is the field's surface."""

import io

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG
from piva_bench.scene.compose import NAME, changed, compose
from piva_bench.scene.field import Grid, RadianceField
from piva_bench.scene.models.read import read_model

OFFSET = np.array([3.0, -7.0, 11.0])
SIZE = 0.3


@pytest.fixture
def model(tmp_path):
    """A fine textured ball on the left and a plain one on the right, small and away from the origin; y is up."""
    left, right = (trimesh.creation.icosphere(4, 1.0) for _ in range(2))
    uv = np.random.default_rng(0).random((len(left.vertices), 2))
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8))
    left.visual = trimesh.visual.TextureVisuals(uv, image=picture)
    right.visual.vertex_colors = (200, 60, 60, 255)
    left.vertices = (left.vertices - [1.5, 0, 0]) * SIZE + OFFSET
    right.vertices = (right.vertices - [-1.5, 0, 0]) * SIZE + OFFSET
    trimesh.Scene({"left": left, "right": right}).export(tmp_path / "balls.glb")
    return tmp_path / "balls.glb"


def fitted(right=1.0, front=None):
    """The field of those balls in the rig's size: two of radius 0.5, at x = -0.75 and 0.75."""
    field = RadianceField(Grid(((-1.75,) * 3, (1.75,) * 3), 56))
    nodes = field.nodes()
    left, other = ((nodes - torch.tensor([x, 0.0, 0.0])).norm(dim=-1) for x in (-0.75, 0.75))
    with torch.no_grad():
        field.raw[0, 0] = torch.where((left < 0.5) | (other < 0.5 * right), 4.0, -8.0)
        field.raw[0, 1:] = torch.tensor([0.8, 0.3, 0.3]).logit().view(3, 1, 1, 1)
        if front is not None:
            field.raw[0, 1:, (nodes[..., 1] < -0.2) & (nodes[..., 0] > 0)] = torch.tensor(front).logit()[
                :, None
            ]
    return field


def loaded(data):
    return trimesh.load_scene(io.BytesIO(data), file_type="glb", process=False)


def of_file(path):
    return trimesh.load_scene(path, process=False).geometry


def corners(mesh):
    """Triangles as a set of the bits of their corners."""
    return {face.tobytes() for face in np.asarray(mesh.triangles, np.float32)}


def test_what_no_edit_touches_comes_back_whole(model):
    data, share = compose(model, fitted(), fitted())
    assert share == 1
    before, after = of_file(model), loaded(data).geometry
    assert set(before) == set(after) == {"left", "right"}
    for name in before:
        assert corners(before[name]) == corners(after[name])


def test_a_part_that_grows_is_the_fields_and_the_other_is_the_files_own(model, tmp_path):
    data, share = compose(model, fitted(), fitted(right=1.3))
    assert share == pytest.approx(0.5)
    scene = loaded(data)
    assert set(scene.geometry) == {"left", NAME}
    left = of_file(model)["left"]
    kept, edit = scene.geometry["left"], scene.geometry[NAME]
    assert corners(kept) == corners(left)
    assert np.array_equal(kept.visual.uv.astype(np.float32), left.visual.uv.astype(np.float32))
    old, new = (np.asarray(m.visual.material.baseColorTexture.convert("RGB")) for m in (left, kept))
    assert np.array_equal(old, new)
    # In the file's own coordinates: 1.3 times the radius about the right ball's middle.
    middle = OFFSET + np.array([1.5 * SIZE, 0, 0])
    away = np.linalg.norm(edit.vertices - middle, axis=1) / SIZE
    assert away == pytest.approx(1.3, abs=0.12)
    # Another reader sees both, the file's part lit, the field's not.
    (tmp_path / "out.glb").write_bytes(data)
    surfaces = read_model(tmp_path / "out.glb").surfaces
    assert sorted(surface.lit for surface in surfaces) == [False, True]
    (own,) = [surface for surface in surfaces if surface.lit]
    assert len(own.positions) == 3 * len(left.faces)
    assert own.base.texture is not None


def test_of_a_ball_painted_in_front_the_back_stays(model):
    data, share = compose(model, fitted(), fitted(front=(0.1, 0.2, 0.9)))
    scene = loaded(data)
    left, right = (of_file(model)[name] for name in ("left", "right"))
    assert 0.55 < share < 0.9
    assert corners(scene.geometry["left"]) == corners(left)
    kept = scene.geometry["right"]
    assert corners(kept) < corners(right)
    # The world's front, -y, is the file's +z.
    depth = (kept.vertices[:, 2] - OFFSET[2]) / SIZE
    assert depth.max() < 0.3
    assert depth.min() == pytest.approx(-1, abs=1e-3)
    edit = scene.geometry[NAME]
    heights = (edit.vertices[:, 2] - OFFSET[2]) / SIZE
    assert heights.max() > 0.9
    # Nothing is open between them: the field's part reaches over the border.
    assert heights.min() < depth.max()


def test_a_part_that_is_removed_leaves_nothing(model):
    data, share = compose(model, fitted(), fitted(right=0.0))
    scene = loaded(data)
    assert share == pytest.approx(0.5)
    assert set(scene.geometry) == {"left"}


def test_the_region_is_what_one_can_see():
    before = fitted()
    assert not changed(before, before).any()
    faint = fitted()
    with torch.no_grad():
        faint.raw[0, 0] += 0.05
        faint.raw[0, 1:] += 0.1
        faint.raw[0, 1:, faint.raw[0, 0] < 0] = 5.0  # air may have any colour
    assert not changed(before, faint).any()
    region = changed(before, fitted(right=1.3))
    x = before.nodes()[..., 0]
    assert region[x > 0].any()
    assert not region[x < -0.2].any()  # four voxels from where the ball ends


def test_a_file_whose_triangles_were_seen_elsewhere_is_one_line(tmp_path, model, monkeypatch):
    from piva_bench.scene import compose as module

    other = trimesh.creation.box((1, 2, 3))
    other.export(tmp_path / "box.glb")
    true = module._triangles
    monkeypatch.setattr(module, "_triangles", lambda path: true(tmp_path / "box.glb"))
    with pytest.raises(DataError, match="stand elsewhere") as error:
        compose(model, fitted(), fitted())
    assert "\n" not in str(error.value)
    assert RIG.edge == 2.5
