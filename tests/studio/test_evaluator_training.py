import itertools
import json
import random

import numpy as np
import pytest
import torch

from piva_bench.errors import DataError, ModelError
from piva_bench.metrics.clip import SmallClip
from piva_bench.metrics.studio_classifier import StudioClassifier
from piva_bench.studio import timed_training, train_classifier, train_clip
from piva_bench.studio.augment import blur, degrade, quantise_blocks, shrink_and_grow
from piva_bench.studio.captions import Wording, caption, training_caption
from piva_bench.studio.scene import random_scene
from piva_bench.studio.shards import captions_of, held_out, load_shards
from piva_bench.studio.train_clip import Batches, contrastive_loss, hard_negative, rewordings
from piva_bench.studio.vocabulary import HEADS


def write_shard(folder, number, count=120):
    """Pictures whose colour bars spell the scene's attributes: learnable, and made in no time."""
    rng, noise = random.Random(number), np.random.default_rng(number)
    images, lines = [], []
    for _ in range(count):
        scene = random_scene(rng)
        image = noise.integers(100, 150, (64, 64, 3), dtype=np.uint8)
        for i, (head, names) in enumerate(HEADS.items()):
            image[:, 6 * i : 6 * i + 6] = np.array([37, 91, 151]) * names.index(scene.attributes[head]) % 256
        images.append(image)
        described = {"scene": scene.to_dict(), "caption": caption(scene)}
        lines.append(json.dumps({**described, "captions": [training_caption(scene, rng) for _ in range(2)]}))
    np.savez(folder / f"shard-{number:05d}.npz", images=np.stack(images), scenes=np.array(lines))


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("renders")
    for number in (0, 2):
        write_shard(folder, number)
    return folder


def test_shards_are_read_in_order_across_gaps_and_torn_ones_left_out(renders, tmp_path):
    images, scenes = load_shards(renders)
    assert images.shape == (240, 64, 64, 3)
    assert len(scenes) == 240
    with pytest.raises(DataError, match="no render shards"):
        load_shards(tmp_path)
    whole = (renders / "shard-00000.npz").read_bytes()
    (tmp_path / "shard-00000.npz").write_bytes(whole)
    (tmp_path / "shard-00001.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "shard-00002.npz").write_bytes(b"")
    with pytest.warns(UserWarning, match="shard-0000[12]"):
        assert len(load_shards(tmp_path)[1]) == 120


def test_a_picture_stays_on_its_side_of_the_split(renders):
    images, scenes = load_shards(renders)
    chosen = held_out(images)
    assert 0 < chosen.sum() < 40
    assert (held_out(images[::-1]) == chosen[::-1]).all()
    texts = captions_of(scenes[0])
    assert texts[0] == scenes[0]["caption"]
    assert len(texts) == len(set(texts))


def test_degradations_keep_shape_range_and_mean():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(9, 3, 64, 64, generator=generator) * 2 - 1
    result = degrade(images, generator)
    assert result.shape == images.shape
    assert result.abs().max() <= 1
    flat = torch.full((2, 3, 64, 64), 0.3)
    for unchanged in (
        blur(flat, 1.0),
        shrink_and_grow(flat, 0.6),
        quantise_blocks(flat, torch.full((2,), 0.3)),
    ):
        assert torch.allclose(unchanged, flat, atol=1e-5)
    assert torch.allclose(quantise_blocks(images, torch.zeros(9)), images, atol=1e-5)
    coarse = quantise_blocks(images, torch.full((9,), 0.5))
    before, after = (x.reshape(9, 3, 8, 8, 8, 8).mean((3, 5)) for x in (images, coarse))
    assert torch.allclose(before, after, atol=1e-5)
    assert not torch.allclose(images, coarse, atol=0.05)


@pytest.mark.parametrize("program", [train_classifier, train_clip])
def test_training_goes_on_where_it_was_and_writes_a_model(program, renders, tmp_path, monkeypatch):
    # A clock that ticks once at each look: every step takes one second.
    monkeypatch.setattr(timed_training.time, "monotonic", itertools.count().__next__)
    monkeypatch.setattr(timed_training, "LOG_STEPS", 1)
    monkeypatch.setattr(program, "BATCH_SIZE", 8)
    monkeypatch.setattr(program, "EVALUATED", 8)
    if program is train_clip:
        monkeypatch.setattr(program, "ZERO_SHOT", 2)
    out = tmp_path / f"{program.__name__}-out"
    first = program.train(renders, out, 2 / 60, seed=0, resume=False)
    second = program.train(renders, out, 4 / 60, seed=0, resume=True)
    assert (first["training"]["steps"], second["training"]["steps"]) == (2, 4)
    assert set(second["held_out"]) > {"pictures"}
    (renders / "training" / f"{out.name}.pt").rename(tmp_path / "put-away.pt")
    on = program.train(renders, out, 2 / 60, seed=0, resume=True)  # from the weights of the four steps
    assert on["training"]["steps"] == 6
    (tmp_path / "put-away.pt").rename(renders / "training" / f"{out.name}.pt")
    again = program.train(renders, out, 4 / 60, seed=0, resume=True)
    assert again["training"]["steps"] == second["training"]["steps"]
    assert again["held_out"] == second["held_out"]
    with pytest.raises(ModelError, match="other settings"):
        program.train(renders, out, 5 / 60, seed=1, resume=True)
    if program is train_classifier:
        model = StudioClassifier.load(out)
        (answer,) = model.predict(np.zeros((1, 64, 64, 3), np.uint8))
        assert all(value in HEADS[head] for head, value in answer.items())
    else:
        assert SmallClip.load(out).encode_texts(["a photo of a cup"]).shape == (1, 256)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ModelError, match="step 0"):
        timed_training.train_for(
            1.0,
            model=model,
            optimizer=optimizer,
            loss_at=lambda step: model(torch.ones(1, 1)).sum() * float("nan"),
            checkpoint=tmp_path / "c.pt",
            signature={},
            resume=False,
        )


def test_half_of_a_clip_batch_is_alike():
    rng = random.Random(0)
    scenes = [random_scene(rng) for _ in range(3000)]
    batch = Batches(scenes, np.arange(3000)).at(np.random.default_rng(0))
    half = [scenes[row].attributes for row in batch[: train_clip.BATCH_SIZE // 2]]
    assert any(len({attributes[head] for attributes in half}) == 1 for head in HEADS)
    assert len(batch) == train_clip.BATCH_SIZE


def test_equal_captions_share_the_right_answer():
    texts = torch.eye(3)[[0, 0, 2]]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    logits = 5.0 * torch.eye(3)[[0, 0, 2]] @ texts.T
    targets = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    expected = (
        torch.nn.functional.cross_entropy(logits, targets)
        + torch.nn.functional.cross_entropy(logits.T, targets)
    ) / 2
    loss = contrastive_loss(torch.eye(3)[[0, 0, 2]], texts, torch.tensor(5.0), same)
    assert loss.item() == pytest.approx(expected.item())


def test_captions_that_suit_no_picture_are_wrong_answers_to_each_picture_alone():
    images, texts = torch.eye(4)[:2], torch.eye(4)[[0, 1, 2]]  # two captions, and one that suits none
    same = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.bool)
    logits = 3.0 * images @ texts.T
    right = torch.arange(2)
    expected = (
        torch.nn.functional.cross_entropy(logits, right)
        + torch.nn.functional.cross_entropy(logits[:, :2].T, right)
    ) / 2
    assert contrastive_loss(images, texts, torch.tensor(3.0), same).item() == pytest.approx(expected.item())


def test_a_hard_negative_has_one_attribute_wrong():
    rng = random.Random(2)
    for _ in range(50):
        scene = random_scene(rng)
        right, wrong = hard_negative(scene, rng)
        assert right != wrong
        other = [set(text.split()) for text in (right, wrong)]
        assert other[0] & other[1], "the rest of the sentence is the same"


def test_rewordings_change_one_attribute_alone():
    rng = random.Random(1)
    scene = random_scene(rng)
    for head, names in HEADS.items():
        texts = rewordings(scene, head, Wording(), rng)
        assert tuple(texts) == names
        assert texts[scene.attributes[head]] == caption(scene)
        assert len(set(texts.values())) == len(names)


def test_a_classifier_folder_that_is_torn_is_one_line(tmp_path):
    StudioClassifier(HEADS, widths=(8, 8, 8, 8)).save(tmp_path, {})
    assert StudioClassifier.load(tmp_path).widths == (8, 8, 8, 8)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="attribute classifier"):
        StudioClassifier.load(tmp_path)
