"""``ns-train piva`` and what nerfstudio's other commands make of its results."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.nerfstudio.tiny_scene import SIDE, edit_config, specification, train  # isort: skip

from nerfstudio.scripts.render import DatasetRender
from nerfstudio.scripts.train import _set_random_seed
from nerfstudio.utils import writer
from PIL import Image

from piva_bench.errors import UserError
from piva_bench.nerfstudio.scene import NerfstudioScene, read_config


@pytest.fixture(autouse=True)
def as_the_wrapper_does(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


def ready(config):
    """The trainer before its first step, as ns-train makes it."""
    _set_random_seed(config.machine.seed)
    config.save_config()
    trainer = config.setup()
    trainer.setup()
    return trainer


def run(config):
    """The trainer, its edit done."""
    trainer = ready(config)
    trainer.train()
    return trainer


def rendered(config_file: Path, out: Path) -> np.ndarray:
    """The test views, by ns-render."""
    DatasetRender(config_file, output_path=out, rendered_output_names=["rgb"], image_format="png").main()
    return np.stack([np.asarray(Image.open(path)) for path in sorted(out.rglob("*.png"))])


def files(config_file: Path) -> list[str]:
    return sorted(path.name for path in config_file.parent.rglob("*.ckpt"))


def test_the_edit_of_a_scene_is_a_scene(trained, model, tmp_path):
    """The whole way; the source stays, and the edit can be rendered and edited again."""
    before = {path: path.read_bytes() for path in trained.parent.rglob("*.ckpt")}
    config = edit_config(trained, model, tmp_path, method="piva", params={"preservation_weight": "0.5"})
    trainer = run(config)
    distances = [float(scalars["distance"]) for scalars in trainer.distillation.trace]
    assert len(distances) == 3
    assert distances[0] < 1e-5 < distances[-1]  # the edit begins as its source
    edited = config.get_base_dir() / "config.yml"
    assert before == {path: path.read_bytes() for path in trained.parent.rglob("*.ckpt")}
    source, edit = (rendered(file, tmp_path / name) for name, file in (("0", trained), ("1", edited)))
    assert source.shape == edit.shape == (2, SIDE, SIDE, 3)
    assert np.abs(source.astype(int) - edit).max() > 2
    again = edit_config(edited, model, tmp_path)
    again.take_over()
    assert again.pipeline.scene_method == "nerfacto"
    assert type(again.pipeline.model) is type(read_config(trained).pipeline.model)


@pytest.mark.parametrize(
    ("method", "through_the_network"),
    [("dds", False), ("sds", False), ("pds", False), ("ids", True), ("cds", True)],
)
def test_every_rule_edits_and_ns_render_shows_it(trained, model, tmp_path, method, through_the_network):
    config = edit_config(trained, model, tmp_path, method=method, max_num_iterations=2)
    trainer = run(config)
    distances = [float(scalars["distance"]) for scalars in trainer.distillation.trace]
    assert distances[0] < 1e-5 < distances[1] < 1e3
    assert (trainer.distillation.predictor.differentiated > 0) == through_the_network
    edited = config.get_base_dir() / "config.yml"
    source, edit = (rendered(file, tmp_path / name) for name, file in (("0", trained), ("1", edited)))
    assert np.abs(source.astype(int) - edit).max() > 2


def test_progress_is_of_the_edits_own_steps(trained, model, tmp_path, capsys, monkeypatch):
    """However long the scene was trained: percentages of the edit, and a time that is left, not one that is over."""
    monkeypatch.setattr(writer, "EVENT_WRITERS", [])
    config = edit_config(trained, model, tmp_path, max_num_iterations=4)
    config.logging.steps_per_log, config.logging.local_writer.enable = 1, True
    config.logging.local_writer.max_log_size = 0
    run(config)
    lines = re.findall(r"^(\d+) \((.*?)%\)(.*)$", capsys.readouterr().out, re.MULTILINE)
    # The last line is the total time's, which has no columns.
    assert [(int(step), float(share)) for step, share, _ in lines[:4]] == [(0, 0), (1, 25), (2, 50), (3, 75)]
    # Where less than nothing is left, nerfstudio writes the hours until midnight.
    assert all(" ms" in left and " h" not in left for *_, left in lines[:4])


def test_an_interrupted_edit_leaves_its_last_checkpoint(trained, model, tmp_path, monkeypatch):
    """And it can be rendered: it is the edit of fewer steps."""
    config = edit_config(trained, model, tmp_path / "cut", steps_per_save=2, max_num_iterations=5)
    trainer = ready(config)
    step = trainer.distillation.step
    monkeypatch.setattr(trainer.distillation, "step", lambda index: 1 / 0 if index == 4 else step(index))
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    cut = config.get_base_dir() / "config.yml"
    last = int(re.findall(r"\d+", files(trained)[-1])[0])  # the scene's; numbers count on from there
    assert files(cut) == [f"step-{last + 3:09d}.ckpt"]
    whole = edit_config(trained, model, tmp_path / "whole", max_num_iterations=3)
    run(whole)
    assert files(whole.get_base_dir() / "config.yml") == files(cut)
    pictures = [
        rendered(file, tmp_path / name)
        for name, file in (("0", cut), ("1", whole.get_base_dir() / "config.yml"), ("2", trained))
    ]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()


def test_the_default_saves_on_the_way():
    config = specification.config
    assert 0 < config.steps_per_save < config.max_num_iterations


@pytest.mark.parametrize("method", ["piva", "cds"])
def test_the_networks_run_in_the_precision_asked_for(trained, model, tmp_path, method):
    """Half precision rounds: another edit than float32's, and close to it; the scene stays in float32."""
    pictures = {}
    for dtype in ("float32", "bfloat16", "float16"):
        config = edit_config(trained, model, tmp_path / dtype, method=method, dtype=dtype)
        trainer = run(config)
        assert trainer.distillation.denoiser.dtype == getattr(torch, dtype)
        assert {parameter.dtype for parameter in trainer.pipeline.model.parameters()} == {torch.float32}
        edit = NerfstudioScene.load(config.get_base_dir() / "config.yml")
        with torch.no_grad():
            pictures[dtype] = edit.render(edit.cameras[:2]).rgb
    changes = [float((pictures[dtype] - pictures["float32"]).abs().mean()) for dtype in pictures]
    source = NerfstudioScene.load(trained)
    with torch.no_grad():
        moved = float((source.render(source.cameras[:2]).rgb - pictures["float32"]).abs().mean())
    assert all(0 < change < moved for change in changes[1:])


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
        ({"method": "piva", "params": {"adapter": "controlnet"}}, "adapter=controlnet is not supported"),
        ({"params": {"learning_rate": "0.1"}}, "--pipeline.rate"),
        ({"params": {"field_learning_rate": "0.1"}}, "--pipeline.rate"),
        ({"params": {"guidance": "3"}}, "Did you mean guidance_scale"),
        ({"params": {"guidance_scale": "[3"}}, "guidance_scale"),
        ({"diffusion_model": "nowhere"}, "give --pipeline.diffusion-model"),
    ],
)
def test_ns_train_ends_with_one_line(trained, model, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as end:
        train(edit_config(trained, model, tmp_path, **options))
    assert end.value.code == 2
    said = capsys.readouterr()
    # Its configuration, which nerfstudio prints first, is indented.
    assert sum(message in line for line in said.out.splitlines() if not line.startswith(" ")) == 1
    assert "Traceback" not in said.out + said.err
