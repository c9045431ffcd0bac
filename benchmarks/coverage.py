"""Whether the headline's 95 % intervals hold what they should: simulated runs whose true curves are known.

Two methods edit the same samples at four strengths each. A sample that is easy to edit is so for both of them at every
setting, identity is lost in proportion to a skewed factor of the sample's, and samples may come several to an object,
with an effect of the object's on both. The truth is read off the curves of the means that all of this is drawn
around, over the unchanged source and the worst identity of any setting, as in a report.

    nice python -m benchmarks.coverage --write docs/coverage.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from matplotlib.figure import Figure

from piva_bench.report.curves import COLOURS, GREY, MARKERS, STYLE, to_svg
from piva_bench.report.statistics_strength import Measured, Resamples, hypervolumes, interpolate

STRENGTHS = (np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.3, 0.45, 0.7, 0.95]))
"""Mean edit strength of the first method's settings, and of the second's."""
LOST = (1.0, 0.7)
"""Identity lost to an edit of strength 1."""
SIZES = (12, 24, 48, 140)
BEGIN, END = "<!-- the table -->\n", "<!-- end of the table -->\n"


@dataclass(frozen=True)
class Coverage:
    """Of how many simulated runs the intervals held the truth, as shares.

    Attributes:
        volume: of the difference of dominated hypervolume.
        strength: of the difference at equal strength, among the runs that have one.
        compared: share of the runs that have one.
    """

    volume: float
    strength: float
    compared: float


def simulate(samples: int, each: int = 1, runs: int = 1000, resamples: int = 199) -> Coverage:
    """Coverage in runs of so many samples, ``each`` of them to an object."""
    rng = np.random.default_rng(0)
    objects = np.arange(samples) // each
    volume, strength = [], []
    for run in range(runs):
        first, second, unchanged = _measure(rng, objects)
        measured = {"first": first, "second": second, "unchanged": unchanged}
        drawn = Resamples(measured, list(objects), seed=run, count=resamples)
        found = drawn.dominated("first", "second")
        volume.append(found.low <= _true_volume(0) - _true_volume(1) <= found.high)
        level = drawn.at_equal_strength("first", "second")
        if not np.isnan(level.low):
            strength.append(level.low <= _true_difference() <= level.high)
    return Coverage(
        float(np.mean(volume)), float(np.mean(strength)) if strength else float("nan"), len(strength) / runs
    )


def _measure(rng: np.random.Generator, objects: np.ndarray) -> list[Measured]:
    """A run: what is measured of the same samples as edited by both methods, and of the unchanged ones."""
    count, groups = len(objects), int(objects.max()) + 1
    easy = rng.normal(0, 0.12, (count, 1)) + rng.normal(0, 0.08, (groups, 1))[objects]
    # Log-normal of mean 1: a few samples lose much.
    skewed = np.exp(
        rng.normal(0, 0.5, (count, 1)) + rng.normal(0, 0.3, (groups, 1))[objects] - (0.25 + 0.09) / 2
    )
    measured = []
    for strengths, lost in zip(STRENGTHS, LOST, strict=True):
        noise = rng.normal(0, 0.06, (2, count, len(strengths)))
        measured.append(Measured(strengths + easy + noise[0], -lost * strengths * skewed + noise[1]))
    return [*measured, Measured(0.1 * easy, np.zeros((count, 1)))]


def _true_volume(method: int) -> float:
    """Over no edit, and over the identity that the first method's strongest setting leaves."""
    worst = -max(lost * strengths.max() for lost, strengths in zip(LOST, STRENGTHS, strict=True))
    places = np.stack([STRENGTHS[method], -LOST[method] * STRENGTHS[method] - worst], axis=1)
    return float(hypervolumes(places[None])[0])


def _true_difference() -> float:
    """First minus second in the middle of what both curves reach."""
    middle = np.array([(max(s.min() for s in STRENGTHS) + min(s.max() for s in STRENGTHS)) / 2])
    there = [
        interpolate(s[None], -lost * s[None], middle)[0] for s, lost in zip(STRENGTHS, LOST, strict=True)
    ]
    return float(there[0] - there[1])


def figure(found: dict[tuple[int, int], Coverage]) -> Figure:
    """Coverage over the number of independent objects; the band is 93 to 97 %."""
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(6.6, 3.4), layout="constrained")
        axes = drawn.add_subplot()
        axes.axhspan(93, 97, color=GREY, alpha=0.15, linewidth=0)
        axes.axhline(95, color=GREY, linewidth=0.8, linestyle=":")
        lines = [
            (name, each) for name in ("volume", "strength") for each in sorted({key[1] for key in found})
        ]
        for place, (name, each) in enumerate(lines):
            sizes = sorted(size for size, many in found if many == each)
            what = {"volume": "dominated hypervolume", "strength": "identity at equal strength"}[name]
            axes.plot(
                [size // each for size in sizes], [100 * getattr(found[size, each], name) for size in sizes],
                color=COLOURS[place], marker=MARKERS[place], markersize=5, linewidth=1.3,
                label=f"{what}, {each} {'sample' if each == 1 else 'samples'} an object",
            )  # fmt: skip
        axes.set_xlabel("independent objects")
        axes.set_ylabel("intervals that hold the truth (%)")
        axes.set_ylim(88, 100)
        drawn.legend(
            *axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False, fontsize=8
        )
    return drawn


def main(
    runs: Annotated[int, typer.Option(help="Simulated runs of each size.")] = 600,
    write: Annotated[
        Path | None, typer.Option(help="Page whose table is filled, with a figure beside it.")
    ] = None,
) -> None:
    """Simulate runs of several sizes, with one and with four samples an object, and print the coverage."""
    found = {
        (size, each): simulate(size, each, runs) for each in (1, 4) for size in SIZES if size // each >= 6
    }
    lines = [
        "| Samples | Objects | Hypervolume | At equal strength | Runs with a common strength |",
        "|" + "---:|" * 5,
    ]
    lines += [
        f"| {size} | {size // each} | {one.volume:.1%} | {one.strength:.1%} | {one.compared:.0%} |"
        for (size, each), one in found.items()
    ]
    filled = f"{runs} simulated runs of each size.\n\n" + "\n".join(lines) + "\n\n"
    typer.echo(filled)
    if write is not None:
        page = write.read_text()
        write.write_text(f"{page.partition(BEGIN)[0]}{BEGIN}{filled}{END}{page.partition(END)[2]}")
        write.with_suffix(".svg").write_bytes(to_svg(figure(found)))


if __name__ == "__main__":
    typer.run(main)
