"""Editors by instruction against plain loops in float64, and what becomes of edits without one."""

import dataclasses
import itertools

import pytest
import torch
from diffusers import UNet2DConditionModel

from methods.instruct_nerf2nerf import FittedFieldParams, InstructNerf2Nerf
from methods.instruct_pix2pix import InstructPix2Pix
from piva_bench.conformance.tiny_model import make_tiny_ip2p, make_tiny_sd
from piva_bench.diffusion.load import load_denoiser
from piva_bench.distillation.field_edit import FieldEdit
from piva_bench.errors import ModelError, UserError
from piva_bench.profiles import INSTRUCTIONS
from piva_bench.session.noise import noise, timestep
from tests.distillation.scene_tasks import make_scene_tasks
from tests.methods.plain import STEPS, close, edited, grid
from tests.tiny_sd import make_tasks

ORDER = "make it blue"
S_T, S_I = 5.0, 1.7


@pytest.fixture(scope="module")
def instructed(tiny_sd, tmp_path_factory):
    """The tiny model in float64, its tiny InstructPix2Pix beside it."""
    folder = make_tiny_ip2p(tiny_sd, tmp_path_factory.mktemp("ip2p") / "model")
    model = load_denoiser(tiny_sd, dtype=torch.float64)
    model.put_beside(INSTRUCTIONS, load_denoiser(folder, dtype=torch.float64))
    return model


@pytest.fixture(scope="module")
def network(instructed):
    """The eight-channel UNet by itself: eps of noisy latents, unscaled latents of a picture and words."""
    other = instructed.beside[INSTRUCTIONS]
    unet = UNet2DConditionModel.from_pretrained(other.path / "unet", torch_dtype=torch.float64)

    def eps(x, image, t, words):
        text = instructed.condition([words]).text
        return unet(torch.cat([x, image], dim=1), torch.tensor([t]), encoder_hidden_states=text).sample

    return eps


def three_way(eps, x, z_src, t, scale):
    image = z_src / scale
    blind, seen, full = (
        eps(x, torch.zeros_like(image), t, ""),
        eps(x, image, t, ""),
        eps(x, image, t, ORDER),
    )
    return blind + S_I * (seen - blind) + S_T * (full - seen)


@torch.no_grad()
def test_instruct_pix2pix_is_its_loop(instructed, network, plain):
    scale = plain.vae.config.scaling_factor
    x = plain.noise(0, "noise")
    for t, to in itertools.pairwise([*grid(STEPS), None]):
        x = plain.ddim(x, three_way(network, x, plain.z_src, t, scale), t, to)
    task = dataclasses.replace(plain.task, instruction=ORDER)
    ours = edited(instructed, InstructPix2Pix, task, guidance_scale=S_T, image_guidance_scale=S_I)
    close(ours, plain.picture(x))


def test_guidance_of_one_and_one_is_the_plain_prediction_and_costs_three_rows(instructed):
    tasks = [dataclasses.replace(task, instruction=ORDER) for task in make_tasks(2)]
    method = InstructPix2Pix(InstructPix2Pix.Params(steps=3))
    assert [outcome.unet_evaluations for outcome in method.edit(tasks, instructed, 0)] == [9, 9]


def test_an_edit_without_an_instruction_fails_by_itself(instructed):
    first, second, third = make_tasks(3)
    told = [dataclasses.replace(task, instruction=ORDER) for task in (first, third)]
    method = InstructPix2Pix(InstructPix2Pix.Params(steps=2))
    outcomes = method.edit([told[0], dataclasses.replace(second, instruction=" "), told[1]], instructed, 0)
    assert [outcome.sample_id for outcome in outcomes] == ["sample-0", "sample-1", "sample-2"]
    assert outcomes[1].image is None
    assert "--instruction" in outcomes[1].reason
    for outcome, alone in zip(outcomes[::2], method.edit(told, instructed, 0), strict=True):
        assert torch.equal(outcome.image, alone.image)


def test_an_instruction_that_would_be_cut_fails_by_itself(instructed):
    # Tokens are letters here: 77 are read, beginning and end included.
    first, second = (
        dataclasses.replace(task, instruction=text)
        for task, text in zip(make_tasks(2), ("o" * 75, "o" * 76), strict=True)
    )
    method = InstructPix2Pix(InstructPix2Pix.Params(steps=2))
    fits, cut = method.edit([first, second], instructed, 0)
    assert fits.reason is None
    assert cut.reason == "the instruction has 78 tokens, of which the model reads 77: shorten it"


def test_a_model_of_other_latents_cannot_stand_beside(instructed, tmp_path):
    from diffusers import AutoencoderKL

    folder = make_tiny_ip2p(make_tiny_sd(tmp_path / "sd"), tmp_path / "ip2p")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    vae.register_to_config(scaling_factor=1.0)
    vae.save_pretrained(folder / "vae")
    with pytest.raises(ModelError, match="has not the latents of"):
        instructed.put_beside("other", load_denoiser(folder, dtype=torch.float64))


def scene_tasks(count, **params):
    return [
        dataclasses.replace(task, params=FittedFieldParams(field_room=1, **params), instruction=ORDER)
        for task in make_scene_tasks(count)
    ]


def in2n(**params):
    return InstructNerf2Nerf(
        InstructNerf2Nerf.Params(
            **{
                "steps": 4, "edit_every": 2, "diffusion_steps": 3, "lpips_weight": 0, "guidance_scale": S_T,
                "image_guidance_scale": S_I, **params,
            }
        )
    )  # fmt: skip


def test_a_view_is_edited_from_a_noise_level_of_its_own(instructed, network, plain, monkeypatch):
    (task,) = scene_tasks(1)
    shown = {}

    def keep(self, scene, index, seed, lpips):
        shown[index] = dict(scene.pictures)
        return 0.0  # the field stays: every view is rendered as the source's

    monkeypatch.setattr(InstructNerf2Nerf, "_fit", keep)
    in2n().edit_scenes([task], instructed, 0)
    assert [sorted(pictures) for pictures in shown.values()] == [[0], [0], [0, 1], [0, 1]]
    edit, scale = FieldEdit(task, "cpu"), plain.vae.config.scaling_factor
    for index, view in ((0, 0), (2, 1)):
        with torch.no_grad():
            now, source = (
                plain.vae.encode(picture.double() * 2 - 1).latent_dist.mode() * scale
                for picture in (
                    edit.show([view], index).pictures,
                    edit.show_source(view, index, task.sample_id).pictures,
                )
            )
            name = f"scene-0/view{view}"
            stride = timestep(0, name, index, range(20, 981), "t") // 3
            times = [2 * stride + 1, stride + 1, 1]
            x = (
                plain.a(times[0]) * now
                + plain.s(times[0]) * noise(0, name, index, "noise", now.shape[1:])[None]
            )
            for t, to in itertools.pairwise([*times, None]):
                x = plain.ddim(x, three_way(network, x, source, t, scale), t, to)
        expected = (plain.picture(x) + 1) / 2
        torch.testing.assert_close(shown[index][view], expected, atol=1e-5, rtol=0)


def test_the_field_moves_to_the_edited_views(instructed, monkeypatch):
    """Where the model's answer is one colour, the field takes that colour on."""
    green = torch.tensor([-1.0, 1.0, -1.0]).view(1, 3, 1, 1)
    monkeypatch.setattr(
        instructed, "decode_latents", lambda latents: green.expand(len(latents), 3, 32, 32).double()
    )
    (task,) = scene_tasks(1, field_learning_rate=0.3)
    (outcome,) = in2n(steps=60, edit_every=1, diffusion_steps=1).edit_scenes([task], instructed, 0)
    solid = task.field.density > 0.5
    surface = solid & (task.field.nodes().norm(dim=-1) > 0.5)
    red, green_part, _ = outcome.field.colour[:, surface].mean(dim=1)
    before = task.field.colour[:, surface].mean(dim=1)
    assert green_part > before[1] + 0.3
    assert red < before[0] - 0.3
    assert torch.equal(task.field.raw, make_scene_tasks(1)[0].field.raw), "the source stays"


def test_scenes_do_not_see_their_batch_and_cost_their_predictions(instructed):
    tasks = scene_tasks(2)
    told = []
    together = in2n().edit_scenes(tasks, instructed, 0, told.append)
    (alone,) = in2n().edit_scenes(tasks[1:], instructed, 0)
    torch.testing.assert_close(together[1].field.raw, alone.field.raw, atol=1e-4, rtol=0)
    assert together[1].unet_evaluations == alone.unet_evaluations == 2 * 3 * 3
    assert [progress.index for progress in told] == [0, 1, 2, 3]
    assert len(together[0].views) == len(tasks[0].turntable)
    silent = dataclasses.replace(tasks[0], instruction="")
    outcomes = in2n().edit_scenes([silent, tasks[1]], instructed, 0)
    assert outcomes[0].views is None
    assert "--instruction" in outcomes[0].reason
    assert torch.equal(outcomes[1].field.raw, alone.field.raw)


def test_pictures_are_refused_in_one_line(instructed):
    with pytest.raises(UserError, match="take instruct_pix2pix"):
        in2n().edit(make_tasks(1), instructed, 0)
