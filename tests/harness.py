"""A benchmark in miniature for the harness' tests: everything real but tiny, registered as a third party would.

`make_bench` writes a folder with a tiny Stable Diffusion, a PIE-format dataset, a file of odd methods and a
distribution that registers a metric protocol. `command` and `environment` run the command line on it in a process
of its own; the fixture `cli` of conftest.py does so in the test's process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from piva_bench.data.dataset import DatasetCard
from piva_bench.data.pie_write import PieEntry, write_pie
from tests.tiny_sd import make_tiny_sd

RESOLUTION = 32
SAMPLES = 6

METHODS = '''
"""Methods that misbehave in one way each."""
import os, signal, time
from pathlib import Path
import torch
from piva_bench.method import EditMethod, EditOutcome, MethodCard, Progress
from piva_bench.params import MethodParams, parameter


def card(name):
    return MethodCard(name=name, title=name, paper=None, summary="a test", kind="sampling", idea_code_license="none")


class NoParams(MethodParams):
    steps: int = parameter(3, ge=1, le=9, source="assumed", description="passes")


class Invert(EditMethod):
    """Inverts the picture; what it does to a picture depends on how many are in the batch, as on a GPU."""
    card = card("invert")
    Params = NoParams

    @property
    def steps(self):
        return self.params.steps

    def edit(self, batch, denoiser, seed, on_step=None):
        for step in range(self.params.steps):
            if on_step:
                on_step(Progress(step, self.params.steps, {"loss": 1.0 / (step + 1)}))
        return [
            EditOutcome(task.sample_id, -task.source * (1 - 0.01 * len(batch)), None, 7, trace={"loss": [1.0, 0.5]})
            for task in batch
        ]


class Slow(Invert):
    """Says on disk that it began a batch, then takes its time."""
    card = card("slow")

    def edit(self, batch, denoiser, seed, on_step=None):
        log = Path(os.environ["SLOW_LOG"])
        with log.open("a") as file:
            file.write(",".join(t.sample_id for t in batch) + "\\n")
        time.sleep(float(os.environ.get("SLOW_SECONDS", "0")))
        return super().edit(batch, denoiser, seed, on_step)


class Kills(Invert):
    """Takes its process with it when it meets sample s1: always, or once, as long as a file is not there."""
    card = card("kills")

    def edit(self, batch, denoiser, seed, on_step=None):
        once = os.environ.get("KILL_ONCE")
        if any(t.sample_id == "s1" for t in batch) and not (once and Path(once).exists()):
            if once:
                Path(once).write_text("done")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().edit(batch, denoiser, seed, on_step)


class Hangs(Invert):
    """Never comes back from sample s1, and does not listen."""
    card = card("hangs")

    def edit(self, batch, denoiser, seed, on_step=None):
        while any(t.sample_id == "s1" for t in batch):
            try:
                time.sleep(1000)
            except BaseException:
                pass
        return super().edit(batch, denoiser, seed, on_step)


class Exits(Invert):
    """Ends the program when it meets sample s1."""
    card = card("exits")

    def edit(self, batch, denoiser, seed, on_step=None):
        if any(t.sample_id == "s1" for t in batch):
            raise SystemExit(7)
        return super().edit(batch, denoiser, seed, on_step)


class ExitsAtOnce(Invert):
    """As Exits, past all that Python would do about it."""
    card = card("exits_at_once")

    def edit(self, batch, denoiser, seed, on_step=None):
        if any(t.sample_id == "s1" for t in batch):
            os._exit(7)
        return super().edit(batch, denoiser, seed, on_step)


class Large(Invert):
    """Fits into memory one at a time only."""
    card = card("large")

    def edit(self, batch, denoiser, seed, on_step=None):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("tried to allocate 999 GiB")
        return super().edit(batch, denoiser, seed, on_step)


class Messy(Invert):
    """Leaves everything changed that one can."""
    card = card("messy")

    def edit(self, batch, denoiser, seed, on_step=None):
        outcomes = super().edit(batch, denoiser, seed, on_step)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.set_num_threads(3)
        torch.manual_seed(99)
        os.environ["PIVA_BENCH_DATA_ROOT"] = "/nowhere"
        os.environ.pop("HOME", None)
        os.chdir("/")
        return outcomes


class Useless(Invert):
    """Always makes the same mistake."""
    card = card("useless")

    def edit(self, batch, denoiser, seed, on_step=None):
        return {}["x"]


class FailsOne(Invert):
    """Cannot edit sample s1."""
    card = card("fails_one")

    def edit(self, batch, denoiser, seed, on_step=None):
        outcomes = super().edit(batch, denoiser, seed, on_step)
        failure = EditOutcome("s1", None, reason="diverged at step 2")
        return [failure if outcome.sample_id == "s1" else outcome for outcome in outcomes]


class Breaks(Invert):
    """Raises on any batch with sample s1 in it."""
    card = card("breaks")

    def edit(self, batch, denoiser, seed, on_step=None):
        if any(t.sample_id == "s1" for t in batch):
            raise RuntimeError("cannot\\n do s1")
        return super().edit(batch, denoiser, seed, on_step)


class NotFinite(Invert):
    """Returns NaN for s1 and a picture of the wrong size for s2."""
    card = card("not_finite")

    def edit(self, batch, denoiser, seed, on_step=None):
        images = {"s1": torch.full((3, 32, 32), float("nan")), "s2": torch.zeros(3, 8, 8)}
        return [EditOutcome(t.sample_id, images.get(t.sample_id, t.source)) for t in batch]


class CallsItselfDDS(Invert):
    card = card("dds")


class Peeks(Invert):
    """Fails if it is shown what its card does not claim."""
    card = card("peeks")

    def edit(self, batch, denoiser, seed, on_step=None):
        assert all(t.mask is None and t.reference is None for t in batch)
        return super().edit(batch, denoiser, seed, on_step)
'''

PROTOCOL = '''
import numpy as np
from piva_bench.metrics.protocol import MetricInfo, Scores, Undefined


def info(name, headline):
    return MetricInfo(name, name, "", "higher", 1.0, "identity", "a test", headline)


class PixelsV1:
    """Mean brightness, and a value that is undefined without a mask."""
    name = "pixels-v1"
    fingerprint = "0123456789abcdef"
    descriptors = {"brightness": info("brightness", True), "masked": info("masked", False)}

    def score(self, pair):
        masked = Undefined("no mask") if pair.mask is None else float(pair.edited[pair.mask].mean())
        return Scores.collect({"brightness": float(pair.edited.mean()), "masked": masked})
'''

# The embedded profile at the tiny size, so that what is tested is the default path of every command.
# A file, because worker processes read it again.
LAUNCHER = """
from piva_bench import profiles
profiles.PROFILES["embedded"] = profiles.PROFILES["embedded"].model_copy(
    update={"model": %r, "resolution": 32, "protocol": "pixels-v1", "method_defaults": {"steps": 2}})
from piva_bench.cli.app import main
if __name__ == "__main__":
    main()
"""


def make_bench(root: Path) -> Path:
    """Writes the miniature to ``root`` and returns it."""
    make_tiny_sd(root / "model")
    make_dataset(root / "data")
    (root / "odd.py").write_text(METHODS)
    (root / "launch.py").write_text(LAUNCHER % str(root / "model"))
    (root / "plugins" / "pixels-1.0.dist-info").mkdir(parents=True)
    (root / "plugins" / "pixels.py").write_text(PROTOCOL)
    (root / "plugins" / "pixels-1.0.dist-info" / "METADATA").write_text("Name: pixels\nVersion: 1.0\n")
    (root / "plugins" / "pixels-1.0.dist-info" / "entry_points.txt").write_text(
        "[piva_bench.metrics]\npixels-v1 = pixels:PixelsV1\n"
    )
    return root


def make_dataset(root: Path, samples: int = SAMPLES) -> None:
    """A PIE-format dataset of samples s0, s1 ... with counterfactuals; the edit types take turns."""
    rng = np.random.default_rng(0)
    entries = []
    for i in range(samples):
        mask = np.zeros((RESOLUTION, RESOLUTION), dtype=bool)
        mask[8:20, 8:20] = True
        entries.append(
            PieEntry(
                id=f"s{i}",
                image_path=f"{i % 3}/s{i}.png",
                source=rng.integers(0, 256, (RESOLUTION, RESOLUTION, 3), dtype=np.uint8),
                source_prompt="a [red] cup",
                target_prompt="a [blue] cup",
                instruction="make the cup blue",
                edit_type_id=str(i % 3),
                blended_word="red blue",
                mask=mask,
                reference=rng.integers(0, 256, (RESOLUTION, RESOLUTION, 3), dtype=np.uint8),
            )
        )
    card = DatasetCard(
        name="tiny", title="Tiny", license="CC0-1.0", source="made by the tests", description="noise",
        resolution=RESOLUTION, has_reference=True,
    )  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    write_pie(root, entries, card)


def command(bench: Path, *arguments: str) -> list[str]:
    """The command line on the miniature."""
    return [sys.executable, str(bench / "launch.py"), *arguments]


def environment(bench: Path, **more: str) -> dict[str, str]:
    """The environment the command line runs in on the miniature."""
    path = os.pathsep.join((str(bench / "plugins"), str(Path(__file__).parents[1])))
    own = {"PYTHONPATH": path, "PIVA_BENCH_DATA_ROOT": str(bench / "data"), "OMP_NUM_THREADS": "1"}
    own |= {"PIVA_BENCH_NO_REFERENCE": "1"}  # tests count edits
    return {**os.environ, **own, **more}


def records(output: Path) -> dict[tuple[str, str], dict]:
    """The stored records by (method, sample), without their seals."""
    rows = [json.loads(path.read_text()) for path in (output / "records").glob("*.json")]
    for row in rows:
        row.pop("content_hash", None)
    return {(row["method"], row["sample_id"]): row for row in rows}
