"""A run that holds one 3D edit: the counterfactual of the tiny scenes' first sample."""

from __future__ import annotations

from pathlib import Path

from piva_bench.data.scene_sample import SceneSample
from piva_bench.data.scenes import read_scenes
from piva_bench.runs.edit import Edit, sha256
from piva_bench.runs.record import Record, Setup, unit_key
from piva_bench.runs.store import Store
from piva_bench.runs.views import depth_path, encode_views
from tests.data.tiny_scenes import SIZE, write_tiny_scenes


def scene_run(root: Path) -> tuple[Store, dict[str, SceneSample]]:
    """The run's store and the dataset's samples by id."""
    write_tiny_scenes(root / "data")
    dataset = read_scenes("objaverse", root / "data")
    sample = dataset.samples[0]
    setup = Setup(
        profile="embedded", dataset="objaverse", dataset_revision=dataset.revision, model="studio-sd",
        model_fingerprint="fedcba9876543210", resolution=SIZE, dtype="float32",
    )  # fmt: skip
    identity = {"method": "dds", "method_version": "1", "method_source": None, "params": {}, "seed": 0}
    key = unit_key(setup, sample_id=sample.id, **identity)
    png, depth = encode_views(sample.load_counterfactual().views)
    record = Record(
        **setup.model_dump(), **identity, key=key, status="ok", sample_id=sample.id, edit_type=sample.edit_type,
        tags=dict(sample.tags), device="cpu", image_sha=sha256(png), files={depth_path(key): sha256(depth)},
        batch_size=1, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    store = Store(root / "run")
    with store:
        store.commit([Edit(record, png, files={depth_path(key): depth})])
    return store, {sample.id: sample for sample in dataset.samples}
