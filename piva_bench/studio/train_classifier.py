"""Training the attribute classifier on renders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from piva_bench.metrics.studio_classifier import CONFIG, WEIGHTS, StudioClassifier, to_input
from piva_bench.studio.augment import blur, degrade
from piva_bench.studio.data_parallel import leave_the_rest_to_the_first
from piva_bench.studio.scene import Scene
from piva_bench.studio.shards import held_out, load_shards
from piva_bench.studio.timed_training import earlier_training, half_precision, say, train_for
from piva_bench.studio.vocabulary import HEADS

BATCH_SIZE = 96
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.05
EVALUATED = 4000


def labels_of(scenes: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The class index of every head, int64 [N] each."""
    attributes = [Scene.from_dict(scene["scene"]).attributes for scene in scenes]
    return {head: torch.tensor([names.index(a[head]) for a in attributes]) for head, names in HEADS.items()}


@torch.inference_mode()
def accuracy(
    model: StudioClassifier,
    images: np.ndarray,
    labels: dict[str, Tensor],
    view: Callable[[Tensor], Tensor] = lambda images: images,
) -> dict[str, float]:
    """Share of right answers per head, and of pictures read right on every head (``all``).

    ``view`` is applied to the network's input first (a blur, say). Of no pictures nothing is said.
    """
    if not len(images):
        return {}
    right: dict[str, list[Tensor]] = {head: [] for head in labels}
    for start in range(0, len(images), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        for head, logits in model(view(to_input(images[rows]))).items():
            right[head].append(logits.argmax(1) == labels[head][rows])
    hits = {head: torch.cat(parts) for head, parts in right.items()}
    everything = torch.stack(list(hits.values())).all(0)
    return {k: round(v.float().mean().item(), 4) for k, v in {**hits, "all": everything}.items()}


def train(renders: Path, out: Path, minutes: float, seed: int = 0, resume: bool = True) -> dict[str, Any]:
    """Train on the shards in ``renders`` for ``minutes`` and write the classifier to ``out``.

    The checkpoint lies in ``renders/training/``; with ``resume`` (the default) the minutes of earlier runs
    count, and without a checkpoint training starts from the weights in ``out`` if there are any. A picture
    in 25 is held out. Returns the report that is also written into the model's ``config.json``: steps, those
    before a start from weights included, and accuracy per head on held-out pictures: all, photographs alone,
    all blurred by a pixel.

    Raises:
        DataError: no readable shards.
        ModelError: the checkpoint belongs to other settings, or training diverged.
    """
    images, scenes = load_shards(renders)
    labels, evaluation = labels_of(scenes), held_out(images)
    trainable, kept = np.flatnonzero(~evaluation), np.flatnonzero(evaluation)[:EVALUATED]
    say(f"{len(trainable)} pictures to train on, {len(kept)} held out")
    torch.manual_seed(seed)
    checkpoint = renders / "training" / f"{out.name}.pt"
    if resume and not checkpoint.exists() and (out / WEIGHTS).exists():
        say(f"no checkpoint: starting from the weights in {out}")
        model = StudioClassifier.load(out)
        earlier = earlier_training(json.loads((out / CONFIG).read_text()).get("training", {}))
    else:
        model, earlier = StudioClassifier(HEADS), (0, 0.0)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def loss_at(step: int) -> Tensor:
        rows = np.sort(np.random.default_rng((seed, step)).choice(trainable, BATCH_SIZE))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with half_precision():
            logits = model(degrade(to_input(images[rows]), generator))
        index = torch.from_numpy(rows)
        losses = [
            F.cross_entropy(values.float(), labels[head][index], label_smoothing=LABEL_SMOOTHING)
            for head, values in logits.items()
        ]
        return torch.stack(losses).sum()

    steps, seconds = train_for(
        minutes,
        model=model,
        optimizer=optimizer,
        loss_at=loss_at,
        earlier=earlier,
        checkpoint=checkpoint,
        signature={"heads": json.dumps(HEADS), "widths": str(model.widths), "seed": seed},
        resume=resume,
    )
    processes = leave_the_rest_to_the_first()
    model.eval()
    # Judge what is shipped: the weights after their rounding to fp16.
    model.save(out, {})
    shipped = StudioClassifier.load(out)
    chosen = {head: values[torch.from_numpy(kept)] for head, values in labels.items()}
    # Sepia and pencil hide colours, whatever the classifier: photographs say how well it reads.
    photo = chosen["style"].numpy() == HEADS["style"].index("photo")
    photos = {head: values[torch.from_numpy(photo)] for head, values in chosen.items()}
    report = {
        "training": {"pictures": len(trainable), "steps": steps, "batch_size": BATCH_SIZE * processes,
                     "minutes": round(seconds / 60, 1), "seed": seed},
        "held_out": {
            "pictures": len(kept),
            "accuracy": accuracy(shipped, images[kept], chosen),
            "accuracy_photographs": accuracy(shipped, images[kept[photo]], photos),
            "accuracy_blurred_1px": accuracy(shipped, images[kept], chosen, lambda x: blur(x, 1.0)),
        },
    }  # fmt: skip
    model.save(out, report)
    return report
