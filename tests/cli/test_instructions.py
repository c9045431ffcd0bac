"""Editing by an instruction, from the command line: the model beside the run's, its key, its section, its absence."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from piva_bench import paths
from piva_bench.cli.app import EXIT_USER_ERROR
from tests.tiny_sd import make_tiny_ip2p


@pytest.fixture
def model(bench, tmp_path, monkeypatch):
    """A tiny InstructPix2Pix in the place of the embedded one, and of the published one."""
    folder = make_tiny_ip2p(bench / "model", tmp_path / "models" / "instruct-pix2pix")
    monkeypatch.setattr(paths, "studio_ip2p_dir", lambda: folder)
    monkeypatch.setenv("PIVA_BENCH_MODELS", str(tmp_path / "models"))
    return folder


def stored(run):
    return [json.loads(path.read_text()) for path in (run / "records").glob("*.json")]


def test_a_run_ranks_it_apart_and_its_model_is_part_of_the_key(cli, model, tmp_path):
    line = ("run", "-m", "instruct_pix2pix,sdedit", "--param", "steps=2", "-n", "2", "-o", "out")
    code, out, err = cli(*line)
    assert code == 0, err
    assert "Supervised methods" in out
    first = {
        record["key"]: record for record in stored(tmp_path / "out") if record["method"] == "instruct_pix2pix"
    }
    assert len(first) == 2
    assert all(record["unet_evaluations"] == 6 for record in first.values())
    assert "0 computed, 4 already stored" in cli(*line)[2]
    # Another model, another edit: what was stored of the other method stays.
    config = model / "unet" / "config.json"
    config.write_text(config.read_text() + " ")
    assert "2 computed, 2 already stored" in cli(*line)[2]
    marks = {
        record["params"]["instruct-pix2pix"]
        for record in stored(tmp_path / "out")
        if record["method"] == "instruct_pix2pix"
    }
    assert len(marks) == 2


def test_a_group_without_its_model_goes_on_and_says_what_makes_one(cli, model, tmp_path):
    shutil.rmtree(model)
    code, _, err = cli("run", "-m", "sampling", "--dry-run")
    assert code == 0, err
    code, _, err = cli("run", "-m", "instruct_pix2pix")
    assert code == EXIT_USER_ERROR
    assert "`piva-bench studio train ip2p" in err
    assert len(err.strip().splitlines()) == 1


def test_one_picture_is_edited_by_an_instruction(cli, bench, model, tmp_path):
    Image.fromarray(np.full((40, 32, 3), 120, np.uint8)).save(tmp_path / "cup.png")
    line = ("edit", "cup.png", "a cup", "a blue cup", "-m", "instruct_pix2pix", "--model", bench / "model")
    code, _, err = cli(*line, "--param", "steps=2", "--instruction", "make the cup blue")
    assert code == 0, err
    assert (tmp_path / "cup-instruct_pix2pix.png").is_file()
    code, _, err = cli(*line, "--param", "steps=2")
    assert code == EXIT_USER_ERROR
    assert "--instruction" in err


def test_lists_say_that_it_is_supervised(cli):
    listing = json.loads(cli("list", "methods", "--json")[1])["methods"]
    assert {row["name"] for row in listing if row["supervised"]} == {"instruct_pix2pix", "instruct_nerf2nerf"}
