"""A finished run made up for tests: real records, scores and pictures of invented edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from piva_bench.data.sample import Sample
from piva_bench.runs.edit import Edit, encode_png
from piva_bench.runs.record import Record, ScoreFile, Setup, unit_key
from piva_bench.runs.store import Store

SETUP = Setup(
    profile="embedded",
    dataset="pie",
    dataset_revision="0123456789abcdef",
    model="studio-sd",
    model_fingerprint="fedcba9876543210",
    resolution=64,
    dtype="float32",
)
TYPES = ("6_change_attribute_color", "8_change_background")


def make_record(method: str, sample_id: str, edit_type: str, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "sample_id": sample_id,
        "edit_type": edit_type,
        "method": method,
        "method_version": "1",
        "params": {},
        "seed": 0,
        "device": "cpu",
        "status": "ok",
        "image_sha": "0" * 64,
        "unet_evaluations": 400,
        "seconds": 2.0,
        "peak_memory_mb": 900.0,
        "batch_size": 4,
        "created": "2026-01-01T00:00:00+00:00",
        **changes,
    }
    key = unit_key(
        SETUP,
        method=fields["method"],
        method_version=fields["method_version"],
        method_source=None,
        params=fields["params"],
        sample_id=sample_id,
        seed=fields["seed"],
        mask=fields.get("mask"),
    )
    return Record(**SETUP.model_dump(), key=key, **fields)


def make_samples(root: Path, count: int) -> dict[str, Sample]:
    samples = {}
    rng = np.random.default_rng(0)
    for i in range(count):
        picture, truth = root / f"{i}.png", root / f"{i}_truth.png"
        for path in (picture, truth):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        samples[f"{i:012d}"] = Sample(
            id=f"{i:012d}",
            source_path=picture,
            source_prompt="a photo of a horse on grass",
            target_prompt="a photo of a <script>alert(1)</script> red horse on grass",
            instruction="",
            edit_type=TYPES[i % 2],
            reference_path=truth,
        )
    return samples


def make_run(root: Path, samples: dict[str, Sample], methods: dict[str, float], **changes: Any) -> Path:
    """A run in which every edit of a method scores its number plus the sample's index."""
    rng = np.random.default_rng(1)
    with Store(root) as store:
        for method, level in methods.items():
            for i, sample in enumerate(samples.values()):
                record = make_record(method, sample.id, sample.edit_type, **changes)
                png, sha = encode_png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
                record = record.model_copy(update={"image_sha": sha})
                store.commit([Edit(record, png)])
                # Full masks leave some metrics undefined.
                values = {"psnr": level + i, "psnr_outside": None if i % 4 == 3 else level + i}
                undefined = {"psnr_outside": "the edit mask covers the whole picture"} if i % 4 == 3 else {}
                scores = ScoreFile(
                    protocol="studio-v1",
                    fingerprint="aaaabbbbccccdddd",
                    values={**values, "stlpips": level / 1e4},
                    undefined=undefined,
                )
                store.save_scores(record.key, scores)
    return root
