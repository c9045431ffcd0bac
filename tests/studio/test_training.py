"""The trainings on tiny settings: what they save opens, what is killed goes on."""

import itertools
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTokenizer

from piva_bench.studio import timed_training, train_autoencoder, train_diffusion, train_text
from piva_bench.studio.captions import caption, training_caption
from piva_bench.studio.ema import WithAverage
from piva_bench.studio.evaluate_diffusion import evaluation_scenes, obedience, sample_pictures
from piva_bench.studio.scene import composition_key, random_scene, training_scenes
from piva_bench.studio.shards import load_masks, load_shards
from piva_bench.studio.tokenizer import MAX_LENGTH, build_tokenizer
from piva_bench.studio.vocabulary import HEADS


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    """Two small shards of noise with real scenes and captions."""
    folder = tmp_path_factory.mktemp("renders")
    rng = np.random.default_rng(0)
    scenes = training_scenes(0, 60, ())
    for n in range(2):
        part = scenes[30 * n : 30 * (n + 1)]
        lines = [json.dumps({"scene": s.to_dict(), "caption": caption(s), "captions": []}) for s in part]
        masks = np.zeros((30, 64, 64), bool)
        masks[:, 20:40, 20:40] = True
        np.savez(
            folder / f"shard-{n:05d}.npz",
            images=rng.integers(0, 255, (30, 64, 64, 3), dtype=np.uint8),
            masks=np.packbits(masks, axis=-1),
            scenes=np.array(lines),
        )
    return folder


def test_masks_come_in_the_order_of_the_pictures(renders):
    images, scenes = load_shards(renders)
    masks = load_masks(renders)
    assert len(images) == len(scenes) == len(masks) == 60
    assert masks[0].sum() == 400


@pytest.fixture(scope="module")
def model(renders, tmp_path_factory):
    """A Stable Diffusion folder trained for seconds on noise, with small networks."""
    patch = pytest.MonkeyPatch()
    small = {**train_autoencoder.CONFIG, "block_out_channels": (4, 8, 8)}
    patch.setattr(train_autoencoder, "CONFIG", small)
    patch.setattr(train_autoencoder, "BATCH_CROPS", 2)
    patch.setattr(train_autoencoder, "BATCH_WHOLE", 2)
    patch.setattr(train_diffusion, "UNET", {**train_diffusion.UNET, "block_out_channels": (16, 16, 16)})
    patch.setattr(train_diffusion, "BATCH", 2)
    patch.setattr(train_diffusion, "TEXT_MINUTES", 0.01)
    folder = tmp_path_factory.mktemp("model") / "studio-sd"
    report = train_autoencoder.train(renders, folder / "vae", 0.02)
    assert np.isfinite(report["psnr"])
    yield folder, train_diffusion.train(renders, folder, 0.03)
    patch.undo()


def test_the_trained_folder_is_an_ordinary_stable_diffusion(model):
    folder, report = model
    assert report["steps"] > 0
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    assert pipeline.unet.config.in_channels == pipeline.vae.config.latent_channels
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert {p.suffix for p in folder.rglob("*model*") if p.stat().st_size > 10_000} == {".safetensors"}
    pictures = sample_pictures(folder, ["a photo of a red horse on sand"], 3.0)
    assert pictures.shape == (1, 64, 64, 3)


def test_latents_are_scaled_to_unit_deviation(model, renders):
    folder, _ = model
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    x = train_autoencoder.to_input(load_shards(renders)[0])
    with torch.inference_mode():
        latents = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1, abs=0.05)


def test_training_goes_on_where_it_stopped(model, renders):
    folder, report = model
    more = train_diffusion.train(renders, folder, report["minutes"] + 0.15)
    assert more["steps"] > report["steps"]
    (renders / "training" / "diffusion.pt").unlink()
    assert train_diffusion.train(renders, folder, 0)["steps"] == more["steps"], "those behind the weights"


def test_every_caption_word_is_one_token_and_any_text_has_tokens(tmp_path):
    build_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    rng = random.Random(5)
    for _ in range(300):
        text = training_caption(random_scene(rng), rng)
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.split()) + 2 <= MAX_LENGTH
    strange = tokenizer("an astronaut on Mars, 100 % \u00e9l\u00e9gant \U0001f600")["input_ids"]
    assert tokenizer.eos_token_id not in strange[1:-1]


def test_the_text_encoder_learns_to_read(tmp_path, monkeypatch):
    """120 steps beat guessing on what every caption says in few words."""
    ticks = itertools.count(step=0.03)  # a step takes two looks at the clock
    monkeypatch.setattr(timed_training, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    tokenizer = build_tokenizer(tmp_path)
    torch.manual_seed(0)
    net = train_diffusion.TextToNoise(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    report = train_text.train_text(net.text, tokenizer, MAX_LENGTH, tmp_path / "text.pt", 120 * 0.03 / 60)
    assert set(report) == set(train_text.QUESTIONS)
    assert report["floor"] > 1.25 / len(HEADS["floor"])


def test_answers_are_the_scene_s_own():
    scene = random_scene(random.Random(3)).replace(second="ball", second_color="pink", floor="sand")
    named = dict(zip(train_text.QUESTIONS, train_text.answers(scene), strict=True))
    assert train_text.QUESTIONS["second_color"][named["second_color"]] == "pink"
    assert HEADS["floor"][named["floor"]] == "sand"
    assert HEADS["object"][named["object"]] == scene.object


def test_the_average_follows_the_network():
    net = torch.nn.Linear(3, 3)
    both = WithAverage(net, decay=0.5)
    before = both.average.weight.clone()
    with torch.no_grad():
        net.weight += 1
    for _ in range(30):
        both.update()
    assert torch.allclose(both.average.weight, before + 1, atol=1e-3)
    assert not any(p.requires_grad for p in both.average.parameters())


def test_timesteps_cover_the_schedule_and_prefer_the_noisy_half():
    t = train_diffusion.draw_timesteps(torch.Generator().manual_seed(0), 10_000)
    assert int(t.min()) == 0
    assert int(t.max()) == 999
    assert float((t >= 500).float().mean()) == pytest.approx(train_diffusion.NOISY_SHARE, abs=0.01)


def test_what_the_generator_gets_wrong_is_drawn_more_often():
    scene = random_scene(random.Random(0)).replace(
        object="cup", pose="upright", material="wood", print="none", style="photo"
    )
    scenes = [
        scene,
        scene.replace(material="plain"),
        scene.replace(style="sepia"),
        scene.replace(object="lamp"),
    ]
    rates = train_diffusion.drawing_rates([{"scene": s.to_dict()} for s in scenes])
    often = train_diffusion.MATERIAL_WEIGHT
    assert rates.tolist() == [often, 1, 1, often * train_diffusion.HARD_OBJECT_WEIGHT]


def test_evaluation_prompts_are_new_compositions():
    known = {composition_key(s) for s in training_scenes(0, 300, ())}
    assert not known & {composition_key(s) for s in evaluation_scenes(50, 300)}


def test_obedience_counts_colour_only_where_it_shows():
    scenes = [
        random_scene(random.Random(0)).replace(color="red", style=s) for s in ("photo", "sketch", "photo")
    ]

    class Oracle:
        """Reads the first picture right and the others as the first class of every head."""

        def __call__(self, x):
            logits = {head: torch.zeros(3, len(names)) for head, names in HEADS.items()}
            for head, names in HEADS.items():
                logits[head][0, names.index(scenes[0].attributes[head])] = 1
                logits[head][1:, 0] = 1
            return logits

    report = obedience(Oracle(), np.zeros((3, 64, 64, 3), np.uint8), scenes)
    assert report["color"] == 0.5
