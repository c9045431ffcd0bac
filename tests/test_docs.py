"""What the documentation shows works."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from piva_bench.data.dataset import Dataset, verify
from piva_bench.errors import DataError
from piva_bench.metrics.protocol import MetricProtocol, Pair
from piva_bench.profiles import PROFILES
from piva_bench.registry import METHODS, _load_from_file
from piva_bench.runs.costs import edit_cost
from piva_bench.runs.tuning import search_space
from piva_bench.runs.variants import resolve_variants
from tests.harness import records
from tests.tiny_sd import denoiser, make_tasks, tiny_sd

__all__ = ["denoiser", "tiny_sd"]

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_the_example_of_a_method_runs_and_without_its_anchor_is_dds(cli, tmp_path):
    anchored = f"{EXAMPLES / 'anchored_dds.py'}:AnchoredDDS"
    pictures = {}
    for name, method, params in (
        ("dds", "dds", ()),
        ("loose", anchored, ("--param", "anchor_weight=0")),
        ("held", anchored, ("--param", "anchor_weight=10")),
    ):
        output = tmp_path / name
        code, _, err = cli("run", "--method", method, *params, "--limit", 2, "--output-dir", output)
        assert code == 0, err
        pictures[name] = {
            sample: np.asarray(Image.open(output / "images" / f"{record['key']}.png")).astype(int)
            for (_, sample), record in records(output).items()
        }
        record = next(iter(records(output).values()))
        trace = json.loads((output / "traces" / f"{record['key']}.json").read_text())
        assert ("anchor" in trace) == (method != "dds")
    for sample, dds in pictures["dds"].items():
        np.testing.assert_array_equal(pictures["loose"][sample], dds)
        assert (pictures["held"][sample] != dds).any()


def test_the_example_of_a_dataset_is_one(tmp_path):
    open_squares = _load_from_file(f"{EXAMPLES / 'squares.py'}:open_squares")
    profile = PROFILES["embedded"]
    (tmp_path / "squares.json").write_text('[{"id": "1", "from": "red", "to": "blue"}]')
    for name, colour in (("1", (255, 0, 0)), ("1_true", (0, 0, 255))):
        Image.new("RGB", (profile.resolution, profile.resolution), colour).save(tmp_path / f"{name}.png")
    dataset = open_squares(profile, tmp_path)
    assert isinstance(dataset, Dataset)
    assert verify(dataset) == []
    assert dataset.samples[0].load_reference().getpixel((0, 0)) == (0, 0, 255)
    before = dataset.revision
    Image.new("RGB", (64, 64)).save(tmp_path / "1.png")
    assert open_squares(profile, tmp_path).revision != before
    with pytest.raises(DataError, match="--data-root"):
        open_squares(profile, tmp_path / "nowhere")


def test_the_example_of_a_metric_is_a_protocol():
    protocol = _load_from_file(f"{EXAMPLES / 'sharpness.py'}:SharpnessV1")()
    assert isinstance(protocol, MetricProtocol)
    assert re.fullmatch("[0-9a-f]{16}", protocol.fingerprint)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    halved = (noise // 2 * 2 // 2).astype(np.uint8)
    score = protocol.score(Pair(noise, halved, None, None, "a", "b"))
    assert score.values["sharpness"] == pytest.approx(0.5, abs=0.01)
    flat = protocol.score(Pair(np.zeros_like(noise), noise, None, None, "a", "b"))
    assert flat.values["sharpness"] is None
    assert "one colour" in flat.undefined["sharpness"]


def words(values):
    return ", ".join(f"{value:g}" for value in values)


def tuned(space, without):
    return (
        "; ".join(f"`{name}` {words(values)}" for name, values in space.items() if name not in without) or "–"
    )


@pytest.mark.parametrize(("page", "kind"), [("methods", "distillation"), ("editors", "sampling")])
def test_the_pages_say_what_is_tuned(page, kind):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for name in METHODS.names():
        card, strength = METHODS.load(name).card, METHODS.load(name).card.strength
        if card.kind != kind:
            continue
        space = search_space(name, {}, "pictures")
        row = [
            f"`{name}`",
            f"`{strength.parameter}` {words(strength.values)}",
            tuned(space, {strength.parameter}),
        ]
        if kind == "distillation":
            row.append(tuned(search_space(name, {}, "scenes"), space))
        assert f"| {' | '.join(row)} |\n" in text, f"docs/{page}.md wants: | {' | '.join(row)} |"


def commands():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"`(piva-bench [^`]+)`", lambda found: f"\n{' '.join(found[1].split())}\n", text)
        for line in re.findall(r"^ *(piva-bench .*)$", text, re.MULTILINE):
            yield pytest.param(shlex.split(line)[1:], id=f"{page.stem}: {line}")


@pytest.mark.parametrize("words", commands())
def test_every_command_the_pages_name_exists_with_its_options(words):
    from piva_bench.cli.app import app

    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, *words = command.commands[words[0]], *words[1:]
    assert not getattr(command, "commands", {}), f"piva-bench has no command {words[:1]}"
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


def test_the_pages_build_without_a_warning_and_reach_for_nothing_outside(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is missing: pip install -e '.[dev]'")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "add-a-method" / "index.html").read_text(encoding="utf-8")
    assert "AnchoredDDS" in page
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert not [address for address in loaded if "canonical" not in address]


def costs_in_the_pages():
    """Rows of the table of costs by method: steps, UNet rows, those computed backward, GFLOP, GFLOP backward, MB."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| Method | Steps | UNet rows |")
    for line in table.splitlines()[2:]:
        if not line.startswith("| `"):
            break
        name, steps, rows, *numbers = [cell.strip() for cell in line.strip("|").split("|")]
        every, _, trained = rows.strip(")").partition(" (")
        yield name.strip("`"), (int(steps), int(every), int(trained or 0), *map(float, numbers))


COSTS = dict(costs_in_the_pages())
UNEVEN = ("sdi", "ism", "vsd", "piva")
"""Their steps do not all cost the same: an inversion is shorter at low timesteps, adapters are now and then tested."""


@pytest.fixture(scope="module")
def embedded_model():
    from piva_bench.diffusion.load import load_denoiser
    from piva_bench.profiles import EMBEDDED_MODEL, resolve_model

    return load_denoiser(resolve_model(EMBEDDED_MODEL))


def embedded(name, **changes):
    (variant,) = resolve_variants([name], {}, PROFILES["embedded"])
    params = variant.params.model_copy(update=changes)
    # Under the name that was asked for: a canonical twin costs the same.
    return dataclasses.replace(variant, params=params)


def test_the_table_of_costs_has_every_rule():
    assert set(COSTS) == {name for name in METHODS.names() if METHODS.load(name).card.kind == "distillation"}
    for name, (steps, *_) in COSTS.items():
        assert embedded(name).params.steps == steps


@pytest.mark.parametrize("name", [name for name in COSTS if name not in UNEVEN])
def test_the_table_of_costs_is_what_the_command_counts(name, embedded_model):
    steps, *rest = COSTS[name]
    one, two = (edit_cost(embedded(name, steps=count), embedded_model) for count in (1, 2))

    def whole(attribute):
        first, second = getattr(one, attribute), getattr(two, attribute)
        return first + (steps - 1) * (second - first)

    assert rest[:2] == [whole("rows"), whole("training_rows")]
    flops = [whole(attribute) / 1e9 for attribute in ("forward_flops", "backward_flops")]
    assert rest[2:4] == pytest.approx(flops, rel=0.01, abs=0.1)
    assert rest[4] == pytest.approx(two.peak_bytes / 1e6, rel=0.03)


@pytest.mark.parametrize("name", UNEVEN)
def test_the_table_of_costs_has_the_rows_of_uneven_rules(name, denoiser):
    (made,) = embedded(name).method().edit(make_tasks(1), denoiser, 0)
    assert made.reason is None
    _, rows, trained, forward, backward, _ = COSTS[name]
    assert (rows, trained) == (made.unet_evaluations, made.training_evaluations)
    # A row of the embedded model is 0.77 GFLOP, and an adapter little on top.
    assert 0.76 < forward / rows < 0.85
    assert (0.6 < backward / trained < 0.9) if trained else backward == 0


def test_the_citation_names_this_version():
    from piva_bench import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
    assert {"message", "title", "authors", "cff-version"} <= citation.keys()
