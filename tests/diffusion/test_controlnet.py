"""The depth ControlNet: what it is shown, what it changes, and adapters that belong to one row each."""

import shutil

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st

from piva_bench.diffusion import aliases
from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.controlnet import ControlRows, DepthControl, depth_picture
from piva_bench.diffusion.load import load_denoiser
from piva_bench.errors import ModelError
from piva_bench.studio.train_controlnet import control_for
from tests.peft_reference import copy_weights, peft_model
from tests.tiny_sd import make_tiny_sd

RANK = 2
RELIEF = st.lists(st.floats(0.1, 100), min_size=4, max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ControlNet for the tiny model whose convolutions of zeros have learnt something."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = load_denoiser(make_tiny_sd(tmp_path_factory.mktemp("base") / "sd")).unet
        net = control_for(unet, 4)
        for name, values in net.named_parameters():
            if name.startswith("controlnet_") and not values.count_nonzero():
                values.data.normal_(std=0.1)
    path = tmp_path_factory.mktemp("control") / "depth"
    net.save_pretrained(path)
    return path


@pytest.fixture
def control(folder):
    return DepthControl.from_pretrained(folder)


@pytest.fixture
def inputs():
    return torch.randn(4, 4, 8, 8), torch.tensor([5, 300, 700, 999]), torch.randn(4, 77, 24)


@pytest.fixture
def depth():
    """Four bumps that differ, each with nothing at its left."""
    depth = 2 + torch.rand(4, 1, 32, 32)
    depth[..., :8] = 0
    return depth


def predict(unet, control, inputs, rows):
    noisy, t, embeds = inputs
    down, middle = control.residuals(noisy, t, Condition(embeds), rows)
    return unet(
        noisy, t, encoder_hidden_states=embeds, down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample  # fmt: skip


def adapters(control, rows):
    weights = control.lora().initial(torch.rand(rows, control.lora().a_numel(RANK)))
    return weights + 0.1 * torch.randn_like(weights)


@given(relief=RELIEF, unit=st.floats(0.01, 100))
def test_near_is_bright_whatever_the_unit(relief, unit):
    depth = torch.tensor([*relief, 0.0], dtype=torch.float64).view(1, 1, 1, 5)
    picture = depth_picture(depth)
    assert picture.shape == (1, 3, 1, 5)
    torch.testing.assert_close(picture, depth_picture(depth * unit))
    expected = torch.tensor([*(min(relief) / distance for distance in relief), 0.0])
    torch.testing.assert_close(picture[0, 0, 0].float(), expected)


def test_each_picture_is_stretched_by_itself():
    depth = torch.rand(2, 1, 4, 4) + 1
    both = depth_picture(depth)
    inverse = 1 / depth[1]
    expected = (inverse - inverse.min()) / (inverse.max() - inverse.min())
    torch.testing.assert_close(both[1, 0], expected[0])
    assert torch.equal(depth_picture(torch.cat([depth[:1] * 9, depth[1:]]))[1], both[1])


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_no_relief_is_far_everywhere(value):
    assert torch.equal(depth_picture(torch.full((1, 1, 4, 4), value)), torch.zeros(1, 3, 4, 4))


def test_an_untrained_control_changes_nothing(denoiser, inputs, depth, tmp_path):
    control_for(denoiser.unet, 4).save_pretrained(tmp_path)
    control = DepthControl.from_pretrained(tmp_path)
    noisy, t, embeds = inputs
    with torch.no_grad():
        expected = denoiser.unet(noisy, t, encoder_hidden_states=embeds).sample
        got = predict(denoiser.unet, control, inputs, ControlRows(depth))
    assert torch.equal(got, expected)


def test_the_encoder_is_copied_whole_heads_of_the_caption_s_reader_too():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=24, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, addition_embed_type="text", addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    ).eval()  # fmt: skip
    net = control_for(unet, 4).eval()
    seen = []
    for block in (unet.mid_block, net.mid_block):
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    noisy, t, embeds = torch.randn(2, 4, 8, 8), torch.tensor([10, 500]), torch.randn(2, 7, 24)
    with torch.no_grad():
        unet(noisy, t, encoder_hidden_states=embeds)
        # Its reading of the depth map starts as zeros: until then it is the UNet's own encoder.
        net(noisy, t, encoder_hidden_states=embeds, controlnet_cond=torch.rand(2, 3, 32, 32))
    assert torch.equal(*seen)


def test_rows_are_those_of_a_batch_of_one_and_each_depth_counts(denoiser, control, inputs, depth):
    weights = adapters(control, 4)
    with torch.no_grad():
        together = predict(denoiser.unet, control, inputs, ControlRows(depth, control.lora().rows(weights)))
        for row in range(4):
            only = slice(row, row + 1)
            single = tuple(part[only] for part in inputs)
            rows = ControlRows(depth[only], control.lora().rows(weights[only]))
            alone = predict(denoiser.unet, control, single, rows)
            torch.testing.assert_close(together[only], alone, atol=1e-5, rtol=1e-5)
            rows = ControlRows(depth[only].flip(-1), control.lora().rows(weights[only]))
            mirrored = predict(denoiser.unet, control, single, rows)
            assert (mirrored - alone).abs().max() > 1e-4


def test_each_row_s_adapter_is_pefts_on_attention_and_on_the_convolutions_it_speaks_through(
    control, folder, inputs, depth
):
    assert sum(name.startswith("controlnet_") for name in control.lora().names) == 5
    weights = adapters(control, 4)
    model = peft_model(ControlNetModel.from_pretrained(folder), control.lora(), RANK, ["one"])
    noisy, t, embeds = inputs
    with torch.no_grad():
        ours, middle = control.residuals(
            noisy, t, Condition(embeds), ControlRows(depth, control.lora().rows(weights))
        )
        for row in range(4):
            copy_weights(model, control.lora(), "one", weights[row])
            only = slice(row, row + 1)
            theirs, their_middle = model(
                noisy[only], t[only], encoder_hidden_states=embeds[only],
                controlnet_cond=depth_picture(depth[only]), return_dict=False,
            )  # fmt: skip
            for one, other in zip((*ours, middle), (*theirs, their_middle), strict=True):
                torch.testing.assert_close(one[only], other, atol=1e-5, rtol=1e-5)


def test_new_adapters_change_nothing(denoiser, control, inputs, depth):
    weights = control.lora().initial(torch.rand(4, control.lora().a_numel(RANK)))
    with torch.no_grad():
        expected = predict(denoiser.unet, control, inputs, ControlRows(depth))
        got = predict(denoiser.unet, control, inputs, ControlRows(depth, control.lora().rows(weights)))
    assert torch.equal(got, expected)


def test_gradient_reaches_the_adapters_alone_each_from_its_row(denoiser, control, inputs, depth):
    weights = adapters(control, 4).requires_grad_()
    prediction = predict(denoiser.unet, control, inputs, ControlRows(depth, control.lora().rows(weights)))
    prediction[2].square().sum().backward()
    assert weights.grad[2].count_nonzero() > 0.9 * weights.grad[2].numel()
    assert not weights.grad[[0, 1, 3]].any()
    for network in (denoiser.unet, control.net):
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_adapters_learn_with_the_control_what_it_does_not_know(denoiser, control, inputs, depth):
    noise = torch.randn_like(inputs[0])
    weights = control.lora().initial(torch.rand(4, control.lora().a_numel(RANK))).requires_grad_()
    optimizer = torch.optim.AdamW([weights], 1e-2)
    losses = []
    for _ in range(20):
        rows = ControlRows(depth, control.lora().rows(weights))
        loss = (predict(denoiser.unet, control, inputs, rows) - noise).square().sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.98 * losses[0]


def test_it_is_the_control_of_diffusers_own_pipeline(tiny_sd, folder, control, inputs, depth):
    """The pipeline's ControlNet, given our depth picture, answers as ours."""
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        tiny_sd, controlnet=ControlNetModel.from_pretrained(folder), safety_checker=None
    )
    noisy, t, embeds = inputs
    with torch.no_grad():
        theirs, middle = pipeline.controlnet(
            noisy, t, encoder_hidden_states=embeds, controlnet_cond=depth_picture(depth), return_dict=False
        )
        ours, our_middle = control.residuals(noisy, t, Condition(embeds), ControlRows(depth))
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(our_middle, middle)


def test_another_model_s_control_is_refused(denoiser, control, folder, tmp_path):
    control.check_fit(denoiser)
    net = ControlNetModel.from_pretrained(folder)
    other = ControlNetModel.from_config({**net.config, "cross_attention_dim": 32})
    other.save_pretrained(tmp_path / "wide")
    with pytest.raises(ModelError, match="cross_attention_dim is 32, the model's 24"):
        DepthControl.from_pretrained(tmp_path / "wide").check_fit(denoiser)
    other = ControlNetModel.from_config({**net.config, "conditioning_embedding_out_channels": (16, 32)})
    other.save_pretrained(tmp_path / "coarse")
    with pytest.raises(ModelError, match="2 times the size of the latents"):
        DepthControl.from_pretrained(tmp_path / "coarse").check_fit(denoiser)


def test_a_control_is_known_by_its_weights(control, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text("says nothing about the weights")
    assert DepthControl.from_pretrained(copy).fingerprint == control.fingerprint
    net = ControlNetModel.from_pretrained(copy)
    net.conv_in.bias.data[0] += 1
    net.save_pretrained(copy)
    assert DepthControl.from_pretrained(copy).fingerprint != control.fingerprint


def test_broken_folders_are_one_line(folder, tiny_sd, tmp_path):
    torn = shutil.copytree(folder, tmp_path / "torn")
    weights = torn / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for path in (tmp_path / "nowhere", torn, tiny_sd / "unet", tiny_sd):
        with pytest.raises(ModelError) as caught:
            DepthControl.from_pretrained(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_controls_are_found_by_name_or_path_and_pinned(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(aliases.ROOT_VARIABLE, str(tmp_path))
    assert aliases.locate_depth_control(str(folder)) == folder
    with pytest.raises(ModelError, match="models fetch sd-1.5-depth"):
        aliases.locate_depth_control("sd-1.5-depth")
    with pytest.raises(ModelError, match=r"studio-depth, sd-1\.5-depth"):
        aliases.locate_depth_control("sd-1.5-dept")
    copy = shutil.copytree(folder, tmp_path / "sd-1.5-depth")
    assert aliases.locate_depth_control("sd-1.5-depth") == copy
    for alias in aliases.CONTROLS.values():
        assert len(bytes.fromhex(alias.revision)) == 20
        assert alias.model in aliases.ALIASES
