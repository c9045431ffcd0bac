"""What a tune tried and chose, as files: CSV, JSON and Markdown under one name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from piva_bench.files import write_atomic
from piva_bench.report.formats import csv_text, markdown_escape
from piva_bench.report.statistics import mean_interval
from piva_bench.report.statistics_paired import compare
from piva_bench.runs.manifest import environment
from piva_bench.runs.request import Prepared
from piva_bench.runs.tuning import CRITERION, FLOOR, Trial, chosen, distance_of


@dataclass(frozen=True)
class Tune:
    """A tune that has been run.

    Attributes:
        method: name on the method's card.
        kind: of what is edited.
        prepared: the plan of its last round; what all rounds stand on.
        space: the values that could be tried, by parameter.
        fixed: parameters that the user set.
        budget: UNet evaluations there were to spend.
        whole: whether nothing was narrowed: all samples, the declared search, the profile's model, seed 0.
        seed: of edits and of the order of trials.
        settings: how many settings there are in the space.
        trials: of every setting that was tried, on the most samples it got; the default first.
        source: the trial of the unchanged source on all samples.
        clusters: for each sample the group it belongs to.
        command: as it was asked for.
    """

    method: str
    kind: str
    prepared: Prepared
    space: Mapping[str, Sequence[Any]]
    fixed: Mapping[str, Any]
    budget: int
    whole: bool
    seed: int
    settings: int
    trials: Sequence[Trial]
    source: Trial
    clusters: Sequence[object]
    command: Sequence[str]

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.method}-{self.prepared.setup.dataset}"

    @property
    def best(self) -> Trial:
        """The choice: among the settings that went through all samples."""
        return chosen([trial for trial in self.trials if len(trial.distance) == len(self.source.distance)])


def tune_frame(tune: Tune) -> pd.DataFrame:
    """A row for each setting tried, the default first, then the best of those on the most samples.

    Columns: the searched parameters; samples; edit_accuracy and distance with the margins of their 95 % intervals;
    way, the distance's share of the unchanged source's that is gone; difference to the default on the same samples
    with its interval's ends; failed, evaluations, seconds, chosen.
    """
    default, best = tune.trials[0], tune.best
    ordered = sorted(tune.trials[1:], key=lambda trial: (-len(trial.distance), trial.rank))
    return pd.DataFrame([_row(tune, trial, default, trial is best) for trial in (default, *ordered)])


def _row(tune: Tune, trial: Trial, default: Trial, best: bool) -> dict[str, Any]:
    n = len(trial.distance)
    clusters = tune.clusters[:n]
    accuracy, distance = (mean_interval(each, clusters=clusters) for each in (trial.accuracy, trial.distance))
    row: dict[str, Any] = {**trial.candidate.values, "samples": n}
    row |= {"edit_accuracy": accuracy.mean, "edit_accuracy_margin": accuracy.margin}
    row |= {"distance": distance.mean, "distance_margin": distance.margin}
    source = float(tune.source.distance[:n].mean())
    row["way"] = 1 - distance.mean / source if source > 0 else math.nan
    (paired,) = compare((trial.distance - default.distance[:n])[:, None], clusters)
    row |= {"to_default": paired.mean, "to_default_low": paired.low, "to_default_high": paired.high}
    row |= {"failed": trial.failed, "evaluations": trial.evaluations, "seconds": round(trial.seconds, 1)}
    return {**row, "chosen": best}


def write_tune(tune: Tune, folder: Path) -> list[Path]:
    """Writes ``METHOD-DATASET.csv``, ``.json`` and ``.md``; their paths.

    Raises:
        OSError: disk full, no permission ...
    """
    frame = tune_frame(tune)
    texts = {
        "csv": csv_text(frame),
        "json": json.dumps(_facts(tune, frame), indent=1, allow_nan=False) + "\n",
        "md": tune_markdown(tune, frame),
    }
    paths = [folder / f"{tune.name}.{ending}" for ending in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomic(path, text.encode())
    return paths


def tune_markdown(tune: Tune, frame: pd.DataFrame) -> str:
    """What it stands on, the choice, and the table."""
    setup, protocol = tune.prepared.setup, tune.prepared.profile.protocol
    stands = [
        f"profile {setup.profile} · protocol {protocol} ({_fingerprint(tune)}) · model {setup.model} "
        f"({setup.model_fingerprint})",
        f"dataset {setup.dataset} ({setup.dataset_revision}) · {len(tune.source.distance)} samples · "
        f"seed {tune.seed} · {setup.resolution} px, {setup.dtype} · {tune.prepared.device}, {_machine()}",
        f"criterion: {CRITERION}",
        f"budget {tune.budget} UNet evaluations (a backward pass counts two), spent {_spent(tune)}; "
        f"{len(tune.trials)} of {tune.settings} settings tried, each round the better half on twice the samples",
        "± and brackets: 95 % intervals; distances x 1000; way: how much of the unchanged source's distance is gone; "
        "difference: to the default on the same samples",
    ]
    names = list(tune.space)
    heads = [
        *names,
        "Samples",
        "Edit acc. ×10² ↑",
        "ST-LPIPS cf ×10³ ↓",
        "Way ×10² ↑",
        "Difference",
        "95 %",
        "s/edit",
    ]
    lines = [f"### Tuning {tune.method} on {setup.dataset}", "", "  \n".join(stands), ""]
    which = " (the default)" if tune.best is tune.trials[0] else ""
    lines += [f"**Chosen: {tune.best.candidate.label}**{which}", ""]
    lines += [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(names) + "---:|" * (len(heads) - len(names)),
    ]
    for place, row in enumerate(frame.to_dict("records")):
        values = [str(row[name]) for name in names]
        values[-1] += " (default)" if place == 0 else ""
        short = " (below the floor)" if row["edit_accuracy"] < FLOOR else ""
        ends = [_number(1000 * row[name]) for name in ("to_default_low", "to_default_high")]
        cells = [
            *values,
            str(row["samples"]),
            f"{_number(100 * row['edit_accuracy'])} ± {_number(100 * row['edit_accuracy_margin'])}{short}",
            f"{_number(1000 * row['distance'])} ± {_number(1000 * row['distance_margin'])}",
            _number(100 * row["way"]),
            _number(1000 * row["to_default"], "+"),
            " … ".join(ends),
            f"{row['seconds'] / row['samples']:.2f}",
        ]
        marked = [
            f"**{markdown_escape(cell)}**" if row["chosen"] else markdown_escape(cell) for cell in cells
        ]
        lines.append("| " + " | ".join(marked) + " |")
    return "\n".join(lines) + "\n"


def _facts(tune: Tune, frame: pd.DataFrame) -> dict[str, Any]:
    setup, best = tune.prepared.setup, tune.best
    trials = [{name: _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
    return {
        "method": tune.method,
        "method_version": best.candidate.variant.version,
        "kind": tune.kind,
        **setup.model_dump(),
        "protocol": tune.prepared.profile.protocol,
        "fingerprint": _fingerprint(tune),
        "device": tune.prepared.device,
        "machine": _machine(),
        "criterion": CRITERION,
        "distance": distance_of(tune.prepared.profile.protocol),
        "floor": FLOOR,
        "budget": tune.budget,
        "spent": _spent(tune),
        "samples": len(tune.source.distance),
        "seed": tune.seed,
        "whole": tune.whole,
        "searched": {name: list(values) for name, values in tune.space.items()},
        "fixed": dict(tune.fixed),
        "settings": tune.settings,
        "default": tune.trials[0].candidate.values,
        "chosen": best.candidate.values,
        "trials": trials,
        "command": list(tune.command),
    }


def _fingerprint(tune: Tune) -> str:
    return tune.source.fingerprint


def _spent(tune: Tune) -> int:
    return sum(trial.evaluations for trial in tune.trials)


def _machine() -> str:
    found = environment()
    return str(found["gpu"] or f"{found['processor']} ({found['cores']} cores)")


def _plain(value: Any) -> Any:
    """As JSON has it: numbers of Python, and null for what is not known."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:{sign}.1f}"
