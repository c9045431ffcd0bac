import shutil

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from piva_bench.diffusion.load import load_denoiser
from tests.tiny_sd import make_tiny_sd


@pytest.fixture(scope="module")
def pipeline(tiny_sd):
    return StableDiffusionPipeline.from_pretrained(tiny_sd)


def test_describes_the_model(denoiser):
    assert denoiser.resolution == 32
    assert denoiser.latent_channels == 4
    assert len(denoiser.schedule) == 1000
    assert denoiser.device == torch.device("cpu")
    assert denoiser.dtype == torch.float32
    networks = (denoiser.unet, denoiser.vae, denoiser.text_encoder)
    assert not any(weight.requires_grad for network in networks for weight in network.parameters())


def test_prompts_are_encoded_as_diffusers_does(denoiser, pipeline):
    prompts = ["a red cup", "", "word " * 200]
    expected = pipeline.encode_prompt(prompts, "cpu", 1, do_classifier_free_guidance=False)[0]
    torch.testing.assert_close(denoiser.condition(prompts).text, expected, atol=1e-5, rtol=0)


def test_a_prompts_embedding_does_not_depend_on_the_others(denoiser, tiny_sd):
    fresh = load_denoiser(tiny_sd)
    together = denoiser.condition(["a red cup", "a boat", "a red cup"]).text
    assert torch.equal(fresh.condition(["a red cup"]).text[0], together[0])
    assert torch.equal(together[0], together[2])


def test_prompts_encoded_in_inference_mode_can_be_trained_on(tiny_sd):
    fresh = load_denoiser(tiny_sd)
    with torch.inference_mode():
        fresh.condition(["a red cup"])
    assert not fresh.condition(["a red cup"]).text.is_inference()


def test_images_become_scaled_posterior_means_and_back(denoiser, pipeline):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = pipeline.vae.encode(images).latent_dist.mean * pipeline.vae.config.scaling_factor
        decoded = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
    latents = denoiser.encode_images(images)
    # Ours go one at a time, where sums are ordered otherwise than in a batch of two.
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(denoiser.decode_latents(latents), decoded, atol=1e-4, rtol=0)


def test_an_images_latents_are_the_same_alone_and_in_a_batch(denoiser):
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(denoiser.encode_images(images)[1:2], denoiser.encode_images(images[1:2]))


def test_noise_is_added_as_diffusers_does(denoiser, tiny_sd):
    scheduler = DDPMScheduler.from_pretrained(tiny_sd / "scheduler")
    latents, noise = torch.randn(2, 3, 4, 8, 8)
    t = torch.tensor([0, 500, 999])
    torch.testing.assert_close(
        denoiser.schedule.add_noise(latents, noise, t), scheduler.add_noise(latents, noise, t)
    )
    alpha, sigma = denoiser.schedule.alpha_sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(3, 1, 1, 1))


def test_v_predictions_become_noise_predictions(tmp_path):
    folder = make_tiny_sd(tmp_path / "sd", prediction_type="v_prediction")
    denoiser = load_denoiser(folder)
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    latents, noise = torch.randn(2, 3, 4, 8, 8)
    t = torch.tensor([3, 400, 990])
    velocity = scheduler.get_velocity(latents, noise, t)
    # A network that knows the true v must give the true noise.
    denoiser.unet.forward = lambda *args, **kwargs: type("Output", (), {"sample": velocity})
    predicted = denoiser.predict_noise(
        denoiser.schedule.add_noise(latents, noise, t), t, denoiser.condition([""] * 3)
    )
    torch.testing.assert_close(predicted, noise, atol=1e-5, rtol=0)


def test_half_precision_networks_keep_float32_latents(tiny_sd):
    half = load_denoiser(tiny_sd, dtype=torch.bfloat16)
    full = load_denoiser(tiny_sd)
    latents = half.encode_images(torch.zeros(1, 3, 32, 32))
    t = torch.tensor([300])
    noisy = torch.randn(1, 4, 8, 8)
    predicted = half.predict_noise(noisy, t, half.condition(["a cup"]))
    assert latents.dtype == predicted.dtype == half.decode_latents(latents).dtype == torch.float32
    expected = full.predict_noise(noisy, t, full.condition(["a cup"]))
    assert (predicted - expected).abs().max() < 0.1


def test_the_fingerprint_is_of_the_contents(tiny_sd, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_sd, copy)
    (copy / "README.md").write_text("not part of the model")
    original = load_denoiser(tiny_sd).fingerprint
    assert len(original) == 16
    assert load_denoiser(copy).fingerprint == original
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_denoiser(copy).fingerprint != original
