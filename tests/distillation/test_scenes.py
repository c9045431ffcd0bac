"""Scenes in the engine: what they show, how they follow a gradient, and whole edits by rules against loops by hand."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st

from methods.counterfactual import Counterfactual
from methods.dds import DDS
from methods.identity import Identity
from methods.piva import Piva
from methods.vae_roundtrip import VaeRoundtrip
from piva_bench.diffusion import autoencoder
from piva_bench.distillation.field_edit import FieldEdit
from piva_bench.distillation.scenes import SceneViews, choose_views
from piva_bench.errors import UserError
from piva_bench.scene.cameras import Cameras
from piva_bench.scene.field import RadianceField
from piva_bench.scene.params import FieldEditParams
from piva_bench.scene.regularisers import density_variation
from piva_bench.session.noise import noise, timestep, uniform
from tests.distillation.scene_tasks import make_scene_tasks
from tests.tiny_sd import make_tasks


class Linear:
    """A stand-in for a denoiser's encoder: linear, a quarter of the size, four channels."""

    device = torch.device("cpu")

    def section(self, name):
        return contextlib.nullcontext()

    def encode(self, pictures):
        mix = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.3, 0.3]])
        small = torch.nn.functional.avg_pool2d(pictures, 4)
        return torch.einsum("cd,vdhw->vchw", mix, small)

    encode_images = encode


def scene_views(tasks, seed=0):
    edits = [FieldEdit(task, "cpu") for task in tasks]
    return edits, SceneViews(edits, Linear(), tasks[0].params.views, seed)


@pytest.mark.parametrize(("size", "expected"), [(0, (32, 16)), (32, (32, 16)), (64, (64, 32)), (20, (16, 8))])
def test_views_have_the_size_that_is_asked_for_and_show_the_same(size, expected):
    (task,) = make_scene_tasks(1, view_size=size, background="scene", field_room=0)
    lens = task.cameras.intrinsics - np.array([0, 0, 0, 8])  # the middle of the picture
    wide = dataclasses.replace(
        task,
        cameras=Cameras(task.cameras.camera_to_world, lens, 32, 16),
        backgrounds=torch.linspace(0, 1, 32).expand(6, 3, 16, 32),
    )
    shown = FieldEdit(wide, "cpu").show([0, 3], 0).pictures
    assert shown.shape == (2, 3, *expected[::-1])
    plain = dataclasses.replace(wide, params=FieldEditParams(background="scene", field_room=0))
    usual = FieldEdit(plain, "cpu").show([0, 3], 0).pictures
    small = torch.nn.functional.interpolate(usual, (8, 16), mode="area")
    assert (torch.nn.functional.interpolate(shown, (8, 16), mode="area") - small).abs().mean() < 0.03


def test_the_size_of_views_is_part_of_the_key_where_it_is_named():
    usual, larger = (
        FieldEditParams().recorded(),
        FieldEditParams(view_size=128, fit_resolution=128).recorded(),
    )
    assert "view_size" not in usual
    assert "growth" not in usual
    assert larger == usual | {"view_size": 128, "fit_resolution": 128, "growth": "1"}


def test_an_edit_follows_a_gradient_of_its_latents_and_leaves_the_source_alone():
    tasks = make_scene_tasks(2, field_learning_rate=0.2, field_room=0)
    kept = [task.field.raw.detach().clone() for task in tasks]
    edits, views = scene_views(tasks)
    for step in range(30):
        seen = views.observe(step)
        assert seen.latents.shape == seen.source_latents.shape == (4, 4, 8, 8)
        with torch.inference_mode():  # as the engine moves edits
            wanted = seen.source_latents.clone()
            wanted -= torch.tensor([0, 0.5, 0, 0.15]).view(1, 4, 1, 1)  # less green
            views.step(seen.latents - wanted)
    for task, edit, raw in zip(tasks, edits, kept, strict=True):
        assert torch.equal(task.field.raw, raw)
        before, after = (field.render_views(task.turntable) for field in (task.field, edit.field))
        solid = before.silhouettes & after.silhouettes
        change = after.images[solid].astype(int) - before.images[solid]
        assert change[:, 1].mean() < -30
        assert change[:, 1].mean() < change[:, 0].mean() - 40


def test_every_view_of_a_step_has_a_background_of_its_own_and_shares_it_with_its_source():
    (task,) = make_scene_tasks(1)
    edit = FieldEdit(task, "cpu", seed=5)
    edit.field.raw.data[:, 1:] += 1  # so that edit and source differ where there is something
    corners = {}
    for step in (0, 1):
        shown = edit.show([0, 3], step).pictures
        for row, view in enumerate((0, 3)):
            source = edit.show_source(view, step, "scene-0").pictures[0]
            corners[step, view] = shown[row, :, 0, 0]
            drawn = uniform(5, f"scene-0/view{view}", step, "edit/background", (3,))
            torch.testing.assert_close(shown[row, :, 0, 0], drawn)
            torch.testing.assert_close(source[:, 0, 0], drawn)
            assert not torch.allclose(shown[row], source)
    assert len({tuple(colour.tolist()) for colour in corners.values()}) == 4
    again = FieldEdit(task, "cpu", seed=5)
    assert torch.equal(again.show([3], 1).pictures[0, :, 0, 0], corners[1, 3])
    (kept,) = make_scene_tasks(1, background="scene")
    assert (FieldEdit(kept, "cpu").show([0], 1).pictures[0, :, 0, 0] == 1).all()


def test_a_still_source_is_encoded_once_and_a_restless_one_at_every_step():
    for background, expected in (("scene", True), ("random", False)):
        _, views = scene_views(make_scene_tasks(1, views=6, background=background))
        first, second = (views.observe(step) for step in (0, 1))
        order = [np.argsort(seen.names) for seen in (first, second)]
        same = torch.equal(first.source_latents[order[0]], second.source_latents[order[1]])
        assert same == expected


def test_a_part_painted_like_the_wall_is_gone_before_that_wall_alone():
    """An edit cannot win by a colour: with random backgrounds being unseen costs opacity itself."""
    loss = {}
    for background in ("scene", "random"):
        (task,) = make_scene_tasks(1, background=background, views=6)
        edit, bare = FieldEdit(task, "cpu"), FieldEdit(task, "cpu")
        edit.field.raw.data[0, 1:] = 12  # white, as the scene's place is
        bare.field.raw.data[0, 0] = -30  # nothing there
        shown = [
            torch.cat([one.show(list(range(6)), step).pictures for step in range(3)]) for one in (edit, bare)
        ]
        loss[background] = (shown[0] - shown[1]).square().mean().item()
    assert loss["scene"] < 1e-3
    assert loss["random"] > 0.02


def test_a_zero_gradient_moves_nothing_and_step_needs_a_look_first():
    tasks = make_scene_tasks(1, field_room=0)
    (edit,), views = scene_views(tasks)
    with pytest.raises(RuntimeError, match="observe"):
        views.step(torch.zeros(2, 4, 8, 8))
    seen = views.observe(0)
    torch.testing.assert_close(seen.latents, seen.source_latents)
    views.step(torch.zeros_like(seen.latents))
    assert torch.equal(edit.field.raw, tasks[0].field.raw)


def test_an_edit_can_grow_into_its_room_and_no_further():
    params = {"field_room": 2, "field_learning_rate": 1.0, "field_epsilon": 1e-8, "outside": 0}
    (task,) = make_scene_tasks(1, **params)
    (edit,), views = scene_views([task])
    room = edit.field.open & ~task.field.open
    assert room.any()
    for step in range(25):
        seen = views.observe(step)
        views.step(seen.latents + 1)  # towards a darkness beyond black
    assert edit.field.density[room].max() > 0.5
    assert edit.field.density[~edit.field.open].max() == 0


def test_regularisers_act_beside_the_gradient():
    names = ("colour_variation", "density_variation", "sparsity", "half_transparency", "outside")
    (task,) = make_scene_tasks(1, **dict.fromkeys(names, 1.0))
    (edit,), views = scene_views([task])
    before = density_variation(edit.field)
    for step in range(5):
        views.step(torch.zeros_like(views.observe(step).latents))
    assert density_variation(edit.field) < before
    assert edit.field.raw.isfinite().all()


@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(0, 40))
def test_views_are_a_function_of_seed_and_step_and_have_their_turns(seed, wanted, extra):
    count = wanted + extra
    steps = count // wanted
    rounds = [
        sum((choose_views(seed, r * steps + i, count, wanted) for i in range(steps)), ()) for r in (0, 1)
    ]
    for seen in rounds:
        assert len(set(seen)) == steps * wanted  # nothing twice in a round
        assert set(seen) <= set(range(count))
    assert choose_views(seed, 3, count, wanted) == choose_views(seed, 3, count, wanted)


def test_more_views_than_there_are_is_one_clear_line(denoiser):
    with pytest.raises(UserError, match="views=7: scene-0 has 6"):
        DDS(DDS.Params(steps=1)).edit_scenes(make_scene_tasks(1, views=7), denoiser, 0)


def test_gradients_pass_through_the_autoencoder(denoiser):
    """`encode` is `encode_images` with a gradient, which is held against finite differences."""
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(denoiser.encode(pictures), denoiser.encode_images(pictures))
    direction, pull = torch.randn_like(pictures), torch.randn(2, 4, 8, 8)
    leaf = pictures.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((denoiser.encode(leaf) * pull).sum(), leaf)
    step = 1e-2
    there, back = (denoiser.encode_images(pictures + sign * step * direction) for sign in (1, -1))
    expected = ((there - back) * pull).sum() / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(expected.item(), rel=0.02)


def test_views_are_encoded_in_parts_with_the_same_gradients_and_a_share_of_the_memory(denoiser, monkeypatch):
    pictures, pull = torch.rand(6, 3, 32, 32) * 2 - 1, torch.randn(6, 4, 8, 8)

    def encode(together):
        monkeypatch.setattr(autoencoder, "TOGETHER", together)
        leaf, kept = pictures.clone().requires_grad_(), []

        def note(tensor):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            latents = denoiser.encode(leaf)
        held = sum(kept)
        (gradient,) = torch.autograd.grad((latents * pull).sum(), leaf)
        return latents.detach(), gradient, held

    whole, parts, each = (encode(32 * 32 * count) for count in (6, 4, 1))
    for other in (parts, each):
        torch.testing.assert_close(other[0], whole[0])
        torch.testing.assert_close(other[1], whole[1], rtol=1e-4, atol=1e-6)
        assert other[2] < 0.1 * whole[2]


def dds_by_hand(folder, denoiser, task, params, seed):
    """One scene, one view after the other, on diffusers' own classes."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")

    @torch.no_grad()
    def guided(noisy, t, prompt):
        null, told = (
            unet(noisy, t, encoder_hidden_states=denoiser.condition([text]).text).sample
            for text in ("", prompt)
        )
        return null + params.guidance_scale * (told - null)

    edit = FieldEdit(task, "cpu")
    follow = {"lr": task.params.field_learning_rate, "eps": task.params.field_epsilon}
    adam = torch.optim.Adam([edit.field.raw], betas=(0.9, 0.99), **follow)
    scale = vae.config.scaling_factor
    for step in range(params.steps):
        adam.zero_grad()
        for view in choose_views(seed, step, 6, task.params.views):
            name = f"scene-0/view{view}"
            behind = uniform(seed, name, step, "edit/background", (3,)).tolist()
            shown, source = (
                field.render(task.cameras[[view]]).over(behind) * 2 - 1 for field in (edit.field, task.field)
            )
            latents, known = (vae.encode(x).latent_dist.mode() * scale for x in (shown, source))
            t = torch.tensor([timestep(seed, name, step, range(params.t_min, params.t_max + 1), "edit/t")])
            eps = noise(seed, name, step, "edit/noise", latents.shape[1:])[None]
            side = task.cameras.view_names[view]
            prompts = task.side_prompts.get(side, (task.source_prompt, task.target_prompt))

            x, x_source = (scheduler.add_noise(z, eps, t).detach() for z in (latents, known))
            gradient = guided(x, t, prompts[1]) - guided(x_source, t, prompts[0])
            (latents * gradient).sum().div(task.params.views).backward()
        adam.step()
    return edit.field


def test_dds_on_a_scene_is_the_loop_by_hand(denoiser, tiny_sd):
    (task,) = make_scene_tasks(1, field_learning_rate=0.1, field_room=1, outside=0)
    params = DDS.Params(steps=4)
    by_hand = dds_by_hand(tiny_sd, denoiser, task, params, seed=3)
    (outcome,) = DDS(params).edit_scenes([task], denoiser, 3)
    assert outcome.reason is None
    assert outcome.unet_evaluations == 4 * 2 * 4  # steps, views, null and prompt of edit and source
    moved = (by_hand.raw - task.field.raw).abs()
    difference = (outcome.field.raw - by_hand.raw).abs()
    # Adam divides by the gradient's size, which blows up rounding where a gradient is almost zero.
    assert difference[:, 1:].mean() < 0.02 * moved[:, 1:].mean()
    pictures = outcome.field.render_views(task.turntable), by_hand.render_views(task.turntable)
    assert np.abs(pictures[0].images.astype(int) - pictures[1].images).mean() < 0.5
    assert np.array_equal(outcome.views.images, pictures[0].images)


def test_scenes_of_a_batch_do_not_know_each_other(denoiser):
    tasks = make_scene_tasks(3, field_learning_rate=0.1)
    broken = dataclasses.replace(tasks[1], field=type(tasks[1].field)(tasks[1].field.grid))
    broken.field.raw.data.fill_(float("nan"))
    method = Piva(Piva.Params(steps=3, lora_learning_rate=0.01))
    alone = [method.edit_scenes([task], denoiser, 1)[0] for task in (tasks[0], tasks[2])]
    together = method.edit_scenes([tasks[0], broken, tasks[2]], denoiser, 1)
    assert "diverged at step 0" in together[1].reason
    assert together[1].views is None
    for one, among in zip(alone, (together[0], together[2]), strict=True):
        assert np.abs(one.views.images.astype(int) - among.views.images).mean() < 0.5
        assert one.trace["loss"] == pytest.approx(among.trace["loss"], rel=1e-3)
        assert one.trace["adapter_loss"] == pytest.approx(among.trace["adapter_loss"], rel=1e-3)
        assert one.unet_evaluations == among.unet_evaluations
    assert not np.array_equal(alone[0].views.images, tasks[0].field.render_views(tasks[0].turntable).images)


def test_piva_at_weight_0_is_dds_on_scenes_too(denoiser):
    (task,) = make_scene_tasks(1)
    piva = Piva(Piva.Params(steps=2, preservation_weight=0)).edit_scenes([task], denoiser, 0)[0]
    dds = DDS(DDS.Params(steps=2)).edit_scenes([task], denoiser, 0)[0]
    assert torch.equal(piva.field.raw, dds.field.raw)


def test_view_prompts_can_be_left_out():
    (task,) = make_scene_tasks(1, view_prompts=False)
    told = FieldEdit(dataclasses.replace(task, params=type(task.params)()), "cpu")
    silent = FieldEdit(task, "cpu")
    back = task.cameras.view_names.index("back")
    assert told.prompts(back) == ("a red cup from behind", "a blue cup from behind")
    assert silent.prompts(back) == ("a red cup", "a blue cup")


def test_references_show_the_source_and_the_truth(denoiser):
    (task,) = make_scene_tasks(1)
    truth = task.field.render_views(task.turntable)
    (same,) = Identity(Identity.Params()).edit_scenes([task], denoiser, 0)
    assert np.array_equal(same.views.images, truth.images)
    (none,) = Counterfactual(Counterfactual.Params()).edit_scenes([task], denoiser, 0)
    assert "no counterfactual" in none.reason
    known = dataclasses.replace(task, reference=truth)
    (true,) = Counterfactual(Counterfactual.Params()).edit_scenes([known], denoiser, 0)
    assert true.views is truth
    with pytest.raises(UserError, match="vae_roundtrip edits pictures, not 3D scenes"):
        VaeRoundtrip(VaeRoundtrip.Params()).edit_scenes([task], denoiser, 0)
    assert "scenes" in DDS.kinds
    assert "scenes" not in VaeRoundtrip.kinds


def test_a_depth_controlnet_needs_depth_and_to_be_there(denoiser):
    params = Piva.Params(steps=1, adapter="controlnet")
    with pytest.raises(UserError, match="no depth ControlNet"):
        Piva(params).edit_scenes(make_scene_tasks(1), denoiser, 0)
    with pytest.raises(UserError, match="depth"):
        Piva(params).edit(make_tasks(1), denoiser, 0)


def test_noise_in_the_air_becomes_no_fog():
    """Gradients that pull to and fro leave the room clear by default; with Adam's own epsilon it fills."""

    def fog(**params):
        (task,) = make_scene_tasks(1, field_room=2, **params)
        (edit,), views = scene_views([task])
        room = edit.field.open & ~task.field.open
        generator = torch.Generator().manual_seed(0)
        for step in range(20):
            seen = views.observe(step)
            views.step(0.01 * torch.randn(seen.latents.shape, generator=generator))
        return edit.field.density[room].mean().item()

    assert fog() < 0.8 * fog(field_epsilon=1e-8, outside=0)


@pytest.mark.parametrize("background", [(0, 0, 0), (1, 1, 1), (0.5, 0.2, 0.8)])
def test_room_to_grow_is_invisible_until_something_grows_there(background):
    (task,) = make_scene_tasks(1, field_room=8)
    edit = FieldEdit(task, "cpu")
    assert (edit.field.open & ~edit.source.open).sum() > 300
    shown = edit.field.render(task.cameras)
    before = task.field.render(task.cameras)
    error = (shown.over(background) - before.over(background)).square().mean()
    assert -10 * error.log10() >= 45
    room = edit.field.open & ~edit.source.open
    assert (edit.field.density[room] == 0).all()
    # A gradient is felt there all the same.
    shown.alpha.sum().backward()
    assert (edit.field.raw.grad[0, 0][room] > 1e-3).float().mean() > 0.5


def test_the_floor_of_an_edit_is_kept_in_its_file(tmp_path):
    (task,) = make_scene_tasks(1, field_room=2)
    edited = FieldEdit(task, "cpu").field
    edited.save(tmp_path / "edit.safetensors")
    task.field.save(tmp_path / "source.safetensors")
    read = RadianceField.load(tmp_path / "edit.safetensors")
    assert read.floor == edited.floor > 0 == RadianceField.load(tmp_path / "source.safetensors").floor
    assert torch.allclose(read.density, edited.density, atol=1e-2)
