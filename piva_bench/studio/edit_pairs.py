"""Pairs of a picture and its exact edit, with instructions: what the embedded InstructPix2Pix is trained on."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from piva_bench.files import atomic_file
from piva_bench.studio.edit_mask import VISIBLE_DIFFERENCE, edit_mask
from piva_bench.studio.edits import CHANGES, EditSpec, random_edit
from piva_bench.studio.instructions import training_instruction
from piva_bench.studio.render import Renderer, Shot
from piva_bench.studio.scene import Scene, composition_key, held_out_pair, random_scene
from piva_bench.studio.vocabulary import FIXED_POSE, POSES

SHARD = 500
INSTRUCTIONS = 4
"""Wordings stored with each pair."""
EDIT_TYPES = ("0_random", *CHANGES)
TURNING = ("0_random", "5_change_attribute_pose")
"""Types that may turn the object round, for which words are found where it is seen from the front at first."""
LEAST_SEEN = 0.004
"""Least share of the picture in which source and edit visibly differ: fewer pixels teach nothing but to copy."""
LEAST_CHANGE = 20.0
"""Least mean difference, of 255, of these pixels: black wood is told from black paint by fewer."""
RESERVED_SHARE = 16
"""One composition in so many is never shown in a pair: the model is measured on these."""


def reserved(scene: Scene) -> bool:
    """Whether a composition is kept for measuring; by a hash, so that the choice needs no list and never moves."""
    key = f"edit/{composition_key(scene)}".encode()
    return hashlib.blake2b(key, digest_size=2).digest()[0] % RESERVED_SHARE == 0


def may_be_shown(spec: EditSpec, held_out: Collection[str]) -> bool:
    """Whether neither side is held out, and both show the object in poses that can be told apart.

    Args:
        spec: the edit.
        held_out: composition keys that must not be shown.
    """
    return not any(
        held_out_pair(side)
        or composition_key(side) in held_out
        or side.pose not in FIXED_POSE.get(side.object, POSES)
        for side in (spec.source, spec.target)
    )


def training_edits(rng: random.Random, held_out: Collection[str]) -> Iterator[EditSpec]:
    """Edits without end, all types in turn; neither side shows what is held out or reserved.

    Args:
        rng: source of chance.
        held_out: composition keys that must not be shown.
    """
    number = 0
    while True:
        kind = EDIT_TYPES[number % len(EDIT_TYPES)]
        base = random_scene(rng, all_sides=kind not in TURNING)
        spec = random_edit(kind, base, rng, rng.randrange(10_000))
        if not may_be_shown(spec, held_out) or reserved(spec.source) or reserved(spec.target):
            continue
        number += 1
        yield spec


@dataclass(frozen=True)
class Shown:
    """An edit and its two pictures."""

    spec: EditSpec
    before: Shot
    after: Shot


def _shown(edits: Iterator[EditSpec], renderer: Renderer) -> Iterator[Shown]:
    """The edits that are seen at this size."""
    for spec in edits:
        before, after = renderer.render(spec.source), renderer.render(spec.target)
        difference = np.abs(before.image.astype(np.int16) - after.image.astype(np.int16)).max(-1)
        seen = difference > VISIBLE_DIFFERENCE
        if seen.mean() >= LEAST_SEEN and difference[seen].mean() >= LEAST_CHANGE:
            yield Shown(spec, before, after)


def _line(spec: EditSpec, rng: random.Random) -> str:
    orders = [training_instruction(spec.source, spec.target, rng) for _ in range(INSTRUCTIONS)]
    return json.dumps(
        {
            "edit_type": spec.edit_type,
            "source": spec.source.to_dict(),
            "target": spec.target.to_dict(),
            "instructions": [spec.instruction, *orders],
        }
    )


def _write_shard(path: Path, count: int, renderer: Renderer, seed: int, held_out: Collection[str]) -> None:
    # Named by the shard, so that each is a function of its number and can be made again by itself.
    edits = training_edits(random.Random(f"pairs-{seed}-{path.stem}"), held_out)
    words = random.Random(f"pair-words-{seed}-{path.stem}")
    shown = [pair for pair, _ in zip(_shown(edits, renderer), range(count), strict=False)]
    masks = [edit_mask(pair.spec.source, pair.spec.target, pair.before, pair.after) for pair in shown]
    with atomic_file(path) as file:
        np.savez_compressed(
            file,
            sources=np.stack([pair.before.image for pair in shown]),
            targets=np.stack([pair.after.image for pair in shown]),
            masks=np.stack([np.packbits(mask, axis=-1) for mask in masks]),
            edits=np.array([_line(pair.spec, words) for pair in shown]),
        )


def _work(
    out: Path, resolution: int, seed: int, held_out: Collection[str], jobs: list[tuple[Path, int]]
) -> None:
    os.environ.setdefault("LP_NUM_THREADS", "1")  # one software rasteriser thread a process
    renderer = Renderer(resolution)
    for path, count in jobs:
        started = time.monotonic()
        _write_shard(path, count, renderer, seed, held_out)
        pace = 1000 * (time.monotonic() - started) / count
        print(f"{path.name}: {count} pairs, {pace:.0f} ms each", flush=True)  # noqa: T201


def render_pairs(
    out: Path,
    count: int,
    *,
    resolution: int = 64,
    seed: int = 0,
    held_out: Collection[str] = (),
    workers: int = 2,
) -> None:
    """Write ``count`` pairs as ``out/pair-*.npz``; files that are there already are kept.

    Args:
        out: folder of the shards.
        count: number of pairs, rounded up to whole shards where there is more than one.
        resolution: edge of the pictures in pixels.
        seed: decides edits and wordings.
        held_out: composition keys that must not be shown.
        workers: processes.
    """
    out.mkdir(parents=True, exist_ok=True)
    size = min(SHARD, count)
    paths = [out / f"pair-{number:05d}.npz" for number in range(-(-count // size))]
    todo = [(path, size) for path in paths if not path.exists()]
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    processes = [
        context.Process(target=_work, args=(out, resolution, seed, held_out, todo[k::workers]))
        for k in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a rendering process failed; run the same command again to finish the rest")
