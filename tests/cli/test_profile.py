"""`piva-bench profile`: FLOPs against products counted by hand, and seconds that add up."""

import csv
from pathlib import Path

import pytest
import torch

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.diffusion.load import load_denoiser
from piva_bench.profiles import PROFILES
from piva_bench.runs.profile import MODEL, _sections, matrix_speed, random_tasks


def flops_of_a_row(unet, side):
    """Multiplications and additions of one row, from the shapes that its layers see."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        if isinstance(module, torch.nn.Conv2d):
            total += 2 * output.numel() * module.weight[0].numel()
        elif isinstance(module, torch.nn.Linear):
            total += 2 * output.numel() * module.in_features

    handles = [module.register_forward_hook(count) for module in unet.modules()]
    unet(torch.zeros(1, 4, side, side), torch.tensor([1]), encoder_hidden_states=torch.zeros(1, 77, 24))
    for handle in handles:
        handle.remove()
    return total


def test_the_table_of_a_profile(cli, bench, tmp_path):
    code, out, err = cli(
        "profile", "-m", "dds,piva,identity", "--batch-sizes", "2,1", "--steps", "2", "-o", "p"
    )
    assert code == 0, err
    with (tmp_path / "p" / "profile.csv").open() as file:
        rows = {(row["method"], row["batch_size"]): row for row in csv.DictReader(file)}
    assert list(rows) == [("dds", "1"), ("dds", "2"), ("piva", "1"), ("piva", "2")]
    assert (tmp_path / "p" / "profile.md").read_text().strip() == out.strip()
    dds, piva = (
        {k: float(v) for k, v in rows[name, "2"].items() if k != "method" and v} for name in ("dds", "piva")
    )
    assert (dds["unet_rows"], dds["training_rows"]) == (4, 0)
    assert (piva["unet_rows"], piva["training_rows"]) == (8, 2)
    for row in (dds, piva):
        parts = [row[name] for name in ("model_ms", "adapters_ms", "harness_ms")]
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(row["ms"])
        assert row["floor_ms"] > 0
    assert dds["adapters_ms"] == dds["backward_gflops"] == 0
    assert piva["adapters_ms"] > 0
    # Attention's products are the rest.
    unet = load_denoiser(bench / "model").unet
    by_hand = 4 * flops_of_a_row(unet, 8) / 1e9
    assert by_hand < dds["forward_gflops"] < 1.2 * by_hand
    # The backward pass through frozen layers costs about as much as the forward pass of the two rows it goes through.
    assert 2 < piva["forward_gflops"] / (dds["forward_gflops"] / 4) < 9
    assert 0.7 < piva["backward_gflops"] / (2 * dds["forward_gflops"] / 4) < 1.3


def test_the_table_of_whole_edits(cli, bench, tmp_path):
    def counted(method, steps):
        code, out, err = cli(
            "profile",
            "--count",
            "-m",
            method,
            "--param",
            f"steps={steps}",
            "--param",
            "dds.guidance_scale=3",
            "-o",
            "p",
        )
        assert code == 0, err
        with (tmp_path / "p" / "costs.csv").open() as file:
            rows = {
                row.pop("method"): {k: float(v or 0) for k, v in row.items()} for row in csv.DictReader(file)
            }
        assert (tmp_path / "p" / "costs.md").read_text().strip() == out.strip()
        return rows

    few, more = (counted("dds,piva,ids,identity", steps) for steps in (1, 3))
    assert list(few) == ["dds", "piva", "ids", "identity"]
    assert {name: (row["unet_rows"], row["training_rows"]) for name, row in more.items()} == {
        "dds": (12, 0), "piva": (24, 6), "ids": (30, 18), "identity": (0, 0),
    }  # fmt: skip
    # What a step adds is its rows; attention's products are the rest.
    by_hand = flops_of_a_row(load_denoiser(bench / "model").unet, 8) / 1e9
    for name, rows in (("dds", 4), ("ids", 10)):
        step = (more[name]["forward_gflops"] - few[name]["forward_gflops"]) / 2
        assert rows * by_hand < step < 1.2 * rows * by_hand
    # A backward pass through frozen layers costs about as much as the forward pass of its rows; attention's twice.
    forward = (more["dds"]["forward_gflops"] - few["dds"]["forward_gflops"]) / 2 / 4
    backward = (more["ids"]["backward_gflops"] - few["ids"]["backward_gflops"]) / 2 / 6
    assert 0.7 < backward / forward < 1.5
    assert more["dds"]["backward_gflops"] == 0 < more["piva"]["backward_gflops"]
    assert 0 < more["dds"]["peak_memory_mb"] < more["ids"]["peak_memory_mb"]
    # The same when it is asked for last, though the prompts have been encoded by then.
    assert counted("ids,dds", 1)["dds"] == few["dds"]


def test_groups_are_counted_and_what_cannot_edit_is_named(cli):
    code, out, err = cli("profile", "--count", "-m", "reference", "-o", "p")
    assert code == 0, err
    assert "`vae_roundtrip`" in out
    assert "left out: counterfactual" in err


def test_a_scenes_profile_counts_rendering_and_encoding_too(cli, bench, tiny_profile, tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_FIELDS", str(tmp_path / "fields"))
    given = ("--batch-sizes", "1", "--steps", "1", "-o", "p", "--model", bench / "model")
    stored = ("--data-root", Path(__file__).parents[2] / "datasets" / "objaverse" / "studio")
    monkeypatch.setitem(PROFILES, "embedded", tiny_profile.model_copy(update={"resolution": 64}))
    sizes = (*stored, "--param", "fit_resolution=16", "--param", "views=1", "--param", "view_size=32")
    code, out, err = cli("profile", "-m", "dds", "-d", "objaverse", *given, *sizes)
    assert code == 0, err
    with (tmp_path / "p" / "profile.csv").open() as file:
        (row,) = csv.DictReader(file)
    values = {name: float(value) for name, value in row.items() if value and name != "method"}
    parts = [values[f"{name}_ms"] for name in ("model", "render", "encoder", "harness", "adapters")]
    assert sum(parts) == pytest.approx(values["ms"])
    assert min(parts[:3]) > 0 == parts[4]
    # Of one view: four UNet rows, and the encoder twice forward (edit and source) and once backward.
    assert values["unet_rows"] == 4
    unet = 4 * flops_of_a_row(load_denoiser(bench / "model").unet, 8) / 1e9
    assert values["forward_gflops"] > unet
    assert values["backward_gflops"] > 0
    assert all(values[f"{name}_peak_mb"] > 50 for name in ("model", "render", "encoder"))
    assert "adapters_peak_mb" not in values
    assert "| render | encoder |" in out
    assert not (tmp_path / "fields").exists()  # nothing is fitted to be measured
    assert "has 32 samples" in cli("profile", "-d", "objaverse", *stored, "--batch-sizes", "99")[2]


def test_time_in_the_model_is_counted_once(denoiser):
    noisy, t = torch.zeros(1, 4, 8, 8), torch.tensor([3])
    before = denoiser.section
    with _sections(denoiser) as spent:
        denoiser.predict_noise(noisy, t, denoiser.condition([""]))
        assert spent[MODEL] > 0
    assert denoiser.section is before
    assert len(random_tasks(denoiser, 3)) == 3
    assert matrix_speed(torch.device("cpu"), torch.float32) > 1e8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "0"], "whole numbers from 1"),
        (["--batch-sizes", "many"], "whole numbers from 1"),
        (["--shape", "sd-1.4"], "Did you mean sd-1.5"),
        (["-m", "identity", "--batch-sizes", "1"], "None of these methods has steps"),
    ],
)
def test_mistakes_are_one_line(cli, arguments, message):
    code, _, err = cli("profile", *arguments)
    assert code == EXIT_USER_ERROR
    assert message in err.splitlines()[-1]
