"""The reference rows that `run` adds by itself, on the miniature of tests/harness.py."""

import shutil
from dataclasses import replace

import pytest

from methods.vae_roundtrip import VaeRoundtrip
from piva_bench.cli.run import EXIT_FAILED_SAMPLES
from piva_bench.data.files import FolderFiles
from piva_bench.data.sample import Sample, UnreadableSample
from piva_bench.method import EditOutcome
from piva_bench.profiles import get_profile
from piva_bench.runs.references import ROWS, fitting, reference_rows
from piva_bench.runs.request import RunRequest, prepare
from piva_bench.runs.variants import resolve_variants
from tests.harness import records


@pytest.fixture
def with_rows(cli, monkeypatch):
    """The command line as a user has it, where nothing turns the rows off."""
    monkeypatch.delenv("PIVA_BENCH_NO_REFERENCE")
    return cli


def methods_in(folder):
    return {method for method, _ in records(folder)}


def test_one_method_alone_gets_its_context_once(with_rows, tmp_path):
    code, out, err = with_rows("run", "-m", "dds", "-n", "3", "-o", "out")
    assert code == 0, err
    assert methods_in(tmp_path / "out") == {"dds", *ROWS}
    lines = [
        line.split()[0] for line in out.splitlines() if line.split() and line.split()[0] in ("dds", *ROWS)
    ]
    assert lines == ["dds", "counterfactual", "identity", "vae_roundtrip"]
    assert "Reference rows" in out
    assert "3 edits (and the reference rows identity, vae_roundtrip, counterfactual): 3 computed" in err
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "records").iterdir()}
    assert ": 0 computed, 3 already stored" in with_rows("run", "-m", "dds", "-n", "3", "-o", "out")[2]
    # What was a reference row is an edit like any other where it is asked for, and is not made again.
    asked = with_rows("run", "-m", "dds,identity", "-n", "3", "-o", "out")[2]
    assert "6 edits (and the reference rows vae_roundtrip, counterfactual): 0 computed, 6 already" in asked
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "records").iterdir()} == made


def test_the_plan_says_so_and_the_rows_can_be_left_out(with_rows, tmp_path):
    code, out, _ = with_rows("run", "-m", "dds", "-n", "2", "-o", "out", "--dry-run")
    assert code == 0
    for row in ROWS:
        assert f"  {row}: reference row, added by itself (--no-reference leaves it out)" in out
    assert "8 edits: 0 stored, 8 to compute" in out
    assert with_rows("run", "-m", "dds", "-n", "2", "-o", "out", "--no-reference")[0] == 0
    assert methods_in(tmp_path / "out") == {"dds"}


def test_a_share_has_the_rows_of_its_samples_and_a_blend_leaves_them_alone(with_rows, tmp_path):
    code, _, err = with_rows("run", "-m", "dds", "--mask-blend", "steps", "--shard", "1/3", "-o", "out")
    assert code == 0, err
    stored = records(tmp_path / "out" / "shards" / "1-of-3")
    samples = {sample for _, sample in stored}
    assert len(samples) == 2
    assert {(m, s) for m in ("dds", *ROWS) for s in samples} == set(stored)
    assert {record["mask"] for (method, _), record in stored.items() if method == "dds"} == {"steps"}
    assert {record["mask"] for (method, _), record in stored.items() if method != "dds"} == {None}


def test_where_a_dataset_has_no_counterfactual_there_is_no_such_row(with_rows, bench, tmp_path):
    shutil.copytree(bench / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "counterfactual_images")
    card = tmp_path / "data" / "dataset.yaml"
    card.write_text(card.read_text().replace("has_reference: true", "has_reference: false"))
    code, _, err = with_rows("run", "-m", "dds", "-n", "2", "-o", "out", "--data-root", "data")
    assert code == 0, err
    assert methods_in(tmp_path / "out") == {"dds", "identity", "vae_roundtrip"}


def test_what_becomes_of_a_reference_row_is_nobody_s_failure(with_rows, bench, monkeypatch):
    def fail(self, batch, denoiser, seed, on_step=None):
        return [EditOutcome(task.sample_id, None, reason="no such luck") for task in batch]

    monkeypatch.setattr(VaeRoundtrip, "edit", fail)
    code, _, err = with_rows("run", "-m", "dds", "-n", "3", "-o", "out")
    assert code == 0, err
    assert "the reference row vae_roundtrip lacks 3 samples: s0: no such luck" in err
    assert "3 computed, 0 already stored, 0 failed" in err
    # Nor do rows that are well make a failure smaller: one of three, not one of twelve.
    fails = f"{bench / 'odd.py'}:FailsOne"
    code, _, err = with_rows("run", "-m", fails, "-n", "3", "-o", "other", "--fail-above", "0.3")
    assert code == EXIT_FAILED_SAMPLES
    assert "3 computed, 0 already stored, 1 failed" in err


def test_rows_are_made_of_readable_samples_and_the_true_edit_where_it_is_known(tmp_path):
    known = Sample("known", tmp_path / "a.png", "a", "b", "", "x", reference_path=tmp_path / "b.png")
    unknown = replace(known, id="unknown", reference_path=None)
    torn = UnreadableSample.of("torn", "its entry is torn", FolderFiles(tmp_path))
    profile = get_profile("embedded")
    rows = resolve_variants(ROWS, {}, profile)
    found = {row.name: [s.id for s in fitting(row, [known, unknown, torn])] for row in rows}
    assert found == {
        "identity": ["known", "unknown"], "vae_roundtrip": ["known", "unknown"], "counterfactual": ["known"]
    }  # fmt: skip
    (asked,) = resolve_variants(["identity"], {}, profile)
    assert [row.name for row in reference_rows([asked], [unknown], {"steps": 3}, profile, "pictures")] == [
        "vae_roundtrip"
    ]
    assert reference_rows([], [torn], {}, profile, "pictures") == []


def test_scenes_have_no_round_trip_and_the_rows_take_the_parameters_that_they_have():
    asked = {"methods": ("dds",), "dataset": "objaverse", "limit": 1, "references": True}
    prepared = prepare(RunRequest(**asked, params={"fit_steps": 5, "steps": 2}))
    assert [row.name for row in prepared.references] == ["identity", "counterfactual"]
    assert {row.params_dict()["fit_steps"] for row in (*prepared.variants, *prepared.references)} == {5}
    assert len(prepared.units) == 3
