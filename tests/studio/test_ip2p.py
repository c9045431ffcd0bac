"""Pairs of pictures and edits, their instructions, and the training of the embedded InstructPix2Pix."""

import itertools
import json
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image

from piva_bench.diffusion.load import load_denoiser
from piva_bench.diffusion.stable_diffusion import InstructPix2Pix
from piva_bench.errors import DataError, ModelError
from piva_bench.studio import edit_pairs, evaluate_ip2p, timed_training, train_ip2p
from piva_bench.studio.captions import training_caption
from piva_bench.studio.edit_pairs import EDIT_TYPES, render_pairs, reserved, training_edits
from piva_bench.studio.evaluate_ip2p import evaluation_edits, judge
from piva_bench.studio.instructions import training_instruction
from piva_bench.studio.render import Renderer
from piva_bench.studio.scene import Scene, composition_key, held_out_pair, random_scene
from piva_bench.studio.shards import load_pairs
from piva_bench.studio.tokenizer import MAX_LENGTH, build_tokenizer
from piva_bench.studio.vocabulary import COLORS, FIXED_POSE, HEADS, POSES
from tests.tiny_sd import make_tiny_sd, tiny_sd

__all__ = ["tiny_sd"]


def some_edits(count, seed=0, held_out=()):
    return list(itertools.islice(training_edits(random.Random(seed), held_out), count))


def test_no_pair_shows_what_is_held_out_or_reserved():
    free = some_edits(300)
    held_out = {composition_key(edit.target) for edit in free[::7]}
    edits = some_edits(300, held_out=held_out)
    shown = [scene for edit in edits for scene in (edit.source, edit.target)]
    assert not held_out & {composition_key(scene) for scene in shown}
    assert not any(held_out_pair(scene) or reserved(scene) for scene in shown)
    assert all(scene.pose in FIXED_POSE.get(scene.object, POSES) for scene in shown)
    assert {edit.edit_type for edit in edits} == set(EDIT_TYPES)


def test_a_reserved_share_of_all_compositions_is_left_to_measure_on():
    rng = random.Random(0)
    share = np.mean([reserved(random_scene(rng)) for _ in range(4000)])
    assert share == pytest.approx(1 / edit_pairs.RESERVED_SHARE, abs=0.02)


def test_instructions_are_many_and_name_what_changes():
    rng = random.Random(1)
    horse = Scene("horse", color="blue", floor="grass", backdrop="brick")
    texts = {training_instruction(horse, horse.replace(color="red"), rng) for _ in range(200)}
    assert len(texts) > 30
    assert all("red" in text for text in texts)
    assert any(re.search(r"\bit\b", text) for text in texts)
    other = {training_instruction(horse, horse.replace(object="cup"), rng) for _ in range(100)}
    assert all("cup" in text and not re.search(r"\bit\b", text) for text in other)
    both = training_instruction(horse, horse.replace(color="red", accessory="top_hat"), rng)
    assert "red" in both
    assert "hat" in both
    for edit in some_edits(400):
        assert training_instruction(edit.source, edit.target, rng).strip()


def test_words_of_instructions_are_tokens_and_captions_keep_theirs(tmp_path):
    plain = build_tokenizer(tmp_path / "plain")
    ours = build_tokenizer(tmp_path / "more", train_ip2p.vocabulary_texts())
    rng = random.Random(7)
    for _ in range(100):
        caption = training_caption(random_scene(rng), rng)
        assert ours(caption).input_ids == plain(caption).input_ids
    assert ours.eos_token_id == plain.eos_token_id
    for edit in some_edits(200, seed=5):
        text = training_instruction(edit.source, edit.target, rng)
        assert len(ours(text).input_ids) == len(re.findall(r"\w+|[.,]", text)) + 2 <= MAX_LENGTH


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    patch = pytest.MonkeyPatch()
    patch.setattr(edit_pairs, "SHARD", 10)
    render_pairs(folder, 40, workers=1)
    patch.undo()
    return folder


def test_pairs_are_renders_of_their_scenes_equal_outside_the_mask(renders):
    pairs = load_pairs(renders)
    assert len(pairs.sources) == len(pairs.targets) == len(pairs.edits) == 40
    renderer = Renderer(64)
    for row in (0, 13, 39):
        for side, pictures in (("source", pairs.sources), ("target", pairs.targets)):
            assert np.array_equal(
                renderer.render(Scene.from_dict(pairs.edits[row][side])).image, pictures[row]
            )
    gap = np.abs(pairs.sources.astype(int) - pairs.targets.astype(int)).max(-1)
    assert gap[~pairs.masks].max() <= 8
    assert ((gap > 8).mean((1, 2)) >= edit_pairs.LEAST_SEEN).all()
    assert all(one[one > 8].mean() >= edit_pairs.LEAST_CHANGE for one in gap)
    assert all(len(edit["instructions"]) == 1 + edit_pairs.INSTRUCTIONS for edit in pairs.edits)


def test_a_lost_shard_is_rendered_again_to_the_same_bytes(renders, monkeypatch):
    monkeypatch.setattr(edit_pairs, "SHARD", 10)
    path = renders / "pair-00002.npz"
    before, others = load_pairs(renders), (renders / "pair-00001.npz").stat().st_mtime_ns
    path.unlink()
    render_pairs(renders, 40, workers=1)
    after = load_pairs(renders)
    assert np.array_equal(before.targets, after.targets)
    assert before.edits == after.edits
    assert (renders / "pair-00001.npz").stat().st_mtime_ns == others


def test_a_folder_without_pairs_says_what_makes_them(tmp_path):
    with pytest.raises(DataError, match="`piva-bench studio pairs`"):
        load_pairs(tmp_path)


@torch.no_grad()
def test_a_widened_unet_begins_as_the_model_it_was(tiny_sd):
    unet = UNet2DConditionModel.from_pretrained(tiny_sd / "unet")
    wide = train_ip2p.widened(unet)
    assert wide.config.in_channels == 2 * unet.config.in_channels
    x, image, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 5, 24)
    t = torch.tensor([10, 700])
    torch.testing.assert_close(wide(torch.cat([x, image], 1), t, text).sample, unet(x, t, text).sample)


def test_a_twentieth_goes_without_text_without_picture_and_without_both():
    text, image = train_ip2p.dropped(torch.Generator().manual_seed(0), 40_000)
    for rows in (text & ~image, image & ~text, text & image):
        assert float(rows.float().mean()) == pytest.approx(0.05, abs=0.005)


@pytest.fixture
def a_second_a_step(monkeypatch):
    """Training's clock, so that a budget is a number of steps however busy the machine is."""
    clock = itertools.count()
    monkeypatch.setattr(timed_training, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))


@pytest.mark.usefixtures("a_second_a_step")
def test_training_saves_what_diffusers_opens_goes_on_and_begins_with_its_own_weights(
    renders, tiny_sd, tmp_path, monkeypatch
):
    monkeypatch.setattr(train_ip2p, "BATCH", 2)
    out = tmp_path / "ip2p"
    report = train_ip2p.train(renders, tiny_sd, out, 0.1)
    assert report["steps"] == 6
    assert report["pairs"] < 40
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(out, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.config.in_channels == 8
    assert pipeline.unet.conv_in.weight[:, 4:].any(), "the picture is heeded now"
    picture = Image.fromarray(np.full((32, 32, 3), 90, np.uint8))
    assert pipeline("make it red", image=picture, num_inference_steps=2).images[0].size == (32, 32)
    denoiser = load_denoiser(out)
    assert isinstance(denoiser, InstructPix2Pix)
    torch.testing.assert_close(denoiser.schedule.alpha, load_denoiser(tiny_sd).schedule.alpha)
    assert "supervised editor" in (out / "README.md").read_text()
    assert train_ip2p.train(renders, tiny_sd, out, 0.15)["steps"] == 9
    with pytest.raises(ModelError, match="other settings"):
        train_ip2p.train(renders, make_tiny_sd(tmp_path / "other", seed=1), out, 1)
    (renders / "training" / "ip2p.pt").unlink()  # then it starts from the weights of the model that was
    last = train_ip2p.train(renders, tiny_sd, out, 0.1)
    assert last["steps"] == 9 + 6
    assert json.loads((out / "studio-report.json").read_text())["training"] == last


class Oracle:
    """Reads pictures as these scenes."""

    def __init__(self, scenes):
        self.scenes = scenes

    def __call__(self, x):
        logits = {head: torch.zeros(len(self.scenes), len(names)) for head, names in HEADS.items()}
        for row, scene in enumerate(self.scenes):
            for head, names in HEADS.items():
                logits[head][row, names.index(scene.attributes[head])] = 1
        return logits


def test_an_edit_is_followed_where_all_that_changes_reads_right_and_kept_where_the_rest_does():
    plain = Scene("horse", color="blue", floor="grass", backdrop="brick")
    red = plain.replace(color="red")
    hat = red.replace(accessory="top_hat")
    turned = plain.replace(yaw=180.0)
    images = np.zeros((4, 64, 64, 3), np.uint8)
    edits = [(plain, red), (plain, hat), (plain, red), (plain, turned)]
    followed, kept = judge(Oracle([red, red, red.replace(floor="sand"), turned]), images, edits)
    assert followed == [True, False, True, None]
    assert kept == pytest.approx(1 - 1 / (9 + 8 + 9 + 10))


def test_evaluation_edits_are_of_reserved_compositions_alone():
    shown = evaluation_edits(6, (), Renderer(64))
    assert all(reserved(one.spec.target) for one in shown)
    assert [one.spec.edit_type for one in shown] == list(EDIT_TYPES[:6])


def test_the_report_goes_into_the_card(renders, tiny_sd, tmp_path, monkeypatch):
    scenes = [Scene("horse", color=color) for color in list(COLORS)[:2]]
    out = tmp_path / "ip2p"
    monkeypatch.setattr(train_ip2p, "BATCH", 2)
    train_ip2p.train(renders, tiny_sd, out, 0.0001, resume=False)
    rows = {name: {"followed": 0.5, "kept": 0.25, "psnr": None} for name in ("edits", "exact edits")}
    evaluate_ip2p.update_instruction_report(
        out,
        evaluation={
            "instructions": len(scenes), "sampler": "DDIM 50", "guidance_scale": 7.5, "image_guidance_scale": 1.5,
            "rows": rows, "by_type": {"9_change_style": [0.5, 2]},
        },
    )  # fmt: skip
    card = (out / "README.md").read_text()
    assert "| exact edits | 0.500 | 0.250 |  |" in card
    assert "| 9_change_style | 0.500 | 2 |" in card
