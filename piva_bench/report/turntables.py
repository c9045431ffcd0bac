"""Turning scenes: source, edit and counterfactual beside each other, an animation for each 3D edit of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from piva_bench.data.sample import Sample
from piva_bench.data.scene_sample import SceneSample
from piva_bench.errors import DataError
from piva_bench.runs.inside import Warn, make_way, remove_file
from piva_bench.runs.store import Store
from piva_bench.scene.animation import write_turntable

FRAMES = 40
"""Of an animation; the turntable has more, which a small picture does not need."""


def write_turntables(directory: Path, samples: Mapping[str, Sample], warn: Warn) -> list[Path]:
    """Writes ``<directory>/turntables/<method>-<sample>-<key>.gif`` for edits of scenes that have none yet.

    Args:
        directory: of a run.
        samples: of its dataset, by id.
        warn: told about edits whose views cannot be read.
    """
    if not any(isinstance(sample, SceneSample) for sample in samples.values()):
        return []
    store, written = Store(directory), []
    for record in store.records().values():
        sample = samples.get(record.sample_id)
        if not isinstance(sample, SceneSample) or record.status == "failed":
            continue
        name = re.sub(r"[^\w.-]+", "_", f"{record.method}-{record.sample_id}")[:100]
        path = make_way(directory, f"turntables/{name}-{record.key[:8]}.gif", warn)
        if path.is_file() and not path.is_symlink():
            continue
        try:
            source, true = sample.load_turntable(), sample.load_counterfactual()
            edited = store.load_views(record, source.views.cameras)
        except DataError as error:
            warn(f"no turntable of {record.method} on {record.sample_id}: {error}")
            continue
        columns = {
            "source": source.composite(),
            record.method: edited.composite(source.backgrounds / 255),
            **({"counterfactual": true.composite()} if true is not None else {}),
        }
        every = max(1, len(edited) // FRAMES)
        half = path.with_suffix(".part.gif")
        remove_file(half)
        write_turntable(half, {name: shown[::every] for name, shown in columns.items()})
        written.append(half.replace(path))
    return written
