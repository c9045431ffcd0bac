"""Every kind of model, in its smallest form, against diffusers' own pipeline or the definition."""

import dataclasses
import json

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from methods.dds import DDS
from methods.dnaedit import DNAEdit
from methods.drfs import DRFS
from methods.edit_friendly import EditFriendly
from methods.flowalign import FlowAlign
from methods.flowedit import FlowEdit
from methods.infedit import InfEdit
from methods.irfds import IRFDS
from methods.leditspp import LEditsPP
from methods.masactrl import MasaCtrl
from methods.p2p import P2P
from methods.piva import Piva
from methods.pnp import PnP
from methods.rf_inversion import RFInversion
from methods.sdedit import SDEdit
from methods.vae_roundtrip import VaeRoundtrip
from piva_bench.diffusion.load import load_denoiser
from piva_bench.diffusion.rectified_flow import Flux, StableDiffusion3
from piva_bench.diffusion.stable_diffusion import InstructPix2Pix
from piva_bench.errors import ModelError
from piva_bench.session.predictor import Predictor
from piva_bench.session.query import Query
from piva_bench.session.session import Session
from tests.rows import rows_of
from tests.tiny_sd import make_tasks, make_tiny_ip2p, make_tokenizer


@pytest.fixture(scope="module")
def ip2p_folder(tmp_path_factory, tiny_sd):
    """The tiny Stable Diffusion with a UNet that also takes the source's latents."""
    return make_tiny_ip2p(tiny_sd, tmp_path_factory.mktemp("ip2p") / "model")


def flow_vae():
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def clip(tokenizer, projected):
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=16, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(words):
    torch.manual_seed(1)
    return T5EncoderModel(T5Config(vocab_size=words, d_model=32, d_kv=8, d_ff=24, num_layers=1, num_heads=2))


@pytest.fixture(scope="module", params=[False, True], ids=["no T5", "T5"])
def sd3_folder(tmp_path_factory, request):
    """SD3's own classes, with T5 and without (as its own users often run it)."""
    root = tmp_path_factory.mktemp("sd3")
    torch.manual_seed(0)
    tokenizer = make_tokenizer(root / "words")
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=24,
    )  # fmt: skip
    StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), flow_vae(), clip(tokenizer, True), tokenizer,
        clip(tokenizer, True), tokenizer, *((t5(len(tokenizer)), tokenizer) if request.param else (None, None)),
    ).save_pretrained(root / "model")  # fmt: skip
    return root / "model"


@pytest.fixture(scope="module", params=[False, True], ids=["schnell", "dev"])
def flux_folder(tmp_path_factory, request):
    """FLUX's own classes; "dev" takes its guidance as an input."""
    root = tmp_path_factory.mktemp("flux")
    torch.manual_seed(0)
    tokenizer = make_tokenizer(root / "words")
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=request.param, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    pipeline = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), flow_vae(), clip(tokenizer, False), tokenizer, t5(len(tokenizer)), tokenizer,
        transformer,
    )  # fmt: skip
    pipeline.save_pretrained(root / "model")
    return root / "model"


def session_of(denoiser, side=16):
    torch.manual_seed(0)
    z_src, z = torch.randn(2, 2, denoiser.latent_channels, side, side)
    return Session(rows_of(denoiser, make_tasks(2), z_src, z), Predictor(denoiser))


@torch.no_grad()
def test_instruct_pix2pix_is_its_three_way_guidance(ip2p_folder):
    denoiser = load_denoiser(ip2p_folder)
    assert isinstance(denoiser, InstructPix2Pix)
    session = session_of(denoiser, 8)
    noisy = session.noisy("edit", 400, session.random(0).noise("x"))
    ours = session.predict({"x": Query(noisy, "instruction", (7.5, 1.5))})["x"]
    text, null = (denoiser.condition([words]).text.repeat(2, 1, 1) for words in ("", ""))
    image = session.source_latents / denoiser.vae.config.scaling_factor

    def eps(states, picture):
        x = torch.cat([noisy.latents, picture], dim=1)
        return denoiser.network(x, noisy.t, encoder_hidden_states=states).sample

    full, seen, blind = eps(text, image), eps(null, image), eps(null, torch.zeros_like(image))
    torch.testing.assert_close(ours, blind + 7.5 * (full - seen) + 1.5 * (seen - blind), atol=1e-4, rtol=1e-4)


def test_eight_channels_are_refused_where_a_text_to_image_model_is_claimed(ip2p_folder, tmp_path):
    import shutil

    shutil.copytree(ip2p_folder, tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionPipeline"
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="8 channels"):
        load_denoiser(tmp_path / "model")


@torch.no_grad()
def test_sd3_predicts_the_noise_of_its_velocity(sd3_folder):
    denoiser = load_denoiser(sd3_folder)
    assert isinstance(denoiser, StableDiffusion3)
    assert (denoiser.resolution, denoiser.latent_channels, denoiser.schedule.shift) == (32, 4, 3.0)
    session = session_of(denoiser)
    noisy = session.noisy("edit", torch.tensor([250, 800]), session.random(0).noise("x"))
    s = torch.tensor([0.25, 0.8]).view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy.latents, (1 - s) * session.latents + s * noisy.noise)
    eps = session.predict({"x": Query(noisy, "target")})["x"]
    pipeline = denoiser.pipeline
    text, _, pooled, _ = pipeline.encode_prompt(
        *[list(session.target_prompts)] * 3, do_classifier_free_guidance=False
    )
    velocity = pipeline.transformer(
        noisy.latents,
        encoder_hidden_states=text,
        pooled_projections=pooled,
        timestep=torch.tensor([250.0, 800.0]),
    ).sample
    torch.testing.assert_close(noisy.velocity(eps), velocity, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_flux_predicts_the_noise_of_its_velocity(flux_folder):
    denoiser = load_denoiser(flux_folder)
    assert isinstance(denoiser, Flux)
    session = session_of(denoiser)
    noisy = session.noisy("edit", torch.tensor([250, 800]), session.random(0).noise("x"))
    eps = session.predict({"x": Query(noisy, "target", 3.5)})["x"]
    pipeline = FluxPipeline.from_pretrained(flux_folder)
    transformer = pipeline.transformer

    def velocity(prompts, scale):
        text, pooled, text_ids = pipeline.encode_prompt(list(prompts))
        packed = pipeline._pack_latents(noisy.latents, 2, 4, 16, 16)
        places = pipeline._prepare_latent_image_ids(2, 8, 8, "cpu", torch.float32)
        output = transformer(
            packed, text, pooled, torch.tensor([0.25, 0.8]), places, text_ids, scale, return_dict=False
        )[0]
        return pipeline._unpack_latents(output, 32, 32, 2)

    if denoiser.distilled_guidance:
        expected = velocity(session.target_prompts, torch.full((2,), 3.5))
        assert session._predictor.evaluations == 1
    else:
        null = velocity([""] * 2, None)
        expected = null + 3.5 * (velocity(session.target_prompts, None) - null)
        assert session._predictor.evaluations == 2
    torch.testing.assert_close(noisy.velocity(eps), expected, atol=1e-4, rtol=1e-4)


ON_FLOWS = [
    DDS, Piva, DRFS, FlowAlign, SDEdit, FlowEdit, RFInversion, DNAEdit, IRFDS, EditFriendly, InfEdit,
]  # fmt: skip


def edit_with(folder, method):
    denoiser = load_denoiser(folder)
    params = {"steps": 4} | ({"n_max": 3} if method is FlowEdit else {})
    for outcome in method(method.Params(**params)).edit(make_tasks(2), denoiser, 0):
        assert outcome.reason is None
        assert outcome.image.shape == (3, 32, 32)


@pytest.mark.parametrize("method", ON_FLOWS)
def test_rules_and_samplers_edit_with_sd3(sd3_folder, method):
    edit_with(sd3_folder, method)


@pytest.mark.parametrize("method", ON_FLOWS)
def test_rules_and_samplers_edit_with_flux(flux_folder, method):
    edit_with(flux_folder, method)


@pytest.mark.parametrize("method", [P2P, PnP, MasaCtrl, LEditsPP])
def test_editors_of_attention_say_that_a_flow_has_none_of_theirs(sd3_folder, method):
    with pytest.raises(ModelError, match="edits with Stable Diffusion's UNets only"):
        edit_with(sd3_folder, method)


@pytest.mark.parametrize("method", [RFInversion, DNAEdit])
def test_flow_editors_that_are_held_to_the_source_give_it_back(sd3_folder, method):
    # SD3's own velocities on its own shifted grid: what the way out adds, the way in takes back.
    denoiser = load_denoiser(sd3_folder, dtype=torch.float64)
    held = {
        RFInversion: {"eta": 1, "steered": 1},
        DNAEdit: {"velocity_share": 1, "source_guidance_scale": 3.5},
    }
    tasks = [dataclasses.replace(task, target_prompt=task.source_prompt) for task in make_tasks(2)]
    outcomes = method(method.Params(steps=5, guidance_scale=3.5, **held[method])).edit(tasks, denoiser, 0)
    back = VaeRoundtrip(VaeRoundtrip.Params()).edit(tasks, denoiser, 0)
    for ours, theirs in zip(outcomes, back, strict=True):
        torch.testing.assert_close(ours.image, theirs.image, atol=1e-6, rtol=0)


def test_pictures_go_through_a_shifted_autoencoder(sd3_folder):
    denoiser = load_denoiser(sd3_folder)
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    vae = denoiser.autoencoder.vae
    with torch.no_grad():
        latents = (vae.encode(picture).latent_dist.mode() - 0.06) * 1.5
        torch.testing.assert_close(denoiser.encode_images(picture), latents)
        back = vae.decode(latents / 1.5 + 0.06).sample.clamp(-1, 1)
        torch.testing.assert_close(denoiser.decode_latents(latents), back)


def test_a_missing_part_of_a_flow_is_named(sd3_folder, tmp_path):
    import shutil

    shutil.copytree(sd3_folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "text_encoder_2")
    with pytest.raises(ModelError, match="lacks text_encoder_2"):
        load_denoiser(tmp_path / "model")


def test_of_several_text_encoders_the_one_that_reads_most_counts(sd3_folder, flux_folder):
    import inspect

    from diffusers import FluxPipeline, StableDiffusion3Pipeline

    from piva_bench.runs.prompts import T5_LENGTHS, PromptReader

    has_t5 = (sd3_folder / "text_encoder_3").is_dir()
    assert PromptReader.of_model(sd3_folder).length == (256 if has_t5 else 77)  # of two CLIPs
    assert PromptReader.of_model(flux_folder).length == 512
    for pipeline in (StableDiffusion3Pipeline, FluxPipeline):
        default = inspect.signature(pipeline.encode_prompt).parameters["max_sequence_length"].default
        assert T5_LENGTHS[pipeline.__name__] == default
