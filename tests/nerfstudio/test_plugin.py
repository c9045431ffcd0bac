"""Run where the extra is installed: pip install -e '.[nerfstudio]' pytest pytest-timeout; pytest tests/nerfstudio"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.nerfstudio.tiny_scene import SIDE, ball, registered  # isort: skip

from piva_bench.errors import DataError
from piva_bench.nerfstudio.edit import squares
from piva_bench.nerfstudio.scene import NerfstudioScene, pinholes, to_nerfstudio
from piva_bench.scene.cameras import RIG, Cameras


class BallModel(torch.nn.Module):
    """The ball as nerfstudio's models show things: colours, opacity, and depth along the unit ray."""

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(eval_num_rays_per_chunk=chunk)
        self.field, self.device = None, torch.device("cpu")

    def forward(self, rays):
        origins, directions = rays.origins.double(), rays.directions.double()
        along = (origins * directions).sum(dim=1, keepdim=True)
        inside = along**2 - (origins**2).sum(dim=1, keepdim=True) + 1
        hit = (inside > 0).float()
        rgb = torch.where(inside > 0, torch.tensor([200.0, 30, 30]) / 255, 1)
        return {"rgb": rgb, "accumulation": hit, "depth": hit * (-along - inside.clamp(min=0).sqrt())}


@pytest.mark.parametrize("chunk", [10_000, 100])
def test_views_of_a_scene_are_those_of_the_world(chunk):
    """Rows, columns, axes and the kind of depth against the ball in closed form, off centre and not square."""
    cameras = RIG.random(4, SIDE, seed=1)
    lens = cameras.intrinsics + np.array([3.0, 0.0, 2.0, -3.0])
    truth = ball(Cameras(cameras.camera_to_world, lens, SIDE + 6, SIDE))
    views = NerfstudioScene(BallModel(chunk), to_nerfstudio(cameras)).render_views(truth.cameras)
    assert (views.composite() == truth.composite()).mean() > 0.99  # rounding decides at the rim
    both = (views.depth > 0) & (truth.depth > 0)
    assert both.sum() > 100
    assert np.allclose(views.depth[both], truth.depth[both], atol=2e-2)


def test_a_loaded_scene_shows_what_it_was_trained_on(scene):
    """From cameras the training never had; depth is rough after so short a training."""
    views = ball(RIG.turntable(3, SIDE, elevation=35.0))
    with torch.no_grad():
        shown = scene.render(views.cameras)
    truth = torch.from_numpy(views.composite()).permute(0, 3, 1, 2) / 255
    assert (shown.rgb - truth).square().mean() < 0.02
    middle = np.s_[:, SIDE // 2, SIDE // 2]
    assert (shown.alpha[:, 0].numpy() > 0.5)[middle].all()
    red, green, blue = shown.rgb[:, :, SIDE // 2, SIDE // 2].T
    assert (red - torch.maximum(green, blue) > 0.4).all()
    assert (shown.alpha[:, 0].numpy()[:, 0, 0] < 0.5).all()
    assert np.median(np.abs(shown.depth[:, 0].numpy()[middle] - views.depth[middle])) < 0.5


def test_cameras_come_through_nerfstudio_unchanged(scene):
    cameras = RIG.random(5, SIDE, seed=3)
    back = pinholes(to_nerfstudio(cameras))
    assert np.allclose(back.camera_to_world, cameras.camera_to_world, atol=1e-6)
    assert np.allclose(back.intrinsics, cameras.intrinsics)
    assert np.allclose(scene.cameras.camera_to_world, RIG.sphere(12, SIDE).camera_to_world, atol=1e-5)


def test_rays_in_chunks_make_the_same_picture_and_gradient(scene):
    cameras, results = RIG.turntable(1, SIDE), []
    whole = scene.model.config.eval_num_rays_per_chunk
    for chunk in (whole, 100):
        scene.model.config.eval_num_rays_per_chunk = chunk
        scene.model.zero_grad()
        shown = scene.render(cameras)
        shown.rgb.square().sum().backward()
        results.append((shown.rgb.detach(), next(scene.model.field.mlp_head.parameters()).grad.clone()))
    scene.model.config.eval_num_rays_per_chunk = whole
    scene.model.zero_grad()
    assert results[0][1].abs().sum() > 0
    for first, second in zip(*results, strict=True):
        assert torch.allclose(first, second, rtol=1e-3, atol=1e-5)


def test_squares_show_the_middle_of_the_picture():
    wide = Cameras(np.eye(4)[None], np.array([[30.0, 30.0, 21.0, 10.0]]), 40, 20)
    (fx, fy, cx, cy) = squares(wide, 10).intrinsics[0]
    # A pixel of the square is two of the picture's; ten of its columns are cut off on each side.
    assert (fx, fy, cx, cy) == (15, 15, (21 - 10) / 2, 5)


def test_damaged_scenes_are_refused_in_one_line(trained, tmp_path):
    torn = tmp_path / "config.yml"
    torn.write_text(trained.read_text()[:200] + "\n: [")
    with pytest.raises(DataError, match="config.yml"):
        NerfstudioScene.load(torn)
    torn.write_text(trained.read_text())
    with pytest.raises(DataError, match="no checkpoint"):
        NerfstudioScene.load(torn)
    (tmp_path / "nerfstudio_models").mkdir()
    (tmp_path / "nerfstudio_models" / "step-000000001.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(DataError, match="cannot read the checkpoint"):
        NerfstudioScene.load(torn)


def test_the_plugin_is_registered_and_the_wrapper_knows_nerfstudios_commands(capsys):
    from piva_bench.nerfstudio.__main__ import main

    assert registered.all_methods["piva"].pipeline.method == "piva"
    assert main(["ns-sing"]) == 2
    assert "ns-train" in capsys.readouterr().err
    assert "torchvision" in sys.modules
