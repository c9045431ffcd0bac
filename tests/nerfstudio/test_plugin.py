"""Run where the extra is installed: pip install -e '.[nerfstudio]' pytest pytest-timeout; pytest tests/nerfstudio"""

# ruff: noqa: E402 nothing of nerfstudio may be imported before it is known to be there

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("nerfstudio", reason="the extra is not installed: pip install 'piva-bench[nerfstudio]'")

from piva_bench.nerfstudio.__main__ import without_missing_lpips

without_missing_lpips()

import nerfstudio.configs.method_configs as registered
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers
from nerfstudio.scripts.render import DatasetRender
from nerfstudio.scripts.train import main as train
from PIL import Image

from methods._nerfstudio import specification
from piva_bench.distillation.engine import Distillation
from piva_bench.distillation.scenes import SceneViews
from piva_bench.errors import DataError, UserError
from piva_bench.nerfstudio.edit import SceneEdit, squares
from piva_bench.nerfstudio.scene import NerfstudioScene, pinholes, read_config, to_nerfstudio
from piva_bench.registry import METHODS
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.transforms import write_nerf_synthetic
from piva_bench.scene.views import PosedViews
from tests.tiny_sd import make_tiny_sd

SIDE = 16
"""Pixels of the scene's pictures."""


def ball(cameras: Cameras, radius: float = 1.0) -> PosedViews:
    """A red ball about the origin, in closed form."""
    from piva_bench.scene.field import camera_rays

    rays = camera_rays(cameras)
    directions = (rays.directions / rays.directions.norm(dim=1, keepdim=True)).double()
    along = (rays.origins.double() * directions).sum(dim=1)
    inside = along**2 - (rays.origins.double() ** 2).sum(dim=1) + radius**2
    hit = inside > 0
    distance = torch.where(hit, -along - inside.clamp(min=0).sqrt(), 0)
    depth = distance / rays.directions.double().norm(dim=1)
    pixels = torch.zeros(len(hit), 4, dtype=torch.uint8)
    pixels[hit] = torch.tensor([200, 30, 30, 255], dtype=torch.uint8)
    shape = (len(cameras), cameras.height, cameras.width)
    return PosedViews(pixels.view(*shape, 4).numpy(), cameras, depth.view(shape).float().numpy())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """config.yml of a tiny nerfacto that has seen the ball."""
    root = tmp_path_factory.mktemp("scene")
    for split, cameras in {
        "train": RIG.sphere(12, SIDE),
        "val": RIG.turntable(2, SIDE),
        "test": RIG.turntable(2, SIDE),
    }.items():
        write_nerf_synthetic(ball(cameras).without_depth(), root / "ball", split)
    return train_nerfacto(root / "ball", root / "outputs")


def train_nerfacto(data: Path, outputs: Path) -> Path:
    from copy import deepcopy

    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    config = deepcopy(registered.all_methods["nerfacto"])
    quietly(config, outputs)
    config.max_num_iterations = 120
    config.pipeline.datamanager = VanillaDataManagerConfig(
        dataparser=BlenderDataParserConfig(data=data),
        train_num_rays_per_batch=256,
        eval_num_rays_per_batch=64,
    )
    model = config.pipeline.model
    model.implementation, model.background_color = "torch", "white"
    model.log2_hashmap_size, model.num_levels, model.max_res = 11, 4, 32
    model.hidden_dim = model.hidden_dim_color = 16
    model.num_proposal_iterations, model.num_proposal_samples_per_ray = 1, (24,)
    model.proposal_net_args_list = [
        {"hidden_dim": 8, "log2_hashmap_size": 10, "num_levels": 3, "max_res": 24, "use_linear": False}
    ]
    model.num_nerf_samples_per_ray, model.near_plane, model.far_plane = 16, 2.0, 6.0
    model.disable_scene_contraction, model.use_appearance_embedding = True, False
    model.camera_optimizer.mode = "off"
    train(config)
    return config.get_base_dir() / "config.yml"


def quietly(config, outputs: Path) -> None:
    """No device, viewer, evaluation or log that the tests do not need."""
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.output_dir, config.timestamp = outputs, "now"
    config.logging.local_writer.enable = False
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 0


@pytest.fixture(scope="module")
def scene(trained):
    return NerfstudioScene.load(trained)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("sd") / "model")


def edit_config(trained: Path, model: Path, outputs: Path, **options):
    from copy import deepcopy

    config = deepcopy(specification.config)
    quietly(config, outputs)
    config.max_num_iterations = 3
    options = {
        "scene": trained, "source_prompt": "a red ball", "target_prompt": "a blue ball", "method": "dds",
        "diffusion_model": str(model), "size": 16,
    } | options  # fmt: skip
    for name, value in options.items():
        setattr(config.pipeline, name, value)
    return config


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


def test_equal_prompts_leave_the_scene_alone(scene, model):
    """DDS of a prompt with itself: no gradient, and nothing else moves the field."""
    assert moved(scene, model, "a red ball") == 0
    assert moved(scene, model, "a blue ball") > 0.01


def begin(scene, model, target: str, cameras: slice = slice(None)):
    """An edit of a copy of the scene: what the engine moves, the copy and the model."""
    from piva_bench.diffusion.denoiser import Denoiser

    fresh = scene.copy()
    groups = {"fields": list(fresh.model.field.parameters())}
    optimizers = Optimizers(
        {"fields": {"optimizer": AdamOptimizerConfig(lr=2e-3), "scheduler": None}}, groups
    )
    denoiser = Denoiser.from_pretrained(model)
    edit = SceneEdit(fresh, squares(fresh.cameras[cameras], 16), ("a red ball", target), optimizers)
    return SceneViews([edit], denoiser, 1, 0), fresh, denoiser


def moved(scene, model, target: str) -> float:
    """How far a few steps of DDS move the picture, as its largest change."""
    views, fresh, denoiser = begin(scene, model, target)
    dds = METHODS.load("dds")
    with torch.no_grad():
        Distillation(dds(dds.Params(steps=3)), views, denoiser, 0).run()
        before, after = (one.render(fresh.cameras[:2]).rgb for one in (scene, fresh))
    return float((after - before).abs().max())


def test_a_gradient_on_the_latents_takes_the_scene_where_it_points(scene, model):
    views, fresh, denoiser = begin(scene, model, "a red ball", slice(1))
    distances = []
    with torch.no_grad():
        negative = 1 - scene.render(squares(fresh.cameras[:1], 16)).rgb
        goal = denoiser.encode(negative * 2 - 1)
        for step in range(10):
            seen = views.observe(step)
            distances.append(float((seen.latents - goal).norm()))
            views.step(seen.latents - goal)
    assert distances[-1] < 0.9 * distances[0]


def test_ns_train_edits_and_ns_render_shows_it(trained, model, tmp_path, monkeypatch):
    """The whole way; the source scene stays, and the edit is a scene that can be edited again."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # as the wrapper does
    before = {path: path.read_bytes() for path in trained.parent.rglob("*.ckpt")}
    config = edit_config(trained, model, tmp_path, method="piva", params={"preservation_weight": "0.5"})
    config.save_config()
    trainer = config.setup()
    trainer.setup()
    trainer.train()
    distances = [float(scalars["distance"]) for scalars in trainer.distillation.trace]
    assert len(distances) == 3
    assert distances[0] < 1e-5 < distances[-1]  # the edit begins as its source
    edited = config.get_base_dir() / "config.yml"
    assert before == {path: path.read_bytes() for path in trained.parent.rglob("*.ckpt")}
    pictures = []
    for number, file in enumerate((trained, edited)):
        out = tmp_path / str(number)
        DatasetRender(file, output_path=out, rendered_output_names=["rgb"], image_format="png").main()
        pictures.append(np.stack([np.asarray(Image.open(path)) for path in sorted(out.rglob("*.png"))]))
    assert pictures[0].shape == pictures[1].shape == (2, SIDE, SIDE, 3)
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 2
    again = edit_config(edited, model, tmp_path)
    again.take_over()
    assert again.pipeline.scene_method == "nerfacto"
    assert type(again.pipeline.model) is type(read_config(trained).pipeline.model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scene": None}, "--pipeline.scene"),
        ({"target_prompt": ""}, "--pipeline.target-prompt"),
        ({"scene": Path("nowhere/config.yml")}, "nowhere"),
    ],
)
def test_what_is_missing_is_said_in_one_line(trained, model, tmp_path, options, message):
    config = edit_config(trained, model, tmp_path, **options)
    with pytest.raises(UserError, match=message) as caught:
        config.take_over()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "pivaa"}, "Did you mean piva"),
        ({"method": "identity"}, "distillation"),
        ({"params": {"steps": "5"}}, "--max-num-iterations"),
        ({"diffusion_model": "nowhere"}, "nowhere"),
    ],
)
def test_ns_train_ends_with_one_line(trained, model, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as end:
        train(edit_config(trained, model, tmp_path, **options))
    assert end.value.code == 2
    assert message in capsys.readouterr().out


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
