"""Depth beside the shards, and the training of the depth ControlNet on tiny settings."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from piva_bench.diffusion.controlnet import DepthControl
from piva_bench.diffusion.load import load_denoiser
from piva_bench.errors import DataError, ModelError
from piva_bench.studio import timed_training, train_controlnet
from piva_bench.studio.render_training import render_training
from piva_bench.studio.shards import load_depth, load_masks, load_shards
from piva_bench.studio.train_controlnet import Lessons, train
from tests.tiny_sd import make_tiny_sd, tiny_sd

__all__ = ["tiny_sd"]


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("renders")
    render_training(folder, 40, workers=1)
    return folder


def test_depth_is_where_the_masks_are(renders):
    depth, masks = load_depth(renders, 40), load_masks(renders)
    assert depth.shape == masks.shape == (40, 64, 64)
    # A mask is by majority of samples, depth by the one at the centre.
    assert np.mean((depth > 0) == masks) > 0.995
    assert depth[depth > 0].min() > 2
    assert depth.max() < 4.5


def test_missing_depth_is_one_line_and_added_by_rendering_again(renders):
    shard = (renders / "shard-00000.npz").read_bytes()
    depth = load_depth(renders, 40)
    (renders / "depth-00000.npz").unlink()
    with pytest.raises(DataError, match="the depth of 0; `piva-bench studio render` adds the rest"):
        load_depth(renders, 40)
    render_training(renders, 40, workers=1)
    assert np.array_equal(load_depth(renders, 40), depth)
    assert (renders / "shard-00000.npz").read_bytes() == shard


def test_depth_is_mirrored_as_the_latents_are(renders, tiny_sd):
    lessons = Lessons(renders, load_denoiser(tiny_sd))
    pictures = torch.from_numpy(load_shards(renders)[0]).permute(0, 3, 1, 2) / 127.5 - 1
    for row in (0, 1):
        seen, depth = pictures[row], torch.from_numpy(load_depth(renders, 40)[row])
        if row % 2:
            seen, depth = seen.flip(-1), depth.flip(-1)
        assert torch.equal(lessons.depth[row, 0], depth)
        latents = lessons.denoiser.encode_images(seen[None])[0]
        torch.testing.assert_close(lessons.latents[row].float(), latents, atol=2e-3, rtol=2e-3)


@pytest.fixture
def a_second_a_step(monkeypatch):
    """Training's clock, so that a budget is a number of steps however busy the machine is."""
    clock = itertools.count()
    monkeypatch.setattr(timed_training, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))


@pytest.mark.usefixtures("a_second_a_step")
def test_training_saves_a_control_of_the_model_goes_on_and_knows_its_model(
    renders, tiny_sd, tmp_path, monkeypatch
):
    monkeypatch.setattr(train_controlnet, "BATCH", 2)
    out = tmp_path / "depth"
    report = train(renders, tiny_sd, out, 0.1)
    assert report["steps"] == 6
    control, denoiser = DepthControl.from_pretrained(out), load_denoiser(tiny_sd)
    control.check_fit(denoiser)
    assert any(part.any() for part in control.net.controlnet_mid_block.parameters())
    assert control.net.config.conditioning_embedding_out_channels == [16, 32, 96]
    assert json.loads((out / "studio-report.json").read_text()) == report
    assert str(report["held_out_loss"]["other_depth"]) in (out / "README.md").read_text()
    assert train(renders, tiny_sd, out, 0.15)["steps"] == 9
    other = make_tiny_sd(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="other settings"):
        train(renders, other, out, 1)
    with pytest.raises(ModelError, match="was trained for the model"):
        control.check_fit(load_denoiser(other))
    (renders / "training" / "depth.pt").unlink()  # then it starts from the weights of the model that was
    assert train(renders, other, out, 0.1)["steps"] == 9 + 6
    DepthControl.from_pretrained(out).check_fit(load_denoiser(other))


def test_the_report_tells_a_control_that_reads_depth(renders, tiny_sd):
    lessons = Lessons(renders, load_denoiser(tiny_sd))
    lessons.kept = np.arange(8)
    torch.manual_seed(0)
    net = train_controlnet.control_for(lessons.denoiser.unet, 4)
    untrained = lessons.report(net)
    assert untrained["depth"] == untrained["other_depth"] == untrained["no_depth"]
    net.controlnet_cond_embedding.conv_out.weight.data.normal_()
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        block.weight.data.normal_()
    random = lessons.report(net)
    assert len(set(random.values())) == 3
    assert random["no_depth"] == untrained["no_depth"]
