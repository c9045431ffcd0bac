"""Render the pictures that every studio model is trained on, and their depth, in shards, resumably.

Depth lies in files of its own (``depth-00000.npz`` beside ``shard-00000.npz``): only the depth ControlNet reads it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from piva_bench.files import atomic_file
from piva_bench.studio.captions import caption, training_caption
from piva_bench.studio.render import Renderer
from piva_bench.studio.scene import Scene, training_scenes

SHARD = 500
CAPTIONS = 4
"""Random wordings stored with each picture, beside the full caption."""


def _write_shard(path: Path, scenes: list[Scene], renderer: Renderer, rng: random.Random) -> None:
    shots = [renderer.render(scene) for scene in scenes]
    lines = [
        json.dumps(
            {
                "scene": scene.to_dict(),
                "caption": caption(scene),
                "captions": [training_caption(scene, rng) for _ in range(CAPTIONS)],
            }
        )
        for scene in scenes
    ]
    with atomic_file(path) as file:
        np.savez_compressed(
            file,
            images=np.stack([shot.image for shot in shots]),
            masks=np.stack([np.packbits(shot.ids >= 2, axis=-1) for shot in shots]),
            scenes=np.array(lines),
        )


def _write_depth(path: Path, shard: Path, renderer: Renderer) -> None:
    with np.load(shard, allow_pickle=False) as file:
        scenes = [Scene.from_dict(json.loads(line)["scene"]) for line in file["scenes"].tolist()]
    with atomic_file(path) as out:
        # Half precision is a thousandth of an object at these distances.
        np.savez_compressed(out, depth=np.stack([renderer.depth(s) for s in scenes]).astype(np.float16))


def _work(out: Path, resolution: int, seed: int, jobs: list[tuple[int, list[Scene]]]) -> None:
    os.environ.setdefault("LP_NUM_THREADS", "1")  # one software rasteriser thread a process
    renderer = Renderer(resolution)
    for number, scenes in jobs:
        started = time.monotonic()
        path, depth = out / f"shard-{number:05d}.npz", out / f"depth-{number:05d}.npz"
        if not path.exists():
            _write_shard(path, scenes, renderer, random.Random(f"captions-{seed}-{number}"))
        if not depth.exists():
            _write_depth(depth, path, renderer)
        pace = 1000 * (time.monotonic() - started) / len(scenes)
        print(f"{path.name}: {len(scenes)} pictures, {pace:.0f} ms each", flush=True)  # noqa: T201


def render_training(
    out: Path,
    count: int,
    *,
    resolution: int = 64,
    seed: int = 0,
    held_out: Collection[str] = (),
    workers: int = 2,
) -> None:
    """Write ``count`` pictures as ``out/shard-*.npz`` and their depth; files that are there already are kept.

    Args:
        out: folder of the shards.
        count: number of pictures.
        resolution: edge of the pictures in pixels.
        seed: decides the scenes and their captions.
        held_out: composition keys that must not be shown.
        workers: processes.
    """
    out.mkdir(parents=True, exist_ok=True)
    scenes = training_scenes(seed, count, held_out)
    shards = [(n, scenes[n * SHARD : (n + 1) * SHARD]) for n in range(-(-count // SHARD))]
    todo = [
        job for job in shards
        if not all((out / f"{kind}-{job[0]:05d}.npz").exists() for kind in ("shard", "depth"))
    ]  # fmt: skip
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    processes = [
        context.Process(target=_work, args=(out, resolution, seed, todo[k::workers])) for k in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a rendering process failed; run the same command again to finish the rest")
