"""Training the evaluator CLIP on renders and captions; nothing of the generator goes in."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from piva_bench.errors import ModelError
from piva_bench.metrics.clip import CONFIG, UNKNOWN, WEIGHTS, CompactTokenizer, SmallClip
from piva_bench.studio.augment import degrade
from piva_bench.studio.captions import Wording, caption
from piva_bench.studio.data_parallel import leave_the_rest_to_the_first
from piva_bench.studio.scene import Scene
from piva_bench.studio.shards import captions_of, held_out, load_shards
from piva_bench.studio.timed_training import earlier_training, half_precision, say, train_for
from piva_bench.studio.vocabulary import COLORS, HEADS

BATCH_SIZE = 128
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.1
UNKNOWN_RATE = 0.01
MAX_LOGIT_SCALE = 4.6052  # ln 100, the bound of the CLIP paper (arXiv 2103.00020, section 2.5)
RETRIEVAL_BATCH = 64
EVALUATED = 2048
ZERO_SHOT = 512
CHANGED_HEADS = {"object": 3.0, "pose": 2.0, "material": 2.0}
"""How much oftener than the others an attribute is the one that a hard negative has wrong: those hardest to see."""


def model_config(token_ids: Sequence[int], vocab_size: int) -> dict[str, Any]:
    """A CLIP for 64 px: open_clip's modified ResNet and a three-layer text transformer, 4.6M parameters."""
    return {
        "model_cfg": {
            "embed_dim": 256,
            "vision_cfg": {"image_size": 64, "layers": [2, 2, 2, 2], "width": 24, "head_width": 64},
            "text_cfg": {
                "context_length": 48,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 3,
            },
        },
        "preprocess_cfg": {"size": 64, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "token_ids": list(token_ids),
    }


class Batches:
    """Which pictures make up a step's batch: half at random, half alike.

    The alike half shares one attribute value (all barrels, all at night ...), drawn anew every step, so that
    the model must tell pictures apart by what remains.
    """

    def __init__(self, scenes: Sequence[Scene], rows: np.ndarray) -> None:
        self.rows = rows
        self.groups: dict[str, list[np.ndarray]] = {}
        for head in HEADS:
            values = np.array([scenes[row].attributes[head] for row in rows])
            self.groups[head] = [rows[values == value] for value in np.unique(values)]

    def at(self, rng: np.random.Generator) -> np.ndarray:
        """Row numbers of one batch."""
        groups = self.groups[str(rng.choice(list(self.groups)))]
        alike = groups[int(rng.integers(len(groups)))]
        half = min(BATCH_SIZE // 2, len(alike))
        return np.concatenate(
            [rng.choice(alike, half, replace=False), rng.choice(self.rows, BATCH_SIZE - half)]
        )


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy; captions that read the same are right answers in equal parts.

    Args:
        images: unit embeddings [N, D].
        texts: unit embeddings [M, D] of the pictures' captions, and after them of captions that suit none.
        scale: factor on the cosines.
        same: bool [N, M], whether caption j reads as picture i's does (the diagonal does).
    """
    logits, captions = scale * images @ texts.T, len(images)
    targets = same.float() / same.sum(1, keepdim=True)
    own = same[:, :captions].float() / same[:, :captions].sum(1, keepdim=True)
    rows = -(targets * logits.log_softmax(1)).sum(1).mean()
    columns = -(own * logits[:, :captions].T.log_softmax(1)).sum(1).mean()
    return (rows + columns) / 2


def hard_negative(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A caption of the scene, and the same caption with one attribute wrong.

    Captions that differ in one word are what an edit's score has to tell apart, and what pictures drawn at random
    hardly ever show: NegCLIP's hard negatives (arXiv 2210.01936, section 4), for every attribute of the studio.
    """
    wording = Wording.random(rng)
    (head,) = rng.choices(list(HEADS), [CHANGED_HEADS.get(head, 1.0) for head in HEADS])
    texts = rewordings(scene, head, wording, rng)
    wrong = rng.choice([value for value in texts if value != scene.attributes[head]])
    return caption(scene, wording), texts[wrong]


def retrieval(clip: SmallClip, images: np.ndarray, texts: Sequence[str]) -> dict[str, float]:
    """Recall at 1 in batches of 64, both ways; a caption equal to the right one counts as right."""
    to_text = to_image = count = 0
    for start in range(0, len(images) - RETRIEVAL_BATCH + 1, RETRIEVAL_BATCH):
        rows = slice(start, start + RETRIEVAL_BATCH)
        batch = list(texts[rows])
        cosines = clip.encode_images(images[rows]) @ clip.encode_texts(batch).T
        to_text += sum(batch[j] == batch[i] for i, j in enumerate(cosines.argmax(1).tolist()))
        to_image += sum(batch[j] == batch[i] for i, j in enumerate(cosines.argmax(0).tolist()))
        count += RETRIEVAL_BATCH
    if not count:
        return {}
    return {"image_to_text": round(to_text / count, 4), "text_to_image": round(to_image / count, 4)}


def rewordings(scene: Scene, head: str, wording: Wording, rng: random.Random) -> dict[str, str]:
    """The scene's caption with every value of one attribute in turn: value to caption."""
    texts = {}
    for value in HEADS[head]:
        if head == "color":
            other = scene.replace(color=None if value == "natural" else value)
        elif head == "second":
            color = None if value == "none" else scene.second_color or rng.choice(list(COLORS))
            other = scene.replace(second=value, second_color=color)
        else:
            other = scene.replace(**{head: value})
        texts[value] = caption(other, wording)
    return texts


def zero_shot(clip: SmallClip, images: np.ndarray, scenes: Sequence[Scene]) -> dict[str, float]:
    """Per attribute, the share of pictures whose own caption beats the same caption with any other value."""
    rng = random.Random(0)
    embedded = clip.encode_images(images)
    result = {}
    for head in HEADS:
        hits = 0
        for image, scene in zip(embedded, scenes, strict=True):
            texts = rewordings(scene, head, Wording.random(rng), rng)
            best = int((clip.encode_texts(list(texts.values())) @ image).argmax())
            hits += list(texts)[best] == scene.attributes[head]
        result[head] = round(hits / len(scenes), 4)
    return result


def train(renders: Path, out: Path, minutes: float, seed: int = 0, resume: bool = True) -> dict[str, Any]:
    """Train on the shards in ``renders`` for ``minutes`` and write the model to ``out``.

    The checkpoint lies in ``renders/training/``; with ``resume`` (the default) the minutes of earlier runs
    count, and without a checkpoint training starts from the weights in ``out`` if there are any. A picture in
    25 is held out. Returns the report that is also written into
    ``open_clip_config.json``: retrieval among 64 and zero-shot attribute accuracy on held-out pictures.

    Raises:
        DataError: no readable shards.
        ModelError: the checkpoint belongs to other settings, or training diverged.
    """
    images, described = load_shards(renders)
    captions, scenes = [captions_of(d) for d in described], [Scene.from_dict(d["scene"]) for d in described]
    evaluation = held_out(images)
    trainable, kept = np.flatnonzero(~evaluation), np.flatnonzero(evaluation)[:EVALUATED]
    say(f"{len(trainable)} pictures to train on, {len(kept)} held out")
    token_ids = CompactTokenizer.tokens_of(text for texts in captions for text in texts)
    torch.manual_seed(seed)
    checkpoint = renders / "training" / f"{out.name}.pt"
    config = model_config(token_ids, len(token_ids) + UNKNOWN + 1)
    if resume and not checkpoint.exists() and (out / WEIGHTS).exists():
        say(f"no checkpoint: starting from the weights in {out}")
        clip = SmallClip.load(out)
        if any(clip.config[name] != config[name] for name in config):
            raise ModelError(f"the model in {out} has another shape or vocabulary: train with --no-resume")
        earlier = earlier_training(json.loads((out / CONFIG).read_text()).get("training", {}))
        clip.config = config  # without the report of the training before
    else:
        clip, earlier = SmallClip(config), (0, 0.0)
    batches = Batches(scenes, trainable)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in clip.parameters() if p.ndim >= 2]},
        {"params": [p for p in clip.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = batches.at(rng)
        own = [captions[row][int(rng.integers(len(captions[row])))] for row in rows]
        wording = random.Random(f"clip-{seed}-{step}")
        # Half the pictures with a caption as it was written, half with one that a wrong one stands beside.
        pairs = [hard_negative(scenes[row], wording) for row in rows[::2]]
        own[::2] = [right for right, _ in pairs]
        texts = own + [wrong for _, wrong in pairs]
        tokens = clip.tokenizer(texts)
        words = (tokens > UNKNOWN) & (tokens < clip.tokenizer.vocab_size - 2)
        tokens[words & (torch.rand(tokens.shape, generator=generator) < UNKNOWN_RATE)] = UNKNOWN
        pixels = (degrade(2 * clip.preprocess(images[rows]) - 1, generator) + 1) / 2
        clip.model.logit_scale.data.clamp_(0, MAX_LOGIT_SCALE)
        numbers = {text: i for i, text in enumerate(texts)}
        label = torch.tensor([numbers[text] for text in texts])
        with half_precision():
            seen, read = clip.embed_pixels(pixels), clip.model.encode_text(tokens, normalize=True)
        scale = clip.model.logit_scale.exp()
        return contrastive_loss(seen.float(), read.float(), scale, label[: len(rows), None] == label[None])

    steps, seconds = train_for(
        minutes,
        model=clip,
        optimizer=optimizer,
        loss_at=loss_at,
        earlier=earlier,
        checkpoint=checkpoint,
        signature={"model": str(clip.config["model_cfg"]), "tokens": str(token_ids), "seed": seed},
        resume=resume,
    )
    processes = leave_the_rest_to_the_first()
    # Judge what is shipped: the weights after their rounding to fp16.
    clip.save(out, {})
    shipped = SmallClip.load(out)
    some = kept[:ZERO_SHOT]
    report = {
        "training": {"pictures": len(trainable), "steps": steps, "batch_size": BATCH_SIZE * processes,
                     "minutes": round(seconds / 60, 1), "seed": seed},
        "held_out": {
            "pictures": len(kept),
            "retrieval_at_1_of_64": retrieval(shipped, images[kept], [captions[row][0] for row in kept]),
            "zero_shot": zero_shot(shipped, images[some], [scenes[row] for row in some]),
        },
    }  # fmt: skip
    clip.save(out, report)
    return report
