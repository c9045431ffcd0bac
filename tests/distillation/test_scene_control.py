"""Piva's scores as depth ControlNets on a scene, against diffusers' own ControlNet and UNet."""

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from methods.piva import Piva
from piva_bench.diffusion.controlnet import DepthControl, depth_picture
from piva_bench.diffusion.load import load_denoiser
from piva_bench.distillation.field_edit import FieldEdit
from piva_bench.distillation.scenes import choose_views
from piva_bench.session.noise import noise, timestep
from piva_bench.studio.train_controlnet import control_for
from tests.distillation.scene_tasks import make_scene_tasks


@pytest.fixture
def controlled(tiny_sd, tmp_path):
    """The tiny model with a ControlNet that says something."""
    denoiser = load_denoiser(tiny_sd)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = control_for(denoiser.unet, 4)
        for name, values in net.named_parameters():
            if name.startswith("controlnet_") and not values.count_nonzero():
                values.data.normal_(std=0.1)
    net.save_pretrained(tmp_path / "depth")
    denoiser.attach_depth_control(DepthControl.from_pretrained(tmp_path / "depth"))
    return denoiser, ControlNetModel.from_pretrained(tmp_path / "depth").eval()


@torch.no_grad()
def test_both_scores_see_the_depth_of_the_edit_and_learn_with_it(controlled, tiny_sd):
    denoiser, net = controlled
    unet = UNet2DConditionModel.from_pretrained(tiny_sd / "unet").eval()
    (task,) = make_scene_tasks(1, view_prompts=False)
    params = Piva.Params(steps=3, adapter="controlnet", lora_learning_rate=0.01)
    (outcome,) = Piva(params).edit_scenes([task], denoiser, 5)
    assert outcome.reason is None

    edit, expected = FieldEdit(task, "cpu", seed=5), []
    for view in choose_views(5, 0, 6, 2):
        shown = edit.show([view], 0)
        latents, name = denoiser.encode_images(shown.pictures * 2 - 1), f"scene-0/view{view}"
        t = torch.tensor([timestep(5, name, 0, range(params.t_min, params.t_max + 1), "edit/t")])
        noisy = denoiser.schedule.add_noise(
            latents, noise(5, name, 0, "edit/noise", latents.shape[1:])[None], t
        )
        assert (shown.depth > 0).any()
        scores = []
        for prompt in (task.source_prompt, task.target_prompt):
            embeds = denoiser.condition([prompt]).text
            down, middle = net(
                noisy, t, embeds, controlnet_cond=depth_picture(shown.depth), return_dict=False
            )
            score = unet(
                noisy, t, embeds, down_block_additional_residuals=down, mid_block_additional_residual=middle
            )
            scores.append(score.sample)
        expected.append((scores[0] - scores[1]).square().mean().sqrt())
    # New adapters change nothing, so the first step's scores are the ControlNet's own.
    assert outcome.trace["regulariser"][0] == pytest.approx(float(sum(expected) / 2), rel=1e-3)
    assert outcome.trace["regulariser"][1] != pytest.approx(outcome.trace["regulariser"][0], rel=1e-3)


def test_fused_training_sees_the_depth_too(controlled):
    denoiser, _ = controlled
    tasks = make_scene_tasks(2)
    params = Piva.Params(steps=2, adapter="controlnet", fused_training=True)
    outcomes = Piva(params).edit_scenes(tasks, denoiser, 5)
    assert [outcome.reason for outcome in outcomes] == [None, None]
    # A step's rows for each of two views: DDS's four, one of psi's score; one that phi is scored and trained by, and
    # one that trains psi.
    assert outcomes[0].unet_evaluations == 2 * 2 * 7
