"""What the gallery knows, as plain values: a pure function of results and samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd

from piva_bench.data.sample import Sample
from piva_bench.report.contact_sheet import changed_words
from piva_bench.report.results import SECTIONS, head, metrics_of, variants_in_order
from piva_bench.runs.inside import folder_inside
from piva_bench.text import one_line

DIGITS = 5
"""Significant digits of a score: more than a reader can use, half the file."""


def gallery_data(
    results: pd.DataFrame,
    samples: Mapping[str, Sample],
    pictures: Mapping[str, Mapping[str, str]],
    films: Mapping[str, str],
    *,
    thumbnails: bool,
) -> dict[str, Any]:
    """Everything the gallery shows.

    Args:
        results: from `load_results`.
        samples: the dataset's samples by id; one that is missing has no prompts and no source.
        pictures: for each sample the file of its ``source``, ``reference`` and ``mask``, as far as there are any.
        films: for each record's key the file of its turntable or animation, as far as there are any.
        thumbnails: whether small copies of the edits lie in ``thumbs/``.

    Raises:
        DataError: the frame mixes set-ups.
    """
    metrics = metrics_of(results)
    variants = variants_in_order(results)
    names = [variant for _, variant in variants]
    types = results.drop_duplicates("sample_id").set_index("sample_id")["edit_type"].sort_index()
    seeds = sorted({int(seed) for seed in results["seed"]})
    ids = sorted(types.index, key=lambda i: (types[i], i))
    return {
        "title": f"{results['dataset'].iloc[0]} · {results['profile'].iloc[0]}",
        "head": head(results),
        "metrics": [asdict(metric) for metric in metrics],
        "sections": SECTIONS,
        "variants": [{"name": v, "section": s} for s, v in variants],
        "seeds": seeds,
        "thumbnails": thumbnails,
        "samples": [_sample(i, str(types[i]), samples.get(i), pictures.get(i, {})) for i in ids],
        "edits": _edits(results, [m.name for m in metrics], ids, names, seeds, films),
    }


def to_script(data: Mapping[str, Any]) -> str:
    """The data as a script that a page from disk may load; no text in it can end the script or start a tag."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"window.GALLERY_DATA={text};\n"


def find_films(output_dir: Path, keys: Iterable[str]) -> dict[str, Path]:
    """Turntables and animations of a run's edits by record key.

    They are ``turntables/<key>.gif``, ``.webp`` or ``.mp4``; a name may also end in a dash and the key's first eight
    digits, as `piva_bench.report.turntables` writes them.
    """
    paths = [output_dir / "turntables" / name for name in folder_inside(output_dir, "turntables")]
    regular = [path for path in paths if path.is_file() and not path.is_symlink()]
    films = {
        path.stem.rpartition("-")[2]: path for path in regular if path.suffix in (".gif", ".webp", ".mp4")
    }
    return {key: films[name] for key in keys for name in (key, key[:8]) if name in films}


def _sample(
    sample_id: str, edit_type: str, sample: Sample | None, pictures: Mapping[str, str]
) -> dict[str, Any]:
    known = {"id": sample_id, "type": edit_type, **pictures}
    if sample is None:
        return {**known, "source_prompt": [], "target_prompt": [], "instruction": "", "tags": {}}
    before, after = one_line(sample.source_prompt), one_line(sample.target_prompt)
    return {
        **known,
        "source_prompt": changed_words(after, before),
        "target_prompt": changed_words(before, after),
        "instruction": one_line(sample.instruction),
        "tags": dict(sample.tags),
    }


def _edits(
    results: pd.DataFrame,
    metrics: Sequence[str],
    ids: Sequence[str],
    names: Sequence[str],
    seeds: Sequence[int],
    films: Mapping[str, str],
) -> list[dict[str, Any]]:
    places = [{each: i for i, each in enumerate(axis)} for axis in (ids, names, seeds)]
    wanted = (
        "sample_id",
        "variant",
        "seed",
        "key",
        "seconds",
        "unet_evaluations",
        "params",
        "status",
        "reason",
    )
    rows = zip(*(results[name].tolist() for name in wanted), strict=True)
    scores = zip(*(results[name].tolist() for name in metrics), strict=True) if metrics else repeat(())
    edits = []
    for row, values in zip(rows, scores, strict=bool(metrics)):
        sample_id, variant, seed, key, seconds, evaluations, params, status, reason = row
        edit: dict[str, Any] = {
            "at": [places[0][sample_id], places[1][variant], places[2][seed]],
            "key": key,
            "seconds": _short(seconds),
            "evaluations": _short(evaluations),
            "params": params,
        }
        if status == "ok":
            edit["scores"] = [_short(value) for value in values]
        else:
            edit["reason"] = reason
        if key in films:
            edit["film"] = films[key]
        edits.append(edit)
    return edits


def _short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
